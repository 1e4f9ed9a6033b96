//! The line, shared fairly: one token bucket over a tree of global → masters or others → class → swarm → peer.
//!
//! Pure, in virtual time. One [`Tree`] for each direction. What it promises (property tests below):
//!
//! - any window of 1 s carries at most the rate + 16 KiB;
//! - any window of 10 s carries at least 99 % of the rate while there is demand, if [`Tree::advance`] is called at
//!   the moments it names, or late by less than 5 ms + the time 16 KiB take;
//! - siblings with demand share by weight; what one cannot use goes to the others at once;
//! - unlimited costs nothing: no look-up, no state.
//!
//! How to drive it. Ask with [`Tree::request`] for all that could be written (or read) right now, not block by block:
//! demand that is not registered cannot be given its share. The answer is what may go at once; the rest waits, and
//! [`Tree::advance`], called by one timer, hands it out. Return with [`Tree::refund`] what was not used, and let
//! [`Tree::spend`] know of bytes that did not wait for a grant (control messages).
//!
//! Source: start-time fair queueing (Goyal, Vin, Cheng 1996), one queue for each inner node.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::io::{ConnId, SwarmId};
use crate::time::Timestamp;

/// Bytes that a window of 1 s may carry over the rate, and the longest turn of one leaf.
const BURST: u32 = 16_384;
/// The bucket fills at 199/200 of the rate and is deeper by the 200th it lacks: a timer that is late by some
/// milliseconds loses nothing, and the sum over any second still is the rate + [`BURST`].
const RESERVE: u64 = 200;
/// A grant is worth waking a task for when it is a 32nd of a second's bytes (or a whole [`BURST`]).
const GRANTS_PER_SECOND: u64 = 32;
/// The finest timer that is worth setting.
const TICK: Duration = Duration::from_millis(1);
/// Weight of a swarm among the swarms of its class, of a peer among the peers of its swarm; and the sum of the weights of
/// masters and others, and of guests and the swarm.
const WEIGHT: u32 = 100_000;
/// Tokens are counted in millionths of a byte, so that bytes/s times microseconds need no rounding.
const MICRO: i128 = 1_000_000;

/// The sides of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Masters: guaranteed `master_share` of the line while all sides have demand.
    Masters,
    /// Friends' masters, or their slaves that relay: guaranteed `guest_share` of what the masters leave.
    Guests,
    /// Everybody else.
    Swarm,
}

/// The line is split first between masters and all others, so that what guests leave stays with the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Masters,
    Others,
}

/// The answer to [`Tree::request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    /// Bytes that may go now; 0 when all of it waits. What is missing to the bytes asked for is queued.
    pub bytes: u32,
    /// Somebody waits now where nobody did: call [`Tree::advance`] at this moment.
    pub arm: Option<Timestamp>,
}

/// What a child is in its parent's queue.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Start tag: virtual time at which its next byte is due.
    tag: u128,
    /// 1 to [`WEIGHT`].
    weight: u32,
}

/// The children of one node that have demand, by start tag.
#[derive(Debug)]
struct Fair<K> {
    queue: BTreeSet<(u128, K)>,
    now: u128,
}

#[derive(Debug)]
struct ClassNode {
    share: Share,
    swarms: Fair<SwarmId>,
}

#[derive(Debug)]
struct SwarmNode {
    share: Share,
    peers: Fair<ConnId>,
    leaves: u32,
}

#[derive(Debug)]
struct Leaf {
    class: Class,
    swarm: SwarmId,
    share: Share,
    want: u32,
    /// Bytes granted in the running `advance`.
    granted: u32,
}

/// One direction of the line. See the module for what it promises.
#[derive(Debug)]
pub struct Tree {
    rate: Option<u64>,
    /// In millionths of a byte; below zero after [`Tree::spend`].
    tokens: i128,
    filled: Timestamp,
    root: Fair<Side>,
    /// Guests and the swarm, and their share of the line together.
    others: Fair<Class>,
    others_share: Share,
    classes: [ClassNode; 3],
    /// `master_share` and `guest_share`.
    shares: (f64, f64),
    swarms: BTreeMap<(Class, SwarmId), SwarmNode>,
    leaves: BTreeMap<ConnId, Leaf>,
}

impl Share {
    fn new(weight: u32) -> Self {
        Self {
            tag: 0,
            weight: weight.max(1),
        }
    }
}

impl<K: Copy + Ord> Fair<K> {
    fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            now: 0,
        }
    }

    fn first(&self) -> Option<K> {
        self.queue.first().map(|&(_, key)| key)
    }

    /// It has demand now. Time it had none earns it nothing.
    fn enter(&mut self, key: K, share: &mut Share) {
        share.tag = share.tag.max(self.now);
        self.queue.insert((share.tag, key));
    }

    /// It has demand no longer.
    fn leave(&mut self, key: K, share: &Share) {
        self.queue.remove(&(share.tag, key));
    }

    /// It was given `bytes`; `stays` if it has demand still.
    fn charge(&mut self, key: K, share: &mut Share, bytes: u32, stays: bool) {
        self.leave(key, share);
        let start = share.tag.max(self.now);
        // Virtual time is the start tag of what is served in order; a message out of order must not push it on.
        self.now = self
            .queue
            .first()
            .map_or(start, |&(tag, _)| tag.min(start))
            .max(self.now);
        share.tag = start;
        // WEIGHT² keeps five digits for the heaviest weight.
        share.tag +=
            u128::from(bytes) * u128::from(WEIGHT) * u128::from(WEIGHT) / u128::from(share.weight);
        if stays {
            self.queue.insert((share.tag, key));
        }
    }
}

impl Class {
    const fn at(self) -> usize {
        match self {
            Self::Masters => 0,
            Self::Guests => 1,
            Self::Swarm => 2,
        }
    }
}

impl Tree {
    /// An empty tree. `rate` in bytes/s, `None` = unlimited; `master_share` as in [`Tree::set_master_share`]; guests have
    /// nothing guaranteed.
    #[must_use]
    pub fn new(rate: Option<u64>, master_share: f64) -> Self {
        let node = || ClassNode {
            share: Share::new(WEIGHT),
            swarms: Fair::new(),
        };
        let mut tree = Self {
            rate,
            tokens: 0,
            filled: Timestamp::ZERO,
            root: Fair::new(),
            others: Fair::new(),
            others_share: Share::new(WEIGHT),
            classes: [node(), node(), node()],
            shares: (master_share, 0.0),
            swarms: BTreeMap::new(),
            leaves: BTreeMap::new(),
        };
        tree.set_master_share(master_share);
        tree
    }

    /// Whether nothing is metered: then [`Tree::request`] grants everything, and a shell may skip the call.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.rate.is_none()
    }

    /// A new rate, bytes/s; `None` = unlimited. Call [`Tree::advance`] right after: those who wait may be served.
    pub fn set_rate(&mut self, now: Timestamp, rate: Option<u64>) {
        self.fill(now);
        if self.rate.is_none() {
            (self.tokens, self.filled) = (0, now);
        }
        self.rate = rate;
        self.tokens = self.tokens.min(self.depth());
    }

    /// The masters' share of the line while all sides have demand, 0 to 1. Each side keeps a little.
    pub fn set_master_share(&mut self, share: f64) {
        self.shares.0 = share;
        self.weigh();
    }

    /// The guests' share of what the masters leave, 0 to 1.
    pub fn set_guest_share(&mut self, share: f64) {
        self.shares.1 = share;
        self.weigh();
    }

    fn weigh(&mut self) {
        let part = |share: f64| (share * f64::from(WEIGHT)).round() as u32;
        let masters = part(self.shares.0).clamp(1, WEIGHT - 1);
        let guests = part(self.shares.1).clamp(1, WEIGHT - 1);
        self.others_share.weight = WEIGHT - masters;
        for (class, weight) in [
            (Class::Masters, masters),
            (Class::Guests, guests),
            (Class::Swarm, WEIGHT - guests),
        ] {
            self.classes[class.at()].share.weight = weight;
        }
    }

    /// A new connection. Inserting one that is there already moves it to that class and swarm.
    pub fn insert(&mut self, peer: ConnId, class: Class, swarm: SwarmId) {
        let want = self.leaves.get(&peer).map_or(0, |leaf| leaf.want);
        self.remove(peer);
        let node = self
            .swarms
            .entry((class, swarm))
            .or_insert_with(|| SwarmNode {
                share: Share::new(WEIGHT),
                peers: Fair::new(),
                leaves: 0,
            });
        node.leaves += 1;
        self.leaves.insert(
            peer,
            Leaf {
                class,
                swarm,
                share: Share::new(WEIGHT),
                want: 0,
                granted: 0,
            },
        );
        self.set_want(peer, want);
    }

    /// The connection is gone, and what it waited for with it. Unknown ones are ignored.
    pub fn remove(&mut self, peer: ConnId) {
        self.set_want(peer, 0);
        let Some(leaf) = self.leaves.remove(&peer) else {
            return;
        };
        let Some(node) = self.swarms.get_mut(&(leaf.class, leaf.swarm)) else {
            return;
        };
        node.leaves -= 1;
        if node.leaves == 0 {
            self.swarms.remove(&(leaf.class, leaf.swarm));
        }
    }

    /// `peer` could use `bytes` now. What is not granted at once waits; asking again replaces what waits, and 0 takes
    /// it back. A peer that was not inserted gets everything when unlimited and nothing otherwise.
    pub fn request(&mut self, now: Timestamp, peer: ConnId, bytes: u32) -> Grant {
        if self.rate.is_none() {
            return Grant { bytes, arm: None };
        }
        if !self.leaves.contains_key(&peer) {
            return Grant {
                bytes: 0,
                arm: None,
            };
        }
        self.fill(now);
        let mut granted = 0;
        let others_wait = self.root.first().is_some();
        if !others_wait && available(self.tokens) >= bytes.min(self.worthwhile()) {
            granted = bytes.min(available(self.tokens));
            self.charge(peer, granted);
        }
        self.set_want(peer, bytes - granted);
        let arm = if others_wait {
            None
        } else {
            self.next_wake(now)
        };
        Grant {
            bytes: granted,
            arm,
        }
    }

    /// `bytes` that were granted will not be used after all.
    pub fn refund(&mut self, bytes: u32) {
        if self.rate.is_some() {
            self.tokens = (self.tokens + i128::from(bytes) * MICRO).min(self.depth());
        }
    }

    /// `peer` used `bytes` without asking (a control message): later grants shrink by it, for at most about a second.
    pub fn spend(&mut self, now: Timestamp, peer: ConnId, bytes: u32) {
        let Some(rate) = self.rate else { return };
        self.fill(now);
        self.charge(peer, bytes);
        self.tokens = self.tokens.max(-(i128::from(rate) * MICRO) - self.depth());
    }

    /// Hands out what has become free by `now`: each peer at most once, bytes it may use at once, appended to
    /// `grants`. Returns the moment to call it next, `None` when nobody waits.
    pub fn advance(
        &mut self,
        now: Timestamp,
        grants: &mut Vec<(ConnId, u32)>,
    ) -> Option<Timestamp> {
        self.fill(now);
        let first_grant = grants.len();
        let mut worthwhile = self.worthwhile();
        while let Some(peer) = self.first() {
            let Some(leaf) = self.leaves.get_mut(&peer) else {
                break;
            };
            let bytes = if self.rate.is_none() {
                leaf.want
            } else {
                let free = available(self.tokens);
                if free == 0 || free < leaf.want.min(worthwhile) {
                    break;
                }
                leaf.want.min(BURST).min(free)
            };
            worthwhile = 1;
            if leaf.granted == 0 {
                grants.push((peer, 0));
            }
            leaf.granted += bytes;
            leaf.want -= bytes;
            self.charge(peer, bytes);
        }
        for (peer, bytes) in &mut grants[first_grant..] {
            *bytes = self
                .leaves
                .get_mut(peer)
                .map_or(0, |leaf| core::mem::take(&mut leaf.granted));
        }
        self.next_wake(now)
    }

    /// When [`Tree::advance`] has something to hand out, at least a millisecond from now; `None` when nobody waits.
    #[must_use]
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let want = self.first().and_then(|peer| self.leaves.get(&peer))?.want;
        let fill = self.fill_rate().max(1);
        let need = i128::from(want.min(self.worthwhile())) * MICRO - self.tokens;
        let wait = u64::try_from(need.max(0).div_euclid(fill) + 1).unwrap_or(u64::MAX);
        Some((self.filled + Duration::from_micros(wait)).max(now + TICK))
    }

    fn first(&self) -> Option<ConnId> {
        let class = match self.root.first()? {
            Side::Masters => Class::Masters,
            Side::Others => self.others.first()?,
        };
        let swarm = self.classes[class.at()].swarms.first()?;
        self.swarms.get(&(class, swarm))?.peers.first()
    }

    /// Registers the demand of a leaf, up to the root.
    fn set_want(&mut self, peer: ConnId, want: u32) {
        let Some(leaf) = self.leaves.get_mut(&peer) else {
            return;
        };
        let had = core::mem::replace(&mut leaf.want, want);
        let Some(swarm) = self.swarms.get_mut(&(leaf.class, leaf.swarm)) else {
            return;
        };
        let class = &mut self.classes[leaf.class.at()];
        if had == 0 && want > 0 {
            let alone = swarm.peers.first().is_none();
            swarm.peers.enter(peer, &mut leaf.share);
            if alone {
                let first = class.swarms.first().is_none();
                class.swarms.enter(leaf.swarm, &mut swarm.share);
                let named = leaf.class;
                if first {
                    self.enter(named);
                }
            }
        } else if had > 0 && want == 0 {
            swarm.peers.leave(peer, &leaf.share);
            if swarm.peers.first().is_none() {
                class.swarms.leave(leaf.swarm, &swarm.share);
                if class.swarms.first().is_none() {
                    let named = leaf.class;
                    self.leave(named);
                }
            }
        }
    }

    /// A class has demand now.
    fn enter(&mut self, class: Class) {
        let share = &mut self.classes[class.at()].share;
        if class == Class::Masters {
            return self.root.enter(Side::Masters, share);
        }
        if self.others.first().is_none() {
            self.root.enter(Side::Others, &mut self.others_share);
        }
        self.others.enter(class, share);
    }

    /// It has demand no longer.
    fn leave(&mut self, class: Class) {
        let share = &self.classes[class.at()].share;
        if class == Class::Masters {
            return self.root.leave(Side::Masters, share);
        }
        self.others.leave(class, share);
        if self.others.first().is_none() {
            self.root.leave(Side::Others, &self.others_share);
        }
    }

    /// Takes `bytes` from the bucket and charges them to the leaf and those above it.
    fn charge(&mut self, peer: ConnId, bytes: u32) {
        if self.rate.is_some() {
            self.tokens -= i128::from(bytes) * MICRO;
        }
        let Some(leaf) = self.leaves.get_mut(&peer) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&(leaf.class, leaf.swarm)) else {
            return;
        };
        let class = &mut self.classes[leaf.class.at()];
        swarm
            .peers
            .charge(peer, &mut leaf.share, bytes, leaf.want > 0);
        class.swarms.charge(
            leaf.swarm,
            &mut swarm.share,
            bytes,
            swarm.peers.first().is_some(),
        );
        let stays = class.swarms.first().is_some();
        if leaf.class == Class::Masters {
            let share = &mut class.share;
            return self.root.charge(Side::Masters, share, bytes, stays);
        }
        self.others
            .charge(leaf.class, &mut class.share, bytes, stays);
        let stays = self.others.first().is_some();
        let share = &mut self.others_share;
        self.root.charge(Side::Others, share, bytes, stays);
    }

    fn fill(&mut self, now: Timestamp) {
        let micros = i128::try_from(now.since(self.filled).as_micros()).unwrap_or(0);
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + micros * self.fill_rate()).min(self.depth());
    }

    /// Bytes/s, which is millionths of a byte a microsecond.
    fn fill_rate(&self) -> i128 {
        self.rate
            .map_or(0, |rate| i128::from(rate - rate / RESERVE))
    }

    /// In millionths of a byte.
    fn depth(&self) -> i128 {
        self.rate.map_or(0, |rate| {
            (i128::from(rate / RESERVE) + i128::from(BURST)) * MICRO
        })
    }

    fn worthwhile(&self) -> u32 {
        let share = self.rate.unwrap_or(u64::MAX) / GRANTS_PER_SECOND;
        u32::try_from(share).map_or(BURST, |share| share.clamp(1, BURST))
    }
}

/// Whole bytes in the bucket.
fn available(tokens: i128) -> u32 {
    u32::try_from(tokens.max(0) / MICRO).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
