//! What all decisions share: the moment, the limits, the stock, the line, the outgoing orders.

use crate::ablation::Facts;
use crate::io::friends::{FriendDefence, FriendId, FriendsMode, FriendsNote, FriendsOutput};
use crate::io::{ConnId, Note, Order, Output, SwarmId};
use crate::params::Params;
use crate::peer::Meter;
use crate::policy::feed_cap::FeedUse;
use crate::policy::schedule;
use crate::time::Timestamp;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Permits refused for so long, with no piece come through, are no passing shortage.
const NO_ROOM_FOR: Duration = Duration::from_millis(500);
/// Then what the shell holds counts as all it has room for; for so long, after which the disk is tried again.
const TIGHT_FOR: Duration = Duration::from_secs(10);

/// Randomness from the seed alone (splitmix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// Permits taken, in bytes. Mirrors the shell's count; never ahead of it when pieces come free.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stock {
    pub(crate) used: u64,
    pub(crate) fetching: u64,
    pub(crate) retiring: u64,
    pub(crate) peak: u64,
    /// The longest piece among joined swarms: the slot kept free for moving between tiers.
    pub(crate) longest: u64,
}

/// The shared state of one node.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) now: Timestamp,
    pub(crate) params: Params,
    pub(crate) out: VecDeque<Output>,
    pub(crate) rng: Rng,
    pub(crate) stock: Stock,
    pub(crate) up: Meter,
    pub(crate) down: Meter,
    pub(crate) wasted: u64,
    pub(crate) probed: f64,
    pub(crate) paused: bool,
    /// What the operator's clock shows, in minutes of the week.
    pub(crate) minute: Option<u16>,
    /// The month's quota is used up.
    pub(crate) spent: bool,
    /// Connections that would be leased more if there were room.
    pub(crate) starved: BTreeSet<(SwarmId, ConnId)>,
    /// Room came free, or could be made: starved connections get another look.
    pub(crate) freed: bool,
    /// Bytes that a swarm could not find room for in its own stock.
    pub(crate) room_wanted: u64,
    /// The shell had no permit: nothing new before then.
    pub(crate) no_room_until: Timestamp,
    /// The shell has refused permits since then, and no piece came through meanwhile.
    pub(crate) no_room_since: Option<Timestamp>,
    /// The shell has room for no more than so many bytes, until then: its disk is full, or broken.
    pub(crate) tight: Option<(u64, Timestamp)>,
    /// Guests that left, and the bytes that they were sent.
    pub(crate) gone_guests: Vec<(ConnId, u64)>,
    /// Capped feeds, by URL.
    pub(crate) feeds: BTreeMap<String, FeedUse>,
    pub(crate) slave_key: u64,
    pub(crate) masters_configured: bool,
    /// `friends.mode` is open.
    pub(crate) friends_open: bool,
}

impl Desk {
    pub(crate) fn new(params: Params, seed: u64) -> Self {
        Self {
            now: Timestamp::ZERO,
            friends_open: params.friends.mode == FriendsMode::Open,
            params,
            out: VecDeque::new(),
            rng: Rng::new(seed),
            stock: Stock::default(),
            up: Meter::default(),
            down: Meter::default(),
            wasted: 0,
            probed: 0.0,
            paused: false,
            minute: None,
            spent: false,
            starved: BTreeSet::new(),
            freed: false,
            room_wanted: 0,
            no_room_until: Timestamp::ZERO,
            no_room_since: None,
            tight: None,
            gone_guests: Vec::new(),
            feeds: BTreeMap::new(),
            slave_key: 0,
            masters_configured: false,
        }
    }

    /// Nothing is joined and nobody is let in.
    pub(crate) fn stopped(&self) -> bool {
        self.paused || self.spent
    }

    pub(crate) fn order(&mut self, conn: ConnId, order: Order) {
        self.out.push_back(Output::Order(conn, order));
    }

    pub(crate) fn friends(&mut self, output: FriendsOutput) {
        self.out.push_back(Output::Friends(output));
    }

    pub(crate) fn friends_note(&mut self, note: FriendsNote) {
        self.note(Note::Friends(note));
    }

    /// A defence fired against a friend.
    pub(crate) fn friend_fired(&mut self, friend: FriendId, why: FriendDefence) {
        self.friends_note(FriendsNote::Fired(friend, why));
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push_back(Output::Note(note));
    }

    /// What the cache may hold: one slot stays free for moving where there is a disk tier; less while the shell has no
    /// disk to move things to.
    pub(crate) fn cap(&self) -> u64 {
        let limits = &self.params.limits;
        let cap = if limits.cache_memory < limits.cache {
            limits.cache.saturating_sub(self.stock.longest)
        } else {
            limits.cache
        };
        match self.tight {
            Some((bytes, until)) if self.now < until => cap.min(bytes),
            Some(_) | None => cap,
        }
    }

    /// The shell refused a permit. Where it does so for a while though the cache is not full, what it holds is all it
    /// has room for: things have to go before others come, else a master would wait for ever.
    pub(crate) fn refused_permit(&mut self, permit: u64) {
        let since = *self.no_room_since.get_or_insert(self.now);
        if self.now.since(since) >= NO_ROOM_FOR {
            self.tight = Some((self.stock.used.max(permit), self.now + TIGHT_FOR));
            self.no_room_since = None;
        }
    }

    /// The facts as a policy sees them: as they are, or, of one that is switched off, nothing to decide on.
    pub(crate) fn seen<F: Facts>(&self, facts: F) -> F {
        if self.params.off.contains(&F::POLICY) {
            facts.dull()
        } else {
            facts
        }
    }

    /// A permit of so many bytes can be taken now.
    pub(crate) fn has_room(&self, permit: u64) -> bool {
        self.stock.used + permit <= self.cap()
            && self.stock.fetching + permit
                <= self.params.limits.cache_memory.max(permit).min(self.cap())
            && self.now >= self.no_room_until
    }

    pub(crate) fn take(&mut self, permit: u64) {
        self.stock.used += permit;
        self.stock.fetching += permit;
        self.stock.peak = self.stock.peak.max(self.stock.used);
    }

    /// The rates in force, up and down, bytes/s.
    pub(crate) fn rates(&self) -> (Option<u64>, Option<u64>) {
        let limits = &self.params.limits;
        schedule::rates(
            &limits.schedule,
            self.minute,
            (limits.upload, limits.download),
        )
    }

    /// What the upload line can carry, bytes/s: its limit, or one and a half times the best rate seen, at least
    /// 2 MiB/s, so that an idle or slow start does not lock it in.
    pub(crate) fn capacity(&self) -> f64 {
        self.rates()
            .0
            .map_or(self.probed.max((2u32 << 20).into()), |limit| limit as f64)
    }
}
