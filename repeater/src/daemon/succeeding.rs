//! New keys in place of old ones, as the operator makes and takes them (row P20).

use control_api::friends::{Friend, OwnSuccession};
use friends_proto::succession::Succession;

use super::answers::failed;
use super::befriending::bare;
use super::{Shared, unix_now};
use crate::control::Refusal;
use crate::friends::{FollowError, Friends};

impl Shared {
    fn own_row(&self, statement: &Succession) -> OwnSuccession {
        OwnSuccession {
            statement: statement.to_string(),
            code: bare(statement.new_key()),
            waits: *statement.old() == self.friends.identity().public_key(),
        }
    }

    pub(super) async fn own_succession(&self) -> Result<OwnSuccession, Refusal> {
        let statement = self.befriend(Friends::own_succession).await?;
        let statement = statement.map_err(failed)?.ok_or_else(|| {
            let hint = "`slavectl friends rekey --new` makes a new one";
            Refusal::not_found("key", "was never replaced: it is this slave's first", hint)
        })?;
        Ok(self.own_row(&statement))
    }

    pub(super) async fn replace_own_key(&self) -> Result<OwnSuccession, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let statement = self.befriend(Friends::replace_own_key).await?;
        let statement = statement.map_err(failed)?;
        tracing::warn!("a new key was made; it counts from the next start on");
        Ok(self.own_row(&statement))
    }

    pub(super) async fn follow_friend(&self, text: String) -> Result<Friend, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = "statement";
        let statement: Succession =
            text.parse()
                .map_err(|e: friends_proto::succession::SuccessionError| {
                    let hint = "your friend prints it with `slavectl friends rekey`";
                    Refusal::invalid(what, e.to_string(), hint)
                })?;
        let followed = self.befriend(move |friends| friends.follow(&statement));
        followed.await?.map_err(|e| {
            let why = e.to_string();
            match e {
                FollowError::Unknown => {
                    Refusal::not_found(what, why, "`slavectl friends add` adds a friend by its code")
                }
                FollowError::Own => Refusal::invalid(what, why, ""),
                FollowError::Taken(_) => {
                    Refusal::conflict(what, why, "remove that one first: what is signed is kept")
                }
                FollowError::Contradicts => Refusal::conflict(
                    what,
                    why,
                    "ask your friend in another way which is the right one; `slavectl friends remove` ends it with both",
                ),
                FollowError::Store(e) => failed(e),
            }
        })?;
        self.engine.friends_changed().await.map_err(failed)?;
        let (key, now) = (*statement.new_key(), unix_now());
        let row = self.befriend(move |friends| {
            let friend = friends.list().into_iter().find(|(other, _)| *other == key);
            Ok::<_, crate::store::StoreError>(friend.zip(friends.standing(&key, now)?))
        });
        let row = row.await?.map_err(failed)?;
        let ((key, friend), standing) =
            row.ok_or_else(|| Refusal::not_found(what, "the friend was removed since", ""))?;
        Ok(super::befriending::row(&key, friend, &standing))
    }
}
