//! Friends, as the operator sees and changes them.

use std::net::SocketAddr;
use std::str::FromStr as _;

use bt_wire::address::Scope;
use control_api::friends::{AddFriend, Friend, OwnCode};
use control_api::status::FriendsStatus;
use data_encoding::HEXLOWER;
use friends_proto::friend_code::{FriendCode, Hint, MAX_HINTS};
use friends_proto::identity::PublicKey;
use friends_proto::ledger::State;

use super::answers::failed;
use super::{Shared, blocking, unix_now};
use crate::config::FriendsMode;
use crate::control::Refusal;
use crate::friends::{AddError, Friends, Standing};
use crate::store::{SavedFriend, Store, StoreError};

/// Longest name of a friend, in characters.
const MAX_NAME: usize = 64;
/// Characters of a code that stand for a friend without a name.
const SHORT_CODE: usize = 12;
const LIST_HINT: &str = "`slavectl friends` lists them";

/// A code without hints; it cannot have too many.
pub(super) fn bare(key: &PublicKey) -> String {
    FriendCode::new(*key, Vec::new()).map_or_else(|e| e.to_string(), |code| code.to_string())
}

pub(super) fn with_hints(key: &PublicKey, hints: &[String]) -> String {
    let hints: String = hints.iter().map(|hint| format!("@{hint}")).collect();
    bare(key) + &hints
}

pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if !(1..=MAX_NAME).contains(&name.chars().count()) || name.trim() != name {
        return Err("must be 1 to 64 characters, with no space at either end");
    }
    if name.contains(control_api::text::is_unsafe) {
        return Err("holds a character that cannot be shown");
    }
    if name.to_ascii_lowercase().starts_with("bs1") && FriendCode::from_str(name).is_ok() {
        return Err("is a friend code itself");
    }
    Ok(())
}

fn parse(code: &str) -> Result<FriendCode, Refusal> {
    code.parse()
        .map_err(|e: friends_proto::friend_code::FriendCodeError| {
            let shown: String = code.trim().chars().take(SHORT_CODE).collect();
            let hint = "your friend prints it with `slavectl friends code`";
            Refusal::invalid(
                format!("friend code {}…", shown.escape_debug()),
                e.to_string(),
                hint,
            )
        })
}

pub(super) fn saved(code: &FriendCode, name: String, added_at: u64) -> SavedFriend {
    SavedFriend {
        name,
        hints: code.hints().iter().map(ToString::to_string).collect(),
        added_at,
        last_seen: None,
    }
}

pub(super) fn row(key: &PublicKey, friend: SavedFriend, standing: &Standing) -> Friend {
    let state = match standing.state {
        State::Fresh => "fresh",
        State::Restored => "restored",
        State::Synced => "synced",
    };
    Friend {
        code: with_hints(key, &friend.hints),
        name: friend.name,
        online: standing.online,
        state: state.to_owned(),
        owed_to_us_bytes: standing.given,
        owed_by_us_bytes: standing.received,
        given_month_bytes: standing.given_month,
        taken_month_bytes: standing.received_month,
        disputed_bytes: standing.disputed,
        last_seen: friend.last_seen,
        added_at: friend.added_at,
    }
}

/// Opens the list and the ledger, and says what was put aside.
pub(super) async fn open(store: Store) -> anyhow::Result<Friends> {
    let (friends, notes) = blocking(move || Friends::open(store)).await?;
    for note in notes {
        tracing::warn!("{note}");
    }
    Ok(friends)
}

impl Shared {
    /// Does a blocking job of the friends' list or ledger.
    pub(super) async fn befriend<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Friends) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let friends = std::sync::Arc::clone(&self.friends);
        self.tasks
            .spawn_blocking(move || job(&friends))
            .await
            .map_err(failed)
    }

    pub(super) fn own_code(&self) -> Result<OwnCode, Refusal> {
        let key = self.friends.identity().public_key();
        let global = |addr: &SocketAddr| Scope::of(addr.ip()) == Some(Scope::Global);
        let listen = self.engine.listen_addrs();
        let hints = listen.iter().filter(|addr| global(addr));
        let hints = hints.filter_map(|addr| Hint::from_ip(addr.ip(), addr.port()).ok());
        let code = FriendCode::new(key, hints.take(MAX_HINTS).collect()).map_err(failed)?;
        Ok(OwnCode {
            key: HEXLOWER.encode(key.as_bytes()),
            hints: code.hints().iter().map(ToString::to_string).collect(),
            code: code.to_string(),
        })
    }

    /// All friends, by name.
    pub(super) async fn friend_rows(&self) -> Result<Vec<Friend>, Refusal> {
        let now = unix_now();
        let rows = self.befriend(move |friends| {
            let mut rows = Vec::new();
            for (key, friend) in friends.list() {
                if let Some(standing) = friends.standing(&key, now)? {
                    rows.push(row(&key, friend, &standing));
                }
            }
            rows.sort_by(|a, b| a.name.cmp(&b.name));
            Ok::<_, StoreError>(rows)
        });
        rows.await?.map_err(failed)
    }

    pub(super) async fn friends_status(&self) -> Result<FriendsStatus, Refusal> {
        let rows = self.friend_rows().await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let sum = |of: fn(&Friend) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
        Ok(FriendsStatus {
            known: count(rows.len()),
            online: count(rows.iter().filter(|row| row.online).count()),
            owed_to_us_bytes: sum(|row| row.owed_to_us_bytes),
            owed_by_us_bytes: sum(|row| row.owed_by_us_bytes),
        })
    }

    pub(super) async fn add_friend(&self, add: AddFriend) -> Result<Friend, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        if self.known.lock().config.friends.mode == FriendsMode::Off {
            let hint = "write mode = \"known\" there, then `slavectl reload`";
            let why = "the configuration has friends.mode = \"off\"";
            return Err(Refusal::conflict("friend", why, hint));
        }
        let code = parse(&add.code)?;
        let key = *code.key();
        let short = || bare(&key).chars().take(SHORT_CODE).collect();
        let name: String = add.name.unwrap_or_else(short);
        let what = format!("friend {}", name.escape_debug());
        check_name(&name).map_err(|why| {
            Refusal::invalid(what.clone(), format!("the name {why}"), "--name NAME")
        })?;
        let friend = saved(&code, name, unix_now());
        let (new, now) = (friend.clone(), unix_now());
        let added = self.befriend(move |friends| {
            friends.add(key, new)?;
            Ok::<_, AddError>(friends.standing(&key, now)?)
        });
        let standing = added.await?.map_err(|e| {
            let why = e.to_string();
            match e {
                AddError::Own => Refusal::invalid(what.clone(), why, ""),
                AddError::Known(_) => Refusal::conflict(
                    what.clone(),
                    why,
                    "to give it another name or other hints, `slavectl friends remove` it first: what is signed is kept",
                ),
                AddError::NameTaken(_) => Refusal::conflict(what.clone(), why, "choose one with --name"),
                AddError::Replaced => Refusal::conflict(what.clone(), why, LIST_HINT),
                AddError::Full => Refusal::conflict(what.clone(), why, LIST_HINT),
                AddError::Store(e) => failed(e),
            }
        })?;
        self.engine.friends_changed().await.map_err(failed)?;
        let standing = standing
            .ok_or_else(|| failed(anyhow::anyhow!("the friend was removed at the same moment")))?;
        Ok(row(&key, friend, &standing))
    }

    pub(super) async fn remove_friend(&self, name: String) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = format!("friend {}", name.escape_debug());
        let coded = name.parse::<FriendCode>().ok();
        let removed = self.befriend(move |friends| {
            let list = friends.list().into_iter();
            let mut named = list.filter(|(key, friend)| {
                friend.name == name || coded.as_ref().is_some_and(|code| code.key() == key)
            });
            named
                .next()
                .map_or(Ok(false), |(key, _)| friends.remove(&key))
        });
        if removed.await?.map_err(failed)? {
            self.engine.friends_changed().await.map_err(failed)?;
            return Ok(());
        }
        Err(Refusal::not_found(
            what,
            "there is none of this name or code",
            LIST_HINT,
        ))
    }
}
