//! What we ask of them: leases from the brain, the requests that follow, and the blocks that come.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bt_wire::layout::{BLOCK, Layout};
use bt_wire::message::{BlockRef, Message};

use super::pipeline::Pipeline;
use super::{BlockVerdict, Counters, Outbox, Violation};
use crate::io::{ConnFact, Fetch, LeaseEnd};
use crate::time::Timestamp;

/// Without a block for this long while some are asked for, the leases are given up. One number for all peers: at
/// 1 KiB/s a block takes 16 s, and a slower peer holds up more than it gives.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Blocks that were never asked for before the peer is dropped.
const MOST_UNREQUESTED: u32 = 64;
/// Allowed-fast pieces remembered.
const MOST_ALLOWED_FAST: usize = 64;
/// Leases left to request are low below a piece, or what comes in while the brain answers.
const BRAIN_MILLIS: u64 = 50;

/// What became of a block of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not leased to this connection.
    Foreign,
    Wanted,
    Requested,
    Received,
}

/// All that is leased of one piece; several fetches of a piece become one lease.
#[derive(Debug)]
struct Lease {
    /// Block number of `states[0]`.
    first: u32,
    states: Vec<State>,
    /// No block before this place in `states` is wanted.
    cursor: usize,
    wanted: u32,
    requested: u32,
}

/// The fetching half of a session.
#[derive(Debug)]
pub(super) struct Download {
    layout: Option<Layout>,
    fast: bool,
    choked: bool,
    allowed_fast: Vec<u32>,
    leases: BTreeMap<u32, Lease>,
    /// Pieces with wanted blocks, first ordered first; may name some that have none any more.
    order: VecDeque<u32>,
    /// Sums over the leases, in blocks.
    wanted: u32,
    requested: u32,
    /// Requests we gave up, whose blocks may still come.
    forgiven: u32,
    unrequested: u32,
    pipeline: Pipeline,
    /// Since when no block has come although one is asked for.
    waiting: Option<Timestamp>,
    /// `LeaseLow` may be told.
    armed: bool,
}

impl Lease {
    fn state(&mut self, block: u32) -> Option<&mut State> {
        self.states.get_mut(block.checked_sub(self.first)? as usize)
    }

    /// Makes room for blocks `from..to`.
    fn cover(&mut self, from: u32, to: u32) {
        if from < self.first {
            let more = (self.first - from) as usize;
            self.states
                .splice(0..0, core::iter::repeat_n(State::Foreign, more));
            self.first = from;
        }
        let len = (to - self.first) as usize;
        if len > self.states.len() {
            self.states.resize(len, State::Foreign);
        }
    }
}

impl Download {
    pub(super) fn new(fast: bool, layout: Option<Layout>) -> Self {
        Self {
            layout,
            fast,
            choked: true,
            allowed_fast: Vec::new(),
            leases: BTreeMap::new(),
            order: VecDeque::new(),
            wanted: 0,
            requested: 0,
            forgiven: 0,
            unrequested: 0,
            pipeline: Pipeline::new(),
            waiting: None,
            armed: false,
        }
    }

    /// How many requests they say they queue.
    pub(super) fn set_reqq(&mut self, reqq: u32) {
        self.pipeline.set_reqq(reqq);
    }

    /// Requests under way, and how many may be.
    pub(super) fn in_flight(&self) -> (u32, u32) {
        (self.requested, self.pipeline.depth())
    }

    pub(super) fn has_lease(&self, piece: u32) -> bool {
        self.leases.contains_key(&piece)
    }

    /// Bytes/s.
    pub(super) fn rate(&self) -> u64 {
        self.pipeline.rate()
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.waiting.map(|since| since + REQUEST_TIMEOUT)
    }

    /// They allow a piece: true if it counts.
    pub(super) fn allowed_fast(&mut self, piece: u32, count: &mut Counters) -> bool {
        let known = self.allowed_fast.contains(&piece);
        if known || self.allowed_fast.len() >= MOST_ALLOWED_FAST {
            count.allowed_fast_ignored += 1;
            return false;
        }
        self.allowed_fast.push(piece);
        self.fast
    }

    fn may_request(&self, piece: u32) -> bool {
        !self.choked || (self.fast && self.allowed_fast.contains(&piece))
    }

    /// A lease. What of it was leased here before stays as it is.
    pub(super) fn fetch(&mut self, now: Timestamp, fetch: &Fetch, out: &mut Outbox) {
        let piece = fetch.piece;
        let blocks = self.layout.map_or(0, |layout| layout.block_count(piece));
        let (from, to) = (fetch.blocks.start, fetch.blocks.end.min(blocks));
        let lost = |why| ConnFact::LeaseLost { piece, why };
        if from >= to {
            return out.facts.edge(now, lost(LeaseEnd::Revoked));
        }
        if !self.may_request(piece) && !self.leases.contains_key(&piece) {
            return out.facts.edge(now, lost(LeaseEnd::Choked));
        }
        let lease = self.leases.entry(piece).or_insert_with(|| Lease {
            first: from,
            states: Vec::with_capacity((to - from) as usize),
            cursor: 0,
            wanted: 0,
            requested: 0,
        });
        lease.cover(from, to);
        let had = lease.wanted;
        for block in from..to {
            if let Some(state) = lease.state(block).filter(|state| **state == State::Foreign) {
                *state = State::Wanted;
                lease.wanted += 1;
            }
        }
        lease.cursor = 0;
        self.wanted += lease.wanted - had;
        if had == 0 {
            self.order.push_back(piece);
        }
        self.armed = true;
    }

    /// The next request, while the pipeline has room and the peer allows it.
    pub(super) fn next_request(&mut self, now: Timestamp, out: &mut Outbox) -> Option<BlockRef> {
        if self.wanted == 0 || self.requested >= self.pipeline.depth() {
            return None;
        }
        let mut skipped = 0;
        while let Some(&piece) = self.order.get(skipped) {
            if !self.may_request(piece) {
                skipped += 1;
                continue;
            }
            if let Some(block) = self.leases.get_mut(&piece).and_then(next_wanted) {
                return self.request(now, piece, block, out);
            }
            self.order.remove(skipped);
        }
        None
    }

    fn request(
        &mut self,
        now: Timestamp,
        piece: u32,
        block: u32,
        out: &mut Outbox,
    ) -> Option<BlockRef> {
        let length = self.layout?.block_size(piece, block);
        self.wanted -= 1;
        self.requested += 1;
        self.pipeline.requested(now, piece, block);
        self.waiting.get_or_insert(now);
        self.tell_if_low(now, out);
        Some(BlockRef {
            piece,
            begin: block * BLOCK,
            length,
        })
    }

    fn tell_if_low(&mut self, now: Timestamp, out: &mut Outbox) {
        let piece = self.layout.map_or(BLOCK, |layout| layout.piece_length);
        let water = u64::from(piece).max(self.pipeline.rate() / 1_000 * BRAIN_MILLIS);
        if self.armed && u64::from(self.wanted) * u64::from(BLOCK) < water {
            self.armed = false;
            let outstanding = u64::from(self.wanted + self.requested) * u64::from(BLOCK);
            out.facts.edge(
                now,
                ConnFact::LeaseLow {
                    outstanding,
                    rate: self.pipeline.rate(),
                },
            );
        }
    }

    /// A block's header. Errors: no such place (row B4), too many that nobody asked for.
    pub(super) fn block(
        &mut self,
        now: Timestamp,
        got: BlockRef,
        count: &mut Counters,
        out: &mut Outbox,
    ) -> Result<BlockVerdict, Violation> {
        let Some(layout) = self.layout else {
            return self.useless(now, got, count, out);
        };
        if !layout.contains(got.piece, got.begin, got.length) {
            return Err(Violation::BadBlock(got));
        }
        let block = got.begin / BLOCK;
        let whole =
            got.begin.is_multiple_of(BLOCK) && got.length == layout.block_size(got.piece, block);
        let lease = self.leases.get_mut(&got.piece).filter(|_| whole);
        let Some((lease, state)) =
            lease.and_then(|lease| lease.state(block).copied().map(|state| (lease, state)))
        else {
            return self.useless(now, got, count, out);
        };
        match state {
            State::Foreign | State::Received => return self.useless(now, got, count, out),
            State::Wanted => {
                // Late: asked for under an earlier lease.
                lease.wanted -= 1;
                self.wanted -= 1;
                self.forgiven = self.forgiven.saturating_sub(1);
            }
            State::Requested => {
                // More is leased than may be asked for: the pipeline is what holds us back.
                self.pipeline
                    .received(now, got.piece, block, got.length, self.wanted > 0);
                lease.requested -= 1;
                self.requested -= 1;
            }
        }
        if let Some(state) = lease.state(block) {
            *state = State::Received;
        }
        let left = (lease.wanted, lease.requested);
        self.waiting = (self.requested > 0).then_some(now);
        out.facts.add(
            now,
            ConnFact::Received {
                piece: got.piece,
                bytes: got.length,
                redundant: 0,
            },
        );
        if left == (0, 0) {
            self.leases.remove(&got.piece);
            out.facts
                .edge(now, ConnFact::LeaseDone { piece: got.piece });
        } else if left.1 == 0 && !self.may_request(got.piece) {
            // They sent all they still would before the choke took hold.
            self.end(now, got.piece, LeaseEnd::Choked, out);
        }
        self.rest();
        Ok(BlockVerdict::Wanted)
    }

    fn useless(
        &mut self,
        now: Timestamp,
        got: BlockRef,
        count: &mut Counters,
        out: &mut Outbox,
    ) -> Result<BlockVerdict, Violation> {
        count.blocks_redundant += 1;
        out.facts.add(
            now,
            ConnFact::Received {
                piece: got.piece,
                bytes: 0,
                redundant: got.length,
            },
        );
        if self.forgiven > 0 {
            self.forgiven -= 1;
            return Ok(BlockVerdict::Redundant);
        }
        count.blocks_unrequested += 1;
        self.unrequested += 1;
        if self.unrequested > MOST_UNREQUESTED {
            Err(Violation::Unrequested)
        } else {
            Ok(BlockVerdict::Redundant)
        }
    }

    pub(super) fn choke(&mut self, now: Timestamp, choked: bool, out: &mut Outbox) {
        self.choked = choked;
        if choked {
            // With BEP 6 each request is still answered, by block or reject; without, all are void.
            let fast = self.fast;
            self.end_where(now, LeaseEnd::Choked, out, |lease| {
                !fast || lease.requested == 0
            });
        } else {
            self.armed = true;
            self.waiting = (self.requested > 0).then_some(now);
            self.tell_if_low(now, out);
        }
    }

    /// A reject: the lease is over. One of a request we gave up is what we waited for.
    pub(super) fn reject(
        &mut self,
        now: Timestamp,
        block: BlockRef,
        count: &mut Counters,
        out: &mut Outbox,
    ) {
        let lease = self.leases.get_mut(&block.piece);
        let state = lease.and_then(|lease| {
            let state = lease.state(block.begin / BLOCK)?;
            (*state == State::Requested).then(|| *state = State::Foreign)?;
            lease.requested -= 1;
            Some(())
        });
        if state.is_none() {
            count.rejects_unknown += u64::from(self.forgiven == 0);
            self.forgiven = self.forgiven.saturating_sub(1);
            return;
        }
        self.requested -= 1;
        let why = if self.choked {
            LeaseEnd::Choked
        } else {
            LeaseEnd::Rejected
        };
        self.give_up(now, block.piece, why, out);
    }

    /// They have the piece no longer (BEP 54).
    pub(super) fn dont_have(&mut self, now: Timestamp, piece: u32, out: &mut Outbox) {
        self.end(now, piece, LeaseEnd::Rejected, out);
        self.rest();
    }

    /// Ends the lease on `piece`, if there is one, and cancels what is outstanding.
    pub(super) fn give_up(&mut self, now: Timestamp, piece: u32, why: LeaseEnd, out: &mut Outbox) {
        let Some(lease) = self.leases.get(&piece) else {
            return;
        };
        let outstanding = (0u32..)
            .zip(&lease.states)
            .filter(|(_, state)| **state == State::Requested);
        if let Some(layout) = self.layout.filter(|_| self.may_request(piece)) {
            let block = |at| (lease.first + at) * BLOCK;
            out.control.extend(outstanding.map(|(at, _)| {
                let length = layout.block_size(piece, lease.first + at);
                Message::Cancel(BlockRef {
                    piece,
                    begin: block(at),
                    length,
                })
            }));
        }
        self.end(now, piece, why, out);
        self.rest();
    }

    /// True if the request time-out struck now.
    pub(super) fn on_timeout(&mut self, now: Timestamp, out: &mut Outbox) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        let pieces: Vec<u32> = self.leases.keys().copied().collect();
        for piece in pieces {
            self.give_up(now, piece, LeaseEnd::TimedOut, out);
        }
        self.pipeline.snub();
        true
    }

    fn end_where(
        &mut self,
        now: Timestamp,
        why: LeaseEnd,
        out: &mut Outbox,
        which: impl Fn(&Lease) -> bool,
    ) {
        let leases = self.leases.iter();
        let pieces: Vec<u32> = leases
            .filter(|(p, l)| which(l) && !self.may_request(**p))
            .map(|(p, _)| *p)
            .collect();
        for piece in pieces {
            self.end(now, piece, why, out);
        }
        self.rest();
    }

    fn end(&mut self, now: Timestamp, piece: u32, why: LeaseEnd, out: &mut Outbox) {
        let Some(lease) = self.leases.remove(&piece) else {
            return;
        };
        self.wanted -= lease.wanted;
        self.requested -= lease.requested;
        self.forgiven = self.forgiven.saturating_add(lease.requested);
        out.facts.edge(now, ConnFact::LeaseLost { piece, why });
        self.order.retain(|&queued| queued != piece);
    }

    /// Nothing asked for: no clock runs.
    fn rest(&mut self) {
        if self.requested == 0 {
            self.waiting = None;
            self.pipeline.idle();
        }
    }
}

/// The next wanted block of a lease, now requested.
fn next_wanted(lease: &mut Lease) -> Option<u32> {
    let at = lease.cursor
        + lease
            .states
            .get(lease.cursor..)?
            .iter()
            .position(|state| *state == State::Wanted)?;
    *lease.states.get_mut(at)? = State::Requested;
    lease.cursor = at + 1;
    lease.wanted -= 1;
    lease.requested += 1;
    Some(lease.first + u32::try_from(at).ok()?)
}

#[cfg(test)]
impl Download {
    /// Lease accounting: what was leased is wanted, requested or received, and the sums are the sums.
    pub(super) fn check(&self) {
        let count = |lease: &Lease, which| {
            lease.states.iter().filter(|&&state| state == which).count() as u32
        };
        for lease in self.leases.values() {
            assert_eq!(lease.wanted, count(lease, State::Wanted));
            assert_eq!(lease.requested, count(lease, State::Requested));
            assert!(
                lease.wanted + lease.requested > 0,
                "a lease without anything left to come"
            );
        }
        assert_eq!(
            self.wanted,
            self.leases.values().map(|lease| lease.wanted).sum::<u32>()
        );
        assert_eq!(
            self.requested,
            self.leases
                .values()
                .map(|lease| lease.requested)
                .sum::<u32>()
        );
        assert_eq!(self.waiting.is_some(), self.requested > 0);
        for (piece, lease) in &self.leases {
            assert!(
                lease.wanted == 0 || self.order.contains(piece),
                "a wanted block nobody would ask for"
            );
        }
    }

    pub(super) fn leased(&self) -> Vec<u32> {
        self.leases.keys().copied().collect()
    }
}
