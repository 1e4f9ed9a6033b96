//! Pieces we hold: verified, announced, committed, retired, released.

use crate::io::{ConnId, Defence, Note, Order, Output};
use crate::node::desk::Desk;
use crate::peer::{Class, Tie, Told};
use crate::policy::commitment::{self, CommitAge, CommitFacts};
use crate::policy::evict::{self, EvictFacts, Purpose};
use crate::swarm::{Stage, Swarm};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Swarm {
    /// Whether showing one more piece to this peer keeps us from looking like a seed. Where it would not, a piece it
    /// has already is withdrawn first: qBittorrent closes the moment a HAVE completes our set.
    fn may_show(&mut self, desk: &mut Desk, conn: ConnId) -> bool {
        let (total, fetching) = (self.pieces(), self.fetching);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return false;
        };
        if !peer.ext.donthave || total <= 1 || peer.shown.count_ones() + fetching + 1 < total {
            return true;
        }
        let has_already = peer
            .shown
            .iter_ones()
            .find(|piece| !peer.told.contains_key(piece));
        if let Some(piece) = has_already {
            peer.shown.set(piece, false);
            desk.order(conn, Order::Withdraw(piece));
        }
        peer.shown.count_ones() + 1 < total
    }

    /// Whether this peer should hear of this piece: a master always, a downloader within its commitment.
    fn deserves(&self, desk: &Desk, conn: ConnId, piece: u32, committed: u64) -> bool {
        let Some(peer) = self.peers.get(&conn) else {
            return false;
        };
        if peer.closing || !peer.known || peer.knows(piece) {
            return false;
        }
        match (peer.class, peer.tie()) {
            (Class::Master, _) => true,
            (Class::Guest, _) => self.guest_deserves(conn, piece),
            (Class::Downloader, Tie::Soft) => true,
            (Class::Downloader, Tie::Master | Tie::Firm | Tie::Stale) => {
                let unfinished = peer.told.len() as u64 * self.permit();
                commitment::allows(&CommitFacts {
                    peer: unfinished,
                    all: committed,
                    draw: peer.up.rate,
                    piece: self.permit(),
                    shared: self.active.get(&piece).is_some_and(|a| a.ties.binding()),
                    cache: desk.params.limits.cache,
                    master_demand: self.master_demand(),
                })
            }
            (Class::Unknown | Class::Seed | Class::Other, _) => false,
        }
    }

    /// Who gets HAVE the instant this piece verifies: masters first.
    pub(crate) fn audience(&mut self, desk: &mut Desk, piece: u32) -> Arc<[ConnId]> {
        let committed = self.committed();
        let strangers = self
            .peers
            .values()
            .filter(|p| p.class == Class::Downloader)
            .map(|p| p.conn);
        let all: Vec<ConnId> = self.master_conns.iter().copied().chain(strangers).collect();
        let mut named: Vec<ConnId> = all
            .into_iter()
            .filter(|c| self.deserves(desk, *c, piece, committed))
            .collect();
        named.retain(|conn| self.may_show(desk, *conn));
        named.into()
    }

    /// Books an announcement that has been, or is now being, made.
    fn book_told(&mut self, desk: &Desk, conn: ConnId, piece: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.shown.set(piece, true);
        if peer.knows(piece) {
            return;
        }
        let tie = peer.tie();
        peer.told.insert(
            piece,
            Told {
                at: desk.now,
                asked: None,
                served: 0,
                sent: None,
                tie,
            },
        );
        if let Some(active) = self.active.get_mut(&piece) {
            active.ties.add(tie);
        }
    }

    /// Announces a held piece to a peer, if it deserves it.
    //= spec/friends.md#helper-announces
    fn tell(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, committed: u64) -> bool {
        if !self.deserves(desk, conn, piece, committed) || !self.may_show(desk, conn) {
            return false;
        }
        self.book_told(desk, conn, piece);
        desk.order(conn, Order::Announce(piece));
        true
    }

    /// Announces to one peer all it should hear of, the pieces most peers lack first.
    pub(crate) fn offer(&mut self, desk: &mut Desk, conn: ConnId) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        if peer.closing
            || !peer.known
            || !matches!(peer.class, Class::Master | Class::Guest | Class::Downloader)
        {
            return;
        }
        let news = |p: &u32| !peer.knows(*p);
        let held = self
            .active
            .iter()
            .filter(|(_, a)| a.stage == Stage::Held)
            .map(|(p, _)| *p);
        let mut pieces: Vec<u32> = held.filter(news).collect();
        if pieces.is_empty() {
            return;
        }
        pieces.sort_by_key(|piece| core::cmp::Reverse(self.avail.lack(*piece)));
        let committed = self.committed();
        for piece in pieces {
            self.tell(desk, conn, piece, committed);
        }
    }

    /// The peer has the piece now, or lost it, or went: an announcement no longer binds.
    pub(crate) fn untell(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let Some(told) = self
            .peers
            .get_mut(&conn)
            .and_then(|peer| peer.told.remove(&piece))
        else {
            return;
        };
        if let Some(active) = self.active.get_mut(&piece) {
            active.ties.drop(told.tie);
            if active.ties.none() || told.tie == Tie::Master {
                desk.freed |= !desk.starved.is_empty();
            }
        }
    }

    /// All blocks of a piece went out to a master: it binds no longer, though HAVE may be a second away.
    pub(crate) fn delivered_to(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        self.untell(desk, conn, piece);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.delivered.insert(piece, desk.now);
        }
    }

    /// A master asks again for what it was sent, or says it lost it: it lacks the piece after all.
    pub(crate) fn undelivered(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let lost = self
            .peers
            .get_mut(&conn)
            .and_then(|peer| peer.delivered.remove(&piece));
        if lost.is_some() {
            self.offer(desk, conn);
            self.wake_idle(desk, conn);
        }
    }

    /// A master that did not say HAVE so long after the last block lacks the piece after all.
    pub(crate) fn age_deliveries(&mut self, desk: &Desk) {
        let fresh = |at: &Timestamp| desk.now.since(*at) < commitment::AFTER_SENT;
        for peer in self.peers.values_mut() {
            peer.delivered.retain(|_, at| fresh(at));
        }
    }

    /// The peer's nature is known better: what was announced to it binds as that says.
    pub(crate) fn retie(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let tie = peer.tie();
        for (piece, told) in &mut peer.told {
            if told.tie != tie
                && let Some(active) = self.active.get_mut(piece)
            {
                active.ties.drop(told.tie);
                active.ties.add(tie);
                told.tie = tie;
            }
        }
    }

    /// The hash was right: HAVE went to the audience; the rest hears now.
    pub(crate) fn verified(&mut self, desk: &mut Desk, piece: u32) {
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let audience = core::mem::replace(&mut active.announce, Arc::from([]));
        if active.stage != Stage::Fetching {
            return self.disown(desk, piece, &audience);
        }
        active.stage = Stage::Held;
        active.touched = desk.now;
        desk.no_room_since = None;
        let took = desk.now.since(active.since).as_secs_f64();
        let holders: Vec<ConnId> = active.leases.drain(..).collect();
        let (size, in_flight) = (active.size, active.size.saturating_sub(active.got));
        active.uncovered.clear();
        if active.why == crate::swarm::Why::Free {
            self.account.in_flight = self.account.in_flight.saturating_sub(in_flight);
            self.account.late |= self.avail.lack(piece) == 0;
        }
        self.fetch_s += (took.min(60.0) - self.fetch_s) * 0.1;
        self.partial.remove(&piece);
        self.alone.remove(&piece);
        self.fetching = self.fetching.saturating_sub(1);
        self.held += 1;
        self.held_bytes += size;
        self.left_dirty = true;
        desk.stock.fetching = desk.stock.fetching.saturating_sub(self.permit());
        for conn in holders {
            self.end_lease(desk, conn, piece, true);
        }
        for conn in audience.iter() {
            self.book_told(desk, *conn, piece);
        }
        let committed = self.committed();
        let rest: Vec<ConnId> = self
            .peers
            .keys()
            .copied()
            .filter(|conn| !audience.contains(conn))
            .collect();
        for conn in rest {
            self.tell(desk, conn, piece, committed);
        }
        for conn in audience.iter() {
            self.prompt(desk, *conn);
        }
    }

    /// HAVE went out for a piece that was given up meanwhile: taken back.
    fn disown(&mut self, desk: &mut Desk, piece: u32, audience: &[ConnId]) {
        for conn in audience {
            let Some(peer) = self.peers.get(conn) else {
                continue;
            };
            if peer.have.get(piece) || peer.closing {
                continue;
            }
            if peer.ext.donthave {
                desk.order(*conn, Order::Withdraw(piece));
            } else {
                self.close(desk, *conn);
            }
        }
    }

    /// Gives up a piece, whatever its stage: withdrawn where that is heard, closed where it is not, silent where
    /// nobody told lacks it, or where a master was sent all of it. The permit is free when the shell says so.
    pub(crate) fn retire(&mut self, desk: &mut Desk, piece: u32) {
        let permit = self.permit();
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let holders: Vec<ConnId> = active.leases.drain(..).collect();
        match active.stage {
            Stage::Retiring => return,
            Stage::Fetching => {
                self.fetching = self.fetching.saturating_sub(1);
                desk.stock.fetching = desk.stock.fetching.saturating_sub(permit);
                if active.why == crate::swarm::Why::Free {
                    let rest = active.size.saturating_sub(active.got);
                    self.account.in_flight = self.account.in_flight.saturating_sub(rest);
                }
            }
            Stage::Held => {
                self.held = self.held.saturating_sub(1);
                self.held_bytes = self.held_bytes.saturating_sub(active.size);
                self.left_dirty = true;
            }
        }
        active.stage = Stage::Retiring;
        active.uncovered.clear();
        desk.stock.retiring += permit;
        self.refund_feeds(desk);
        self.partial.remove(&piece);
        for conn in holders {
            self.end_lease(desk, conn, piece, true);
        }
        self.take_back(desk, piece);
        desk.out.push_back(Output::Retire(self.id, piece));
    }

    fn take_back(&mut self, desk: &mut Desk, piece: u32) {
        for conn in self.master_conns.clone() {
            if let Some(peer) = self.peers.get_mut(&conn)
                && peer.ext.donthave
                && peer.delivered.contains_key(&piece)
            {
                peer.shown.set(piece, false);
                desk.order(conn, Order::Withdraw(piece));
            }
        }
        let told: Vec<ConnId> = self
            .peers
            .values()
            .filter(|p| p.told.contains_key(&piece))
            .map(|p| p.conn)
            .collect();
        for conn in told {
            self.untell(desk, conn, piece);
            let Some(peer) = self.peers.get_mut(&conn) else {
                continue;
            };
            if peer.ext.donthave {
                peer.shown.set(piece, false);
                desk.order(conn, Order::Withdraw(piece));
            } else {
                desk.note(Note::Fired(conn, Defence::StaleCommitment));
                self.close(desk, conn);
            }
        }
    }

    /// The shell freed the permit.
    pub(crate) fn released(&mut self, desk: &mut Desk, piece: u32) {
        let permit = self.permit();
        if self
            .active
            .get(&piece)
            .is_none_or(|active| active.stage != Stage::Retiring)
        {
            return;
        }
        self.active.remove(&piece);
        desk.stock.used = desk.stock.used.saturating_sub(permit);
        desk.stock.retiring = desk.stock.retiring.saturating_sub(permit);
        desk.freed = true;
    }

    /// What a held piece would cost to give up; `None`: it stays.
    pub(crate) fn cost(&self, desk: &Desk, piece: u32, purpose: Purpose) -> Option<f64> {
        let active = self
            .active
            .get(&piece)
            .filter(|active| active.stage == Stage::Held && !self.aid.due(piece))?;
        let facts = EvictFacts {
            masters: active.ties.masters,
            delivered: self.delivered(piece),
            absent_master: self.absent_master_lacks(piece),
            firm: active.ties.firm,
            stale: active.ties.stale,
            lack: self.avail.lack(piece),
            idle: desk.now.since(active.touched),
        };
        evict::cost(desk.seen(facts), purpose)
    }

    /// The cheapest held pieces, at most so many; among equals those first that no HAVE is awaited for.
    fn victims(&self, desk: &Desk, purpose: Purpose, count: usize) -> Vec<u32> {
        let mut costs: Vec<(f64, bool, u32)> = self
            .active
            .keys()
            .filter_map(|p| Some((self.cost(desk, *p, purpose)?, self.delivered(*p), *p)))
            .collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let cheap = costs.iter().take_while(|cost| cost.0 <= 0.0).count();
        costs
            .iter()
            .take(if cheap > 0 { count.min(cheap) } else { 1 })
            .map(|cost| cost.2)
            .collect()
    }

    /// Sees to it that room comes: nothing to do while enough is on its way out, else the cheapest go, dead ones
    /// a sixteenth of the cache at a time so that the shell's answer is not waited for piece by piece.
    pub(crate) fn make_room(&mut self, desk: &mut Desk, purpose: Purpose) {
        let permit = self.permit();
        if desk.stock.retiring >= permit || desk.now < desk.no_room_until {
            return;
        }
        let batch = usize::try_from((desk.cap() / 16 / permit.max(1)).clamp(1, 256)).unwrap_or(1);
        let victims = self.victims(desk, purpose, batch);
        if victims.is_empty() {
            desk.room_wanted = desk.room_wanted.max(permit);
        }
        for piece in victims {
            self.retire(desk, piece);
        }
    }

    /// Gives up one piece of its own for a better one: its feeds may have no more cache.
    pub(crate) fn swap_out(&mut self, desk: &mut Desk, purpose: Purpose) {
        for piece in self.victims(desk, purpose, 1) {
            self.retire(desk, piece);
        }
    }

    /// Promise 6: one piece stays absent. True when one more may be fetched; else the least needed one is given up
    /// first, withdrawn before it goes.
    pub(crate) fn keeps_one_absent(&mut self, desk: &mut Desk, purpose: Purpose) -> bool {
        let total = self.pieces();
        if total <= 1 {
            return purpose == Purpose::Master;
        }
        if self.held + self.fetching + 2 <= total {
            return true;
        }
        let dead = self.victims(desk, purpose, 1);
        for piece in &dead {
            self.retire(desk, *piece);
        }
        !dead.is_empty()
    }

    /// Commitments that are over bind no longer, though the peer still lacks the piece.
    pub(crate) fn age_commitments(&mut self, desk: &Desk) {
        let mut over: BTreeMap<u32, u32> = BTreeMap::new();
        for peer in self.peers.values_mut() {
            for (piece, told) in peer
                .told
                .iter_mut()
                .filter(|(_, told)| told.tie == Tie::Firm)
            {
                let age = CommitAge {
                    quiet: desk.now.since(told.asked.unwrap_or(told.at)),
                    sent: told.sent.map(|at| desk.now.since(at)),
                };
                if commitment::stale(age) {
                    told.tie = Tie::Stale;
                    *over.entry(*piece).or_default() += 1;
                }
            }
        }
        for (piece, count) in over {
            if let Some(active) = self.active.get_mut(&piece) {
                (0..count).for_each(|_| {
                    active.ties.drop(Tie::Firm);
                    active.ties.add(Tie::Stale);
                });
            }
        }
    }
}
