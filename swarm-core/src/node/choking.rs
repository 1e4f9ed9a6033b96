//! Whom we unchoke, and whom we tell that we are interested.

use crate::io::{ConnId, Hold, Order};
use crate::node::desk::Desk;
use crate::peer::Peer;
use crate::policy::choke::{self, ChokeFacts, RemindFacts};
use crate::policy::gate;
use crate::policy::interest::{self, HYSTERESIS, InterestFacts};
use crate::swarm::Swarm;
use crate::time::Timestamp;

impl Swarm {
    /// What strangers get pays for what a master or a friend waits for.
    fn pays(&self) -> bool {
        self.hold == Hold::Cache && (self.master_demand() || !self.aid.given.is_empty())
    }

    /// Upload slots of this swarm.
    fn slots(&self, desk: &Desk) -> usize {
        let capacity = desk.capacity() as u64;
        if !self.pays() {
            return choke::slots(capacity);
        }
        let given = self.peers.values().filter(|peer| peer.only_given());
        let elsewhere: f64 = given.map(|peer| peer.up.rate).sum();
        choke::payers(capacity, elsewhere as u64)
    }

    pub(crate) fn unchoke(&mut self, desk: &mut Desk, conn: ConnId, yes: bool) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if peer.unchoked != yes && !peer.closing {
            peer.unchoked = yes;
            peer.prompted = desk.now;
            desk.order(conn, Order::Unchoke(yes));
        }
    }

    /// A peer that could ask and does not is told once more that it may.
    pub(crate) fn prompt(&mut self, desk: &mut Desk, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if !peer.unchoked || !peer.wants_us || peer.closing || peer.only_given() {
            return;
        }
        let quiet = desk.now.since(peer.last_asked.unwrap_or(peer.since));
        let unasked = peer.told.values().any(|told| told.asked.is_none());
        // Who never asks is not reminded for ever.
        let asks = peer.asks(desk.now, gate::DEAF_AFTER);
        let facts = RemindFacts {
            quiet,
            told: desk.now.since(peer.prompted),
        };
        if unasked && asks && choke::says_again(desk.seen(facts)) {
            peer.prompted = desk.now;
            desk.order(conn, Order::Unchoke(true));
        }
    }

    /// It became (un)interested: a free slot is given at once.
    pub(crate) fn wants_us(&mut self, desk: &mut Desk, conn: ConnId, yes: bool) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.wants_us = yes;
        if peer.only_given() || !yes || peer.unchoked || !self.joined() {
            return;
        }
        self.demand_seen = desk.now;
        let taken = self
            .peers
            .values()
            .filter(|p| p.unchoked && p.wants_us && !p.only_given())
            .count();
        if taken < self.slots(desk) {
            self.unchoke(desk, conn, true);
        }
    }

    /// Every ten seconds: the slots go where a byte does most, or to those that pay for what others wait for.
    pub(crate) fn rechoke(&mut self, desk: &mut Desk) {
        for peer in self.peers.values_mut() {
            let before = core::mem::replace(&mut peer.down_then, peer.down.total);
            peer.fed = choke::fed(peer.fed, peer.down.total.saturating_sub(before));
        }
        let paying = self.pays();
        let wanting = self
            .peers
            .values()
            .filter(|p| p.wants_us && !p.only_given() && !p.closing);
        let mut ranked: Vec<(f64, ConnId)> = wanting
            .map(|peer| {
                let facts = self.choke_facts(desk.now, peer, paying);
                (choke::score(&desk.seen(facts)), peer.conn)
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let ranked: Vec<ConnId> = ranked.into_iter().map(|(_, conn)| conn).collect();
        let slots = self.slots(desk);
        let paid = |conn: &&ConnId| self.peers.get(conn).is_some_and(|peer| peer.fed > 0);
        let payers = ranked.iter().filter(paid).count();
        let turning = if paying {
            choke::turning(slots, payers)
        } else {
            0
        };
        let (best, others) = ranked.split_at((slots - turning).min(ranked.len()));
        self.turn_slots(desk.now, others, turning);
        for conn in best {
            self.unchoke(desk, *conn, true);
        }
        for conn in others {
            self.unchoke(desk, *conn, self.turns.contains_key(conn));
        }
    }

    fn choke_facts(&self, now: Timestamp, peer: &Peer, paying: bool) -> ChokeFacts {
        ChokeFacts {
            feeds: peer.down.rate,
            paid: paying.then_some(peer.fed),
            wants: if self.hold == Hold::Kept {
                u64::from(peer.have.len() - peer.have.count_ones()) * self.permit()
            } else {
                peer.pending(self.permit())
            },
            piece: self.permit(),
            waited: now.since(peer.last_served),
            unchoked: peer.unchoked,
        }
    }

    /// Pieces that it has and that one of those lacks whom we fetch for.
    fn brings(&self, peer: &Peer) -> u32 {
        let guests = self.aid.given.values().filter_map(|errand| errand.conn);
        let takers = self.master_conns.iter().copied().chain(guests);
        let lacks = takers.filter_map(|conn| {
            let taker = self.peers.get(&conn)?;
            Some(peer.have.count_missing_in(&taker.have))
        });
        lacks.max().unwrap_or_default()
    }

    /// So many slots turn among these: each stays for a while with who could bring most of what we fetch for others. Who gave
    /// nothing in a turn comes after those that had fewer such turns. Where fewer turn than before, the oldest turns end.
    fn turn_slots(&mut self, now: Timestamp, among: &[ConnId], slots: usize) {
        let over = |since: Timestamp| now.since(since) >= choke::TURN;
        for conn in self.turns.iter().filter(|turn| over(*turn.1)).map(|t| t.0) {
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.fruitless = choke::fruitless(peer.fruitless, peer.fed);
            }
        }
        self.turns
            .retain(|conn, since| among.contains(conn) && !over(*since));
        let mut oldest: Vec<_> = self.turns.iter().map(|(c, since)| (*since, *c)).collect();
        oldest.sort_unstable();
        for (_, conn) in &oldest[..oldest.len().saturating_sub(slots)] {
            self.turns.remove(conn);
        }
        let free = slots.saturating_sub(self.turns.len());
        if free == 0 {
            return;
        }
        let waiting = among
            .iter()
            .filter(|conn| !self.turns.contains_key(conn))
            .filter_map(|conn| self.peers.get(conn))
            .filter(|peer| peer.pending(self.permit()) > 0);
        let mut waiting: Vec<_> = waiting
            .map(|peer| {
                let brings = core::cmp::Reverse(self.brings(peer));
                (peer.fruitless, brings, peer.last_served, peer.conn)
            })
            .collect();
        waiting.sort_unstable();
        let next = waiting.into_iter().take(free);
        self.turns.extend(next.map(|(.., conn)| (conn, now)));
    }

    /// Any piece it has and we lack may be worth having one day.
    fn has_something(&self, peer: &Peer) -> bool {
        peer.have
            .iter_ones()
            .any(|piece| !self.active.contains_key(&piece))
    }

    /// There is somebody to fetch for, or may soon be.
    fn may_fetch_at_all(&self, desk: &Desk) -> bool {
        let free = self.repeats(desk)
            && (self.avail.downloaders > 0 || desk.now.since(self.demand_seen) < HYSTERESIS);
        self.joined()
            && self.caches()
            && (free || self.master_demand() || !self.aid.given.is_empty())
    }

    /// Says that we are interested where that is so, and takes it back a minute after the last reason.
    pub(crate) fn consider_interest(&mut self, desk: &mut Desk, conn: ConnId) {
        let reason = self.may_fetch_at_all(desk);
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let useful = reason && !peer.only_given() && !peer.suspect && self.has_something(peer);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if useful {
            peer.useful = desk.now;
        }
        if peer.closing {
            return;
        }
        let facts = InterestFacts {
            interested: peer.interested && !peer.only_given(),
            unuseful_for: desk.now.since(peer.useful),
            chokes: peer.chokes_us,
            useful,
            said: desk.now.since(peer.said),
        };
        let facts = desk.seen(facts);
        let wish = interest::wishes(facts);
        if wish != peer.interested || interest::says_again(facts) {
            peer.interested = wish;
            peer.said = desk.now;
            desk.order(conn, Order::Interested(wish));
        }
    }
}
