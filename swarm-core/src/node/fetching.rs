//! When something is fetched, and what of a connection may bring it: the pipe kept full.

use crate::io::ConnId;
use crate::node::desk::Desk;
use crate::peer::Peer;
use crate::policy::evict::Purpose;
use crate::policy::feed_cap;
use crate::policy::forward::{self, PayersFacts};
use crate::policy::late::{self, LateFacts};
use crate::policy::never_harm::{self, HarmFacts};
use crate::policy::pick;
use crate::policy::stop_loss::{self, StopLossFacts};
use crate::swarm::{Active, Stage, Swarm, Ties, Why};
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// While one part in so many of the cache is free, pieces begun for a master are kept that nobody brings just now.
const SPARE: u64 = 8;

enum Choice {
    Lease(u32, Why),
    Nothing,
    NoRoom,
}

impl Swarm {
    pub(crate) fn loss(&self, desk: &Desk) -> StopLossFacts {
        StopLossFacts {
            taken: self.account.taken.saturating_sub(self.account.forgiven),
            in_flight: self.account.in_flight,
            given: self.account.given,
            piece: self.permit(),
            cache: desk.params.limits.cache,
        }
    }

    /// How the last hour stands.
    pub(crate) fn harm(&mut self, desk: &Desk) -> HarmFacts {
        let (taken, given) = self.account.hour.sums(desk.now);
        desk.seen(HarmFacts {
            prospected_for: desk.now.since(self.account.prospecting),
            taken,
            given,
            in_flight: self.account.in_flight,
            piece: self.permit(),
        })
    }

    /// One more piece for strangers is within what we may lose, and what the swarm may lose to us.
    fn affords(&mut self, desk: &Desk) -> bool {
        if never_harm::begins_anew(&self.harm(desk)) {
            self.account.prospecting = desk.now;
        }
        stop_loss::allows(desk.seen(self.loss(desk))) && never_harm::allows(&self.harm(desk))
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
        let payers = forward::payers_turn(&PayersFacts {
            for_masters: self.fetches.0,
            for_payers: self.fetches.1,
            backlog: self.backlog,
            capacity: desk.capacity(),
        });
        if payers && let Choice::Lease(piece, why) = self.choose_free(desk, conn) {
            return Choice::Lease(piece, why);
        }
        let ours = waits && !self.sated();
        for (why, wanted) in [(Why::Master, ours), (Why::Friend, errands)] {
            if wanted && let Some(piece) = self.best_planned(desk, conn, why) {
                return self.with_room(desk, piece, why, Purpose::Master);
            }
        }
        // A master, or a friend that hears of it, may want something of this one in a moment.
        Choice::Nothing
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
        if !self.repeats(desk) || self.allow <= 0.0 || !self.affords(desk) {
            return Choice::Nothing;
        }
        let Some(piece) = self.best_planned(desk, conn, Why::Free) else {
            return Choice::Nothing;
        };
        let purpose = Purpose::Free(self.avail.copies(piece));
        if !feed_cap::fetches(self.feed_room(desk), self.permit()) {
            self.swap_out(desk, purpose);
            return Choice::NoRoom;
        }
        self.with_room(desk, piece, Why::Free, purpose)
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

    /// Makes a piece active: from here on it costs a permit.
    pub(super) fn begin(&mut self, desk: &mut Desk, piece: u32, why: Why) {
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
                self.charge_feeds(desk);
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
            relays: BTreeMap::new(),
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
        peer.open = desk.now;
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
            self.account.hour.took(desk.now, bytes + redundant);
            self.account.taken += bytes;
            self.account.in_flight = self.account.in_flight.saturating_sub(new);
        }
    }

    /// Once a second: pieces begun that nobody can go on with, or nobody waits for, are abandoned; also a stranger's piece
    /// that will bring less than what is still to come of it, because others were faster.
    pub(crate) fn abandon_orphans(&mut self, desk: &mut Desk) {
        let patience = Duration::from_secs(20);
        let orphan = |(piece, active): (&u32, &Active)| {
            let idle = active.stage == Stage::Fetching && active.leases.is_empty();
            (idle && self.orphaned(desk, *piece, active, patience)).then_some(*piece)
        };
        let too_late = |(piece, active): (&u32, &Active)| {
            let free = active.stage == Stage::Fetching && active.why == Why::Free;
            let facts = LateFacts {
                copies: self.avail.copies(*piece),
                size: active.size,
                left: active.size.saturating_sub(active.got),
            };
            let late = late::too_late(desk.seen(facts));
            (free && !self.master_lacks(*piece) && late).then_some(*piece)
        };
        let orphans = self.active.iter().filter_map(orphan);
        let late: Vec<u32> = self.active.iter().filter_map(too_late).collect();
        let came_late = !late.is_empty();
        let forsaken = self.active.iter();
        let forsaken = forsaken.filter_map(|(p, a)| self.forsaken(*p, a).then_some(*p));
        let given_up: BTreeSet<u32> = orphans.chain(late).chain(forsaken).collect();
        self.account.late |= came_late;
        for piece in given_up {
            self.retire(desk, piece);
        }
        self.reopen_stalled(desk.now, patience);
    }

    fn orphaned(&self, desk: &Desk, piece: u32, active: &Active, patience: Duration) -> bool {
        let (now, tight) = (desk.now, !desk.has_room(desk.cap() / SPARE));
        let smart = self.alone.contains(&piece) && active.got > 0;
        let old = now.since(active.since) >= patience && active.got == 0;
        // What a master lacks waits for its holder's next unchoke while there is room: the begun part is paid for.
        let waits = active.why == Why::Master && !tight && self.master_lacks(piece);
        let may_come = |peer: &Peer| waits && peer.have.get(piece) && !peer.only_given();
        let served = self
            .peers
            .values()
            .any(|peer| peer.gives(piece) || may_come(peer));
        smart || old || (!served && now.since(active.since) >= patience * 3)
    }

    /// Whom it was fetched for has it from others by now, or wants it no longer, and less than half of it is here. Who is
    /// away for a moment still waits for it.
    fn forsaken(&self, piece: u32, active: &Active) -> bool {
        let for_nobody = match active.why {
            Why::Free => false,
            Why::Friend => true,
            Why::Master => self.master_has(piece),
        };
        let begun = active.stage == Stage::Fetching && active.got * 2 < active.size;
        begun && for_nobody && !self.awaited(piece)
    }
}
