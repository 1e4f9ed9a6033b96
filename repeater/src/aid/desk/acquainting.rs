//! Acquaintances: slaves met in open mode whose code nobody added. They come and go, and leave nothing behind unless
//! something was given.

use std::time::Duration;

use friends_proto::friend_code::FriendCode;
use friends_proto::identity::PublicKey;
use swarm_core::io::friends::{FriendFact, FriendId};
use swarm_core::policy::tit_for_tat::{Nearness, Standing};

use super::Desk;
use crate::aid::count_defence;
use crate::store::SavedFriend;

/// Acquaintances at once, present or gone a moment ago.
const MAX_ACQUAINTANCES: usize = 128;
/// One without a session for so long is forgotten: its helps are over by then, and settled.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// Characters of a code that stand for an acquaintance.
const SHORT_CODE: usize = 12;

impl Desk {
    /// Somebody in open mode proved who it is. None: we meet no more of them.
    pub(super) async fn meet_acquaintance(&mut self, key: PublicKey) -> Option<FriendId> {
        if !self.friends.is_open() {
            return None;
        }
        if self.ledger.is_replaced(&key) {
            count_defence("ReplacedKey");
            return None;
        }
        let known = self.people.values();
        let near = known.filter(|person| person.nearness == Nearness::Acquaintance);
        if near.count() >= MAX_ACQUAINTANCES {
            count_defence("Acquaintances");
            return None;
        }
        self.ledger.acquaint(key);
        let code = FriendCode::new(key, Vec::new()).map(|code| code.to_string());
        let code: String = code.unwrap_or_default().chars().take(SHORT_CODE).collect();
        let passing = SavedFriend {
            name: format!("acquaintance {code}"),
            hints: Vec::new(),
            added_at: 0,
            last_seen: None,
        };
        Some(self.admit(key, passing, Nearness::Acquaintance).await)
    }

    /// Its code was added: from now on it is a friend.
    pub(super) async fn befriend(&mut self, id: FriendId) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        if person.nearness == Nearness::Friend {
            return;
        }
        person.nearness = Nearness::Friend;
        let ((given, received), (delivered, disputed)) =
            (person.books.totals(), person.books.kept());
        let standing = Standing {
            given,
            received,
            delivered,
            disputed,
        };
        let nearness = Nearness::Friend;
        self.fact(id, FriendFact::Known { nearness, standing })
            .await;
    }

    /// Lets go of those that went.
    pub(super) async fn forget_acquaintances(&mut self) {
        let gone: Vec<(FriendId, PublicKey)> = self
            .people
            .iter()
            .filter(|(_, person)| person.nearness == Nearness::Acquaintance)
            .filter(|(_, person)| person.current.is_none() && person.gone.elapsed() >= FORGOTTEN)
            .map(|(id, person)| (*id, person.key))
            .collect();
        for (id, key) in gone {
            self.people.remove(&id);
            self.numbers.remove(&key);
            self.friends.names.write().remove(&id);
            self.ledger.forget_acquaintance(&key);
            self.fact(id, FriendFact::Removed).await;
        }
    }
}
