//! The operator's word about help with one torrent: ask for it now, or none of it.
//!
//! It is kept by infohash, so that it may come before the swarm is known, and outlives a master that goes away and comes
//! back.

use crate::io::SwarmId;
use crate::io::friends::{FriendDefence, FriendId, FriendsNote, StopReason};
use crate::node::Node;
use crate::node::aid::Aid;
use crate::node::errands::HelpKey;
use crate::view::{NeedView, WishView};

/// What the operator wants for one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Help, of so many bytes more; `None`: until the master has everything.
    Ask(Option<u64>),
    /// No help, in either direction.
    Stop,
}

impl Aid {
    fn wish(&self, info_hash: &[u8; 20]) -> Option<Wish> {
        self.wishes.get(info_hash).copied()
    }

    /// The operator wants no help with this torrent, neither to us nor from us.
    pub(super) fn is_stopped(&self, info_hash: &[u8; 20]) -> bool {
        self.wish(info_hash) == Some(Wish::Stop)
    }

    /// Bytes that the operator asked for, if it did.
    pub(super) fn asked_by_hand(&self, info_hash: &[u8; 20]) -> Option<u64> {
        match self.wish(info_hash)? {
            Wish::Ask(left) => Some(left.unwrap_or(u64::MAX)),
            Wish::Stop => None,
        }
    }
}

impl Node {
    /// Help is asked for at once, of every friend that may help, also of those that declined a moment ago.
    pub(super) fn ask_by_hand(&mut self, info_hash: [u8; 20], bytes: Option<u64>) {
        self.aid.wishes.insert(info_hash, Wish::Ask(bytes));
        let Some(id) = self.swarm_of(&info_hash) else {
            return;
        };
        for friend in self.aid.friends.values_mut() {
            friend.retry.remove(&id);
        }
        self.seek(id);
    }

    /// Ends all help with this torrent; none begins until it is asked for again.
    pub(super) fn stop_by_hand(&mut self, info_hash: [u8; 20]) {
        self.aid.wishes.insert(info_hash, Wish::Stop);
        let id = self.swarm_of(&info_hash);
        let asked = self.aid.asked.iter();
        let asked = asked.filter(|(_, asked)| Some(asked.swarm) == id);
        let asked: Vec<HelpKey> = asked.map(|(key, _)| *key).collect();
        let given = self.aid.helps.iter();
        let given = given.filter(|(_, help)| help.info_hash == info_hash);
        let given: Vec<HelpKey> = given.map(|(key, _)| *key).collect();
        for key in asked {
            self.end_asked(key, Some(StopReason::Done), false);
        }
        for key in given {
            self.end_help(key, Some(StopReason::Leaving));
        }
    }

    /// Back to what happens by itself.
    pub(super) fn forget_wish(&mut self, info_hash: [u8; 20]) {
        self.aid.wishes.remove(&info_hash);
    }

    /// A help that we asked for is over, with so many bytes credited: they count towards what the operator asked for.
    pub(super) fn wish_served(&mut self, id: SwarmId, credited: u64) {
        let Some(info_hash) = self.swarms.get(&id).map(|swarm| swarm.info_hash) else {
            return;
        };
        let Some(Wish::Ask(Some(left))) = self.aid.wishes.get_mut(&info_hash) else {
            return;
        };
        *left = left.saturating_sub(credited);
        if *left == 0 {
            self.wish_done(info_hash);
        }
    }

    /// Of `bytes` that are wanted, what each of `helpers` more is asked for: what those asked before leave, in equal parts.
    pub(super) fn share_of(&self, id: SwarmId, bytes: u64, helpers: usize) -> u64 {
        let here = self.aid.asked.values().filter(|asked| asked.swarm == id);
        let under_way = here.map(|asked| asked.want).fold(0, u64::saturating_add);
        let parts = u64::try_from(helpers.max(1)).unwrap_or(u64::MAX);
        match bytes {
            u64::MAX => u64::MAX,
            bytes => bytes.saturating_sub(under_way).div_ceil(parts),
        }
    }

    fn wish_done(&mut self, info_hash: [u8; 20]) {
        self.aid.wishes.remove(&info_hash);
        self.desk.friends_note(FriendsNote::AskDone(info_hash));
    }

    /// The operator asked, and every master there has everything.
    pub(super) fn close_wishes(&mut self) {
        let done: Vec<[u8; 20]> = self
            .swarms
            .values()
            .filter(|swarm| self.aid.asked_by_hand(&swarm.info_hash).is_some())
            .filter(|swarm| !swarm.master_conns.is_empty() && swarm.masters_full())
            .map(|swarm| swarm.info_hash)
            .collect();
        for info_hash in done {
            self.wish_done(info_hash);
        }
    }

    /// The operator's word meets a private torrent: nothing is said, and it is told so.
    pub(super) fn refuse_private(&mut self, info_hash: [u8; 20]) {
        if self.aid.asked_by_hand(&info_hash).is_none() {
            return;
        }
        self.wish_done(info_hash);
        let friends: Vec<FriendId> = self.aid.friends.keys().copied().collect();
        for friend in friends {
            self.desk.friend_fired(friend, FriendDefence::Private);
        }
    }

    pub(super) fn wish_views(&self) -> Vec<WishView> {
        let wishes = self.aid.wishes.iter();
        let views = wishes.map(|(info_hash, wish)| WishView {
            info_hash: *info_hash,
            stopped: *wish == Wish::Stop,
            left_bytes: match wish {
                Wish::Ask(left) => *left,
                Wish::Stop => None,
            },
        });
        views.collect()
    }

    pub(super) fn need_views(&self) -> Vec<NeedView> {
        let needs = self.aid.needs.iter();
        let views = needs.filter_map(|(id, need)| {
            let swarm = self.swarms.get(id)?;
            let (master, conn) = swarm.needy()?;
            Some(NeedView {
                swarm: *id,
                master,
                missing_bytes: swarm.missing_bytes(conn),
                gains_bps: need.gains(),
                short: self.short_in(*id),
            })
        });
        views.collect()
    }
}
