//! What is fetched, from whom, and when: plans, leases, the pipe kept full.

use crate::io::{ConnId, Fetch, LeaseEnd, Order};
use crate::node::desk::Desk;
use crate::params::Ablation;
use crate::peer::Lease;
use crate::policy::evict::Purpose;
use crate::policy::stop_loss::{self, StopLossFacts};
use crate::policy::{forward, pick, piece_yield};
use crate::swarm::{Active, Plan, Stage, Swarm, Ties, Why};
use crate::time::Timestamp;
use bt_wire::layout::BLOCK;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Entries of a plan looked at for one connection before giving up until the next event.
const LOOK: usize = 2048;
/// A plan that ran out is not rebuilt more often; the tick plans for strangers anyway.
const REBUILD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

enum Choice {
    Lease(u32, Why),
    Nothing,
    NoRoom,
}

impl Swarm {
    /// Free repeating is on and worth it for pieces of this size (policy.md: at most an eighth of the cache).
    pub(crate) fn repeats(&self, desk: &Desk) -> bool {
        let limits = &desk.params.limits;
        limits.repeat && self.caches() && self.pieces() > 1 && self.permit() <= limits.cache / 8
    }

    pub(crate) fn loss(&self, desk: &Desk) -> StopLossFacts {
        StopLossFacts {
            taken: self.account.taken.saturating_sub(self.account.forgiven),
            in_flight: self.account.in_flight,
            given: self.account.given,
            piece: self.permit(),
            cache: desk.params.limits.cache,
        }
    }

    /// Leases more to one connection until its pipe is full or there is nothing for it.
    pub(crate) fn top_up(&mut self, desk: &mut Desk, conn: ConnId) {
        if !self.joined() || !self.caches() || desk.stopped() {
            return;
        }
        let waits = self.master_demand();
        let hurries = waits || self.errand_demand();
        for _ in 0..4096 {
            let Some(peer) = self.peers.get(&conn) else {
                return;
            };
            let rate = peer.down_rate();
            let depth = if hurries {
                pick::master_depth(rate, self.permit())
            } else {
                pick::free_depth(rate)
            };
            if !peer.may_fetch() || peer.outstanding >= depth.min(desk.cap() / 2) {
                return;
            }
            match self.choose(desk, conn, waits) {
                Choice::Lease(piece, why) => self.lease(desk, conn, piece, why, rate),
                Choice::Nothing => return self.endgame(desk, conn, hurries),
                Choice::NoRoom => {
                    desk.starved.insert((self.id, conn));
                    return;
                }
            }
        }
    }

    fn choose(&mut self, desk: &mut Desk, conn: ConnId, waits: bool) -> Choice {
        if let Some(piece) = self.relayable(desk.now, conn) {
            return self.with_room(desk, piece, Why::Master, Purpose::Master);
        }
        if let Some((piece, why)) = self.unfinished(desk, conn) {
            if !waits && why == Why::Free && self.in_good_hands(conn, piece) {
                let least = self.avail.copies(piece);
                if let Choice::Lease(better, why) = self.choose_free(desk, conn)
                    && self.avail.copies(better) > least
                {
                    return Choice::Lease(better, why);
                }
            }
            return Choice::Lease(piece, why);
        }
        let errands = self.errand_demand();
        if !waits && !errands {
            return self.choose_free(desk, conn);
        }
        let payers = forward::payers_turn(self.fetches.0, self.fetches.1);
        if payers && let Choice::Lease(piece, why) = self.choose_free(desk, conn) {
            return Choice::Lease(piece, why);
        }
        let ours = waits && !self.sated();
        for (why, wanted) in [(Why::Master, ours), (Why::Friend, errands)] {
            if wanted && let Some(piece) = self.best_planned(desk, conn, why) {
                return self.with_room(desk, piece, why, Purpose::Master);
            }
        }
        Choice::Nothing
    }

    /// Which of a piece's open ranges this connection may be asked for next: any; or, where it has a lease on the piece
    /// already, the one that goes on from there.
    fn next_blocks(&self, conn: ConnId, piece: u32) -> Option<usize> {
        let active = self.active.get(&piece)?;
        let Some(lease) = self.peers.get(&conn)?.leases.get(&piece) else {
            return active.uncovered.len().checked_sub(1);
        };
        let goes_on = |range: &Range<u32>| range.start == lease.blocks.end;
        active
            .uncovered
            .iter()
            .position(goes_on)
            .filter(|_| active.why == Why::Free)
    }

    /// Others are bringing this stranger's piece, and will go on to its end: this connection may have better to do.
    fn in_good_hands(&self, conn: ConnId, piece: u32) -> bool {
        self.account.given > 0
            && self.active.get(&piece).is_some_and(|active| {
                active.why == Why::Free
                    && !active.leases.is_empty()
                    && !active.leases.contains(&conn)
            })
    }

    /// A piece begun, with blocks nobody is asked for.
    fn unfinished(&self, desk: &Desk, conn: ConnId) -> Option<(u32, Why)> {
        let peer = self.peers.get(&conn)?;
        let fits = |piece: &&u32| {
            let alone =
                self.alone.contains(*piece) && self.active.get(*piece).is_some_and(|a| a.got > 0);
            let next = self.next_blocks(conn, **piece).is_some();
            peer.offers(**piece, desk.now) && next && !alone && !self.lent_elsewhere(conn, **piece)
        };
        let got = |piece: &u32| self.active.get(piece).map_or(0, |active| active.got);
        let nearest = |piece: &u32| (got(piece), core::cmp::Reverse(*piece));
        let piece = self
            .partial
            .iter()
            .copied()
            .filter(|piece| fits(&piece))
            .max_by_key(nearest)?;
        Some((piece, self.active.get(&piece)?.why))
    }

    fn choose_free(&mut self, desk: &mut Desk, conn: ConnId) -> Choice {
        let risky = !stop_loss::allows(self.loss(desk)) && !desk.off(Ablation::StopLoss);
        if !self.repeats(desk) || self.allow <= 0.0 || risky {
            return Choice::Nothing;
        }
        let Some(piece) = self.best_planned(desk, conn, Why::Free) else {
            return Choice::Nothing;
        };
        let copies = self.avail.copies(piece);
        self.with_room(desk, piece, Why::Free, Purpose::Free(copies))
    }

    fn with_room(&mut self, desk: &mut Desk, piece: u32, why: Why, purpose: Purpose) -> Choice {
        if !desk.has_room(self.permit()) {
            self.make_room(desk, purpose);
            return Choice::NoRoom;
        }
        if !self.keeps_one_absent(desk, purpose) {
            return Choice::NoRoom;
        }
        Choice::Lease(piece, why)
    }

    fn wanted(&self, desk: &Desk, piece: u32, why: Why) -> bool {
        !self.active.contains_key(&piece)
            && match why {
                Why::Master => self.master_lacks(piece) && !self.aid.lent.contains_key(&piece),
                Why::Friend => self.aid.wants(piece),
                Why::Free => self.avail.copies(piece) >= self.least_yield(desk),
            }
    }

    /// The best absent piece of a plan that this connection has.
    fn best_planned(&mut self, desk: &mut Desk, conn: ConnId, why: Why) -> Option<u32> {
        let pause = match why {
            Why::Master | Why::Friend => REBUILD.0,
            Why::Free => REBUILD.1,
        };
        let plan = self.plan(why);
        let built = plan.built;
        if plan.queue.is_empty() && built.is_none_or(|at| desk.now.since(at) >= pause) {
            self.rebuild(desk, why);
        }
        let mut queue = core::mem::take(&mut self.plan(why).queue);
        while queue
            .last()
            .is_some_and(|piece| !self.wanted(desk, *piece, why))
        {
            queue.pop();
        }
        let found = self.peers.get(&conn).and_then(|peer| {
            let fits =
                |piece: &&u32| peer.offers(**piece, desk.now) && self.wanted(desk, **piece, why);
            queue.iter().rev().take(LOOK).find(fits).copied()
        });
        self.plan(why).queue = queue;
        found
    }

    fn plan(&mut self, why: Why) -> &mut Plan {
        match why {
            Why::Master => &mut self.master_plan,
            Why::Friend => &mut self.friend_plan,
            Why::Free => &mut self.free_plan,
        }
    }

    fn least_yield(&self, desk: &Desk) -> f64 {
        if desk.off(Ablation::Yield) {
            return f64::MIN_POSITIVE;
        }
        piece_yield::threshold(self.avail.downloaders, self.account.given > 0)
    }

    /// The copies of a piece that are still wanted when all who have it and do not choke us have sent it together.
    fn yield_on_arrival(&self, now: Timestamp, piece: u32) -> f64 {
        let holders = self.peers.values().filter(|peer| peer.gives(piece));
        let supply: u64 = holders
            .map(|peer| peer.down_rate().max(pick::UNKNOWN_RATE))
            .sum();
        let seconds = self.permit() as f64 / supply.max(1) as f64;
        let age = self.avail.age(now, piece).as_secs_f64();
        piece_yield::on_arrival(self.avail.copies(piece), self.hazard, seconds.min(age))
    }

    /// Sorts all wanted absent pieces anew, best last.
    pub(crate) fn rebuild(&mut self, desk: &mut Desk, why: Why) {
        let salt = desk.rng.next();
        let absent = (0..self.pieces()).filter(|piece| self.wanted(desk, *piece, why));
        let plan = match why {
            Why::Master | Why::Friend => {
                let key = |piece: u32| {
                    let facts = self.avail.facts(piece);
                    let lot = forward::weight(&self.info_hash, piece, desk.slave_key);
                    pick::rarest_first(facts.seeds + facts.holders, lot)
                };
                let mut keyed: Vec<_> = absent.map(|piece| (key(piece), piece)).collect();
                keyed.sort_by(|a, b| b.cmp(a));
                keyed.into_iter().map(|(_, piece)| piece).collect()
            }
            Why::Free => {
                let lot = |piece: u32| forward::weight(&self.info_hash, piece, salt);
                let least = self.least_yield(desk);
                let any = desk.off(Ablation::Yield);
                let mut keyed: Vec<_> = absent
                    .map(|piece| (self.yield_on_arrival(desk.now, piece), lot(piece), piece))
                    .filter(|(copies, _, _)| *copies >= least)
                    .collect();
                if any {
                    keyed.iter_mut().for_each(|entry| entry.0 = 0.0);
                }
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                keyed.into_iter().map(|(_, _, piece)| piece).collect()
            }
        };
        *self.plan(why) = Plan {
            queue: plan,
            built: Some(desk.now),
        };
    }

    /// Makes a piece active: from here on it costs a permit.
    fn begin(&mut self, desk: &mut Desk, piece: u32, why: Why) {
        let Some(layout) = self.layout else { return };
        let size = u64::from(layout.piece_size(piece));
        let expected = self.avail.copies(piece);
        let announce = self.audience(desk, piece);
        desk.take(self.permit());
        self.fetching += 1;
        match why {
            Why::Master | Why::Friend => self.fetches.0 += 1,
            Why::Free => {
                self.fetches.1 += u64::from(self.master_demand());
                self.account.in_flight += size;
                self.allow -= expected * size as f64;
            }
        }
        let everything: Range<u32> = 0..layout.block_count(piece);
        let active = Active {
            stage: Stage::Fetching,
            why,
            size,
            since: desk.now,
            uncovered: Vec::from([everything]),
            leases: Vec::new(),
            got: 0,
            expected,
            announce,
            ties: Ties::default(),
            touched: desk.now,
            served: BTreeMap::new(),
            echoes: BTreeSet::new(),
        };
        self.active.insert(piece, active);
        self.partial.insert(piece);
    }

    fn lease(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, why: Why, rate: u64) {
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
    fn endgame(&mut self, desk: &mut Desk, conn: ConnId, waits: bool) {
        let Some(peer) = self
            .peers
            .get(&conn)
            .filter(|peer| waits && peer.leases.is_empty())
        else {
            return;
        };
        let slow = |piece: &u32| {
            let active = self.active.get(piece)?;
            let holder = *active.leases.first().filter(|_| active.leases.len() == 1)?;
            let lease = self.peers.get(&holder)?.leases.get(piece)?;
            let fits =
                holder != conn && peer.offers(*piece, desk.now) && !self.alone.contains(piece);
            let old = desk.now.since(lease.since) >= pick::SLOW_LEASE;
            (fits && old).then_some((core::cmp::Reverse(lease.left), lease.blocks.clone(), *piece))
        };
        let fetching = self
            .active
            .iter()
            .filter(|(_, a)| a.stage == Stage::Fetching)
            .map(|(piece, _)| piece);
        let slowest = fetching
            .filter_map(slow)
            .min_by(|a, b| a.0.cmp(&b.0).then(a.2.cmp(&b.2)));
        if let Some((_, blocks, piece)) = slowest {
            self.grant(desk, conn, piece, blocks);
        }
    }

    /// Blocks arrived.
    pub(crate) fn received(
        &mut self,
        desk: &mut Desk,
        conn: ConnId,
        piece: u32,
        bytes: u64,
        redundant: u64,
    ) {
        self.down.add(bytes);
        desk.down.add(bytes);
        self.wasted += redundant;
        desk.wasted += redundant;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.down.add(bytes);
        if let Some(lease) = peer.leases.get_mut(&piece) {
            let arrived = lease.left.min(bytes + redundant);
            lease.left -= arrived;
            peer.outstanding = peer.outstanding.saturating_sub(arrived);
        }
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let new = bytes.min(active.size.saturating_sub(active.got));
        active.got += new;
        if active.why == Why::Free {
            self.account.taken += bytes;
            self.account.in_flight = self.account.in_flight.saturating_sub(new);
        }
    }

    /// The session has all that was leased to it. What was added to the lease while it said so is still to come.
    pub(crate) fn lease_done(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let peer = self.peers.get_mut(&conn);
        let Some(lease) = peer.and_then(|peer| peer.leases.get_mut(&piece)) else {
            return;
        };
        if !core::mem::take(&mut lease.extended) || lease.left == 0 {
            self.end_lease(desk, conn, piece, false);
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

    /// Once a second: pieces begun that nobody can go on with, or nobody wants, are abandoned; also a stranger's piece
    /// that will bring less than what is still to come of it, because others were faster.
    pub(crate) fn abandon_orphans(&mut self, desk: &mut Desk) {
        let patience = Duration::from_secs(20);
        let orphan = |(piece, active): (&u32, &Active)| {
            let idle = active.stage == Stage::Fetching && active.leases.is_empty();
            (idle && self.orphaned(*piece, active, desk.now, patience)).then_some(*piece)
        };
        let stays = desk.off(Ablation::Late);
        let too_late = |(piece, active): (&u32, &Active)| {
            let free = active.stage == Stage::Fetching && active.why == Why::Free;
            let rest = active.size.saturating_sub(active.got) as f64;
            let brings = self.avail.copies(*piece) * active.size as f64;
            (free && !stays && !self.master_lacks(*piece) && brings < rest).then_some(*piece)
        };
        let orphans = self.active.iter().filter_map(orphan);
        let late: Vec<u32> = self.active.iter().filter_map(too_late).collect();
        let came_late = !late.is_empty();
        let given_up: BTreeSet<u32> = orphans.chain(late).collect();
        self.account.late |= came_late;
        for piece in given_up {
            self.retire(desk, piece);
        }
        self.reopen_stalled(desk.now, patience);
    }

    /// Nobody is asked for anything of these, and nothing of them is open: what was lost on the way is asked for again.
    /// The shell asks for no block that is there.
    fn reopen_stalled(&mut self, now: Timestamp, patience: Duration) {
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

    fn orphaned(&self, piece: u32, active: &Active, now: Timestamp, patience: Duration) -> bool {
        let smart = self.alone.contains(&piece) && active.got > 0;
        let old = now.since(active.since) >= patience && active.got == 0;
        let served = self.peers.values().any(|peer| peer.gives(piece));
        smart || old || (!served && now.since(active.since) >= patience * 3)
    }

    /// A master got a piece by itself while we were at the beginning of it.
    pub(crate) fn master_got(&mut self, desk: &mut Desk, piece: u32) {
        let useless = self.active.get(&piece).is_some_and(|active| {
            active.stage == Stage::Fetching
                && active.why == Why::Master
                && active.got * 2 < active.size
        });
        if useless && !self.master_lacks(piece) && self.avail.lack(piece) == 0 {
            self.retire(desk, piece);
        }
    }
}
