//! From whom a piece is fetched: leases of its blocks, and what is open of it.

use crate::io::{ConnId, Fetch, LeaseEnd, Order};
use crate::node::desk::Desk;
use crate::peer::Lease;
use crate::policy::pick;
use crate::swarm::{Stage, Swarm, Why};
use crate::time::Timestamp;
use bt_wire::layout::BLOCK;
use core::ops::Range;
use core::time::Duration;
use std::sync::Arc;

impl Swarm {
    /// Which of a piece's open ranges this connection may be asked for next: any; or, where it has a lease on the piece
    /// already, the one that goes on from there. A master's piece is left to others before it is known how fast this one is.
    pub(super) fn next_blocks(&self, conn: ConnId, piece: u32) -> Option<usize> {
        let active = self.active.get(&piece)?;
        let peer = self.peers.get(&conn)?;
        let Some(lease) = peer.leases.get(&piece) else {
            return active.uncovered.len().checked_sub(1);
        };
        let goes_on = |range: &Range<u32>| range.start == lease.blocks.end;
        let known = active.why == Why::Free || peer.down_rate() > 0;
        active.uncovered.iter().position(goes_on).filter(|_| known)
    }

    /// Others are bringing this stranger's piece, and will go on to its end: this connection may have better to do.
    pub(super) fn in_good_hands(&self, conn: ConnId, piece: u32) -> bool {
        self.account.given > 0
            && self.active.get(&piece).is_some_and(|active| {
                active.why == Why::Free
                    && !active.leases.is_empty()
                    && !active.leases.contains(&conn)
            })
    }

    pub(super) fn lease(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, why: Why, rate: u64) {
        if !self.active.contains_key(&piece) {
            self.begin(desk, piece, why);
        }
        let whole = self.alone.contains(&piece);
        let Some(next) = self.next_blocks(conn, piece) else {
            return;
        };
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let free = active.uncovered.swap_remove(next);
        let count = free.end - free.start;
        let bite = match active.why {
            _ if whole => count,
            Why::Master | Why::Friend => pick::bite(count, rate),
            Why::Free => pick::free_bite(count, rate, self.account.given > 0),
        };
        let blocks = free.start..free.start + bite;
        if blocks.end < free.end {
            active.uncovered.push(blocks.end..free.end);
        }
        if active.uncovered.is_empty() {
            self.partial.remove(&piece);
        }
        self.grant(desk, conn, piece, blocks);
    }

    fn grant(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, blocks: Range<u32>) {
        let (Some(active), Some(peer)) = (self.active.get_mut(&piece), self.peers.get_mut(&conn))
        else {
            return;
        };
        let place = |block: u32| (u64::from(block) * u64::from(BLOCK)).min(active.size);
        let bytes = place(blocks.end) - place(blocks.start);
        let link = self.aid.links.get(&conn);
        if let Some(friend) = link.filter(|friend| self.aid.lent.get(&piece) == Some(*friend)) {
            active.relays.insert(conn, *friend);
        }
        peer.outstanding += bytes;
        if let Some(lease) = peer.leases.get_mut(&piece) {
            lease.blocks.end = blocks.end;
            lease.left += bytes;
            lease.extended = true;
        } else {
            active.leases.push(conn);
            let lease = Lease {
                blocks: blocks.clone(),
                left: bytes,
                since: desk.now,
                extended: false,
            };
            peer.leases.insert(piece, lease);
        }
        let announce = Arc::clone(&active.announce);
        desk.order(
            conn,
            Order::Fetch(Fetch {
                piece,
                blocks,
                announce,
            }),
        );
    }

    /// A master waits, nothing is left to hand out: the slowest lease is asked of this idle peer as well.
    pub(super) fn endgame(&mut self, desk: &mut Desk, conn: ConnId, waits: bool) {
        let Some(peer) = self
            .peers
            .get(&conn)
            .filter(|peer| waits && peer.leases.is_empty())
        else {
            return;
        };
        let slow = |piece: &u32| self.slowest(desk.now, *piece);
        let ours = |piece: &u32| !self.alone.contains(piece) && !self.lent_elsewhere(conn, *piece);
        let fits = |piece: &&u32| peer.offers(**piece, desk.now) && ours(piece);
        let fetching = self
            .active
            .iter()
            .filter(|(_, a)| a.stage == Stage::Fetching)
            .map(|(piece, _)| piece);
        let slowest = fetching
            .filter(fits)
            .filter_map(slow)
            .min_by_key(|lease| (core::cmp::Reverse(lease.0), lease.2));
        if let Some((_, blocks, piece)) = slowest {
            self.grant(desk, conn, piece, blocks);
        }
    }

    /// Of a piece the lease that has most to bring, is old enough to be doubled, and is not yet: what is left of it, its
    /// blocks, the piece.
    fn slowest(&self, now: Timestamp, piece: u32) -> Option<(u64, Range<u32>, u32)> {
        let holders = &self.active.get(&piece)?.leases;
        let leases: Vec<&Lease> = holders
            .iter()
            .filter_map(|holder| self.peers.get(holder)?.leases.get(&piece))
            .collect();
        let twins = |blocks: &Range<u32>| leases.iter().filter(|l| l.blocks == *blocks).count();
        let slow = leases.iter().filter(|lease| {
            now.since(lease.since) >= pick::SLOW_LEASE && twins(&lease.blocks) == 1
        });
        let slowest = slow.max_by_key(|lease| lease.left)?;
        Some((slowest.left, slowest.blocks.clone(), piece))
    }

    /// The session has all that was leased to it. What was added to the lease while it said so is still to come.
    pub(crate) fn lease_done(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let peer = self.peers.get_mut(&conn);
        let Some(lease) = peer.and_then(|peer| peer.leases.get_mut(&piece)) else {
            return;
        };
        if core::mem::take(&mut lease.extended) && lease.left > 0 {
            return;
        }
        let Some(done) = self.end_lease(desk, conn, piece, false) else {
            return;
        };
        // Whoever else was asked for the same blocks need not bring them: left standing, that lease would be doubled again
        // and be done at once, without end.
        let others = self
            .active
            .get(&piece)
            .map_or(&[][..], |a| a.leases.as_slice());
        let same = |other: &ConnId| {
            let lease = self.peers.get(other).and_then(|p| p.leases.get(&piece));
            lease.is_some_and(|lease| lease.blocks == done.blocks)
        };
        let twins: Vec<ConnId> = others.iter().copied().filter(same).collect();
        for twin in twins {
            self.end_lease(desk, twin, piece, true);
        }
    }

    /// Forgets a lease of this connection; `revoke`: the session is told to give it up.
    pub(crate) fn end_lease(
        &mut self,
        desk: &mut Desk,
        conn: ConnId,
        piece: u32,
        revoke: bool,
    ) -> Option<Lease> {
        let peer = self.peers.get_mut(&conn)?;
        let lease = peer.leases.remove(&piece)?;
        peer.outstanding = peer.outstanding.saturating_sub(lease.left);
        if revoke && !peer.closing {
            desk.order(conn, Order::Revoke(piece));
        }
        if let Some(active) = self.active.get_mut(&piece) {
            active.leases.retain(|holder| *holder != conn);
        }
        Some(lease)
    }

    /// A lease ended early: its blocks are open again, and the pair rests where asking again would spin.
    pub(crate) fn lease_lost(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, why: LeaseEnd) {
        let Some(lease) = self.end_lease(desk, conn, piece, false) else {
            return;
        };
        let rest = match why {
            LeaseEnd::Rejected => 10,
            LeaseEnd::TimedOut => 30,
            LeaseEnd::Choked | LeaseEnd::Revoked => 0,
            LeaseEnd::NoRoom => {
                desk.no_room_until = desk.now + Duration::from_millis(50);
                desk.starved.insert((self.id, conn));
                0
            }
        };
        if rest > 0
            && let Some(peer) = self.peers.get_mut(&conn)
        {
            let times = peer.refused.get(&piece).map_or(0, |(_, times)| *times);
            let wait = Duration::from_secs(rest << times.min(6));
            peer.refused.insert(piece, (desk.now + wait, times + 1));
        }
        self.reopen(desk, piece, lease.blocks, why == LeaseEnd::NoRoom);
        if why == LeaseEnd::NoRoom {
            desk.refused_permit(self.permit());
        }
    }

    /// Blocks of a piece are nobody's again. One that never got a permit, or that nobody wants any more, goes.
    pub(crate) fn reopen(
        &mut self,
        desk: &mut Desk,
        piece: u32,
        blocks: Range<u32>,
        no_permit: bool,
    ) {
        let permit = self.permit();
        let Some(active) = self
            .active
            .get_mut(&piece)
            .filter(|a| a.stage == Stage::Fetching)
        else {
            return;
        };
        if !active.leases.is_empty() {
            // Somebody else was asked for the same blocks: nothing opens before that one gives up, too.
            let covered = |holder: &ConnId| {
                let lease = self
                    .peers
                    .get(holder)
                    .and_then(|peer| peer.leases.get(&piece));
                lease.is_some_and(|lease| lease.blocks == blocks)
            };
            if active.leases.iter().any(covered) {
                return;
            }
        }
        active.uncovered.push(blocks);
        self.partial.insert(piece);
        if !active.leases.is_empty() || active.got > 0 {
            return;
        }
        if no_permit {
            let (size, why) = (active.size, active.why);
            self.active.remove(&piece);
            self.partial.remove(&piece);
            self.fetching = self.fetching.saturating_sub(1);
            desk.stock.fetching = desk.stock.fetching.saturating_sub(permit);
            desk.stock.used = desk.stock.used.saturating_sub(permit);
            if why == Why::Free {
                self.account.in_flight = self.account.in_flight.saturating_sub(size);
            }
        }
    }

    /// Nobody is asked for anything of these, and nothing of them is open: what was lost on the way is asked for again.
    /// The shell asks for no block that is there.
    pub(super) fn reopen_stalled(&mut self, now: Timestamp, patience: Duration) {
        let Some(layout) = self.layout else { return };
        let stalled = self.active.iter_mut().filter(|(_, active)| {
            active.stage == Stage::Fetching
                && active.leases.is_empty()
                && active.uncovered.is_empty()
                && now.since(active.since) >= patience
        });
        for (piece, active) in stalled {
            active.uncovered.push(0..layout.block_count(*piece));
            self.partial.insert(*piece);
        }
    }
}
