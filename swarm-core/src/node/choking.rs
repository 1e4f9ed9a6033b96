//! Whom we unchoke, and whom we tell that we are interested.

use crate::io::{ConnId, Hold, Order};
use crate::node::desk::Desk;
use crate::peer::Peer;
use crate::policy::choke::{self, ChokeFacts, RemindFacts, Slots};
use crate::policy::gate;
use crate::policy::interest::{self, HYSTERESIS, InterestFacts};
use crate::swarm::Swarm;

impl Swarm {
    /// Upload slots of this swarm.
    fn slots(&self, desk: &Desk) -> Slots {
        let capacity = desk.capacity() as u64;
        if !self.master_demand() && self.aid.given.is_empty() {
            return choke::gift(capacity);
        }
        let given = self.peers.values().filter(|peer| peer.only_given());
        let elsewhere: f64 = given.map(|peer| peer.up.rate).sum();
        choke::trade(capacity, elsewhere as u64)
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
        if taken < self.slots(desk).count() {
            self.unchoke(desk, conn, true);
        }
    }

    /// Every ten seconds: the slots go where a byte does most.
    pub(crate) fn rechoke(&mut self, desk: &mut Desk) {
        let facts = |peer: &Peer| ChokeFacts {
            feeds: peer.down.rate,
            wants: if self.hold == Hold::Kept {
                u64::from(peer.have.len() - peer.have.count_ones()) * self.permit()
            } else {
                peer.pending(self.permit())
            },
            piece: self.permit(),
            waited: desk.now.since(peer.last_served),
            unchoked: peer.unchoked,
        };
        let wanting = self
            .peers
            .values()
            .filter(|p| p.wants_us && !p.only_given() && !p.closing);
        let (conns, facts): (Vec<ConnId>, Vec<ChokeFacts>) = wanting
            .map(|peer| (peer.conn, desk.seen(facts(peer))))
            .unzip();
        let slots = self.slots(desk);
        for (at, index) in choke::order(&facts, slots).into_iter().enumerate() {
            if let Some(conn) = conns.get(index) {
                self.unchoke(desk, *conn, at < slots.count());
            }
        }
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
