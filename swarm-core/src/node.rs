//! The brain: facts in, decisions out.
//!
//! One swarm's decisions are methods of `Swarm`, spread over `node/*` by subject; what concerns
//! several swarms is here and in `node/{joining,masters,ticking}.rs`. What is shared lies on the desk. All judgement
//! is in [`crate::policy`].

mod aid;
mod choking;
mod desk;
mod dialing;
pub(crate) mod errands;
mod facts;
mod feeding;
mod fetching;
mod holding;
mod idle;
mod joining;
mod leases;
mod limiting;
mod masters;
mod plans;
pub(crate) mod rendezvous;
mod ticking;
mod viewing;

use crate::io::{
    ConnFact, ConnId, Contributor, Defence, Hold, Input, MasterId, Note, Order, Output, PieceFact,
    Rates, Role, Shown, SwarmId,
};
use crate::params::Params;
use crate::peer::{Class, Meter, Peer};
use crate::policy::evict::Purpose;
use crate::swarm::{Stage, Swarm};
use crate::time::Timestamp;
use crate::view::NodeView;
use aid::Aid;
use bt_wire::bitfield::Bitfield;
use core::time::Duration;
use desk::Desk;
use limiting::Quota;
use masters::{Master, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Every decision of one BTSlave: swarms, peers, pieces, masters.
///
/// Deterministic: the same parameters, seed and inputs give the same outputs, byte for byte. Inputs about things it
/// does not know are ignored; no input makes it panic.
#[derive(Debug)]
pub struct Node {
    desk: Desk,
    swarms: BTreeMap<SwarmId, Swarm>,
    masters: BTreeMap<MasterId, Master>,
    conns: BTreeMap<ConnId, SwarmId>,
    aid: Aid,
    quota: Quota,
    rated: Option<Rates>,
    /// Something the rates depend on may have changed.
    rates_due: bool,
    ticked: Timestamp,
    next_tick: Timestamp,
    next_rechoke: Timestamp,
}

/// What [`ConnFact::Connected`] says.
struct Arrival {
    swarm: SwarmId,
    addr: SocketAddr,
    incoming: bool,
    peer_id: [u8; 20],
    extended: bool,
}

impl Node {
    /// A node that knows nothing yet. `seed` feeds the only randomness there is.
    #[must_use]
    pub fn new(params: Params, seed: u64) -> Self {
        Self {
            aid: Aid::new(&params.friends),
            quota: Quota::new(&params),
            desk: Desk::new(params, seed),
            swarms: BTreeMap::new(),
            masters: BTreeMap::new(),
            conns: BTreeMap::new(),
            rated: None,
            rates_due: true,
            ticked: Timestamp::ZERO,
            next_tick: Timestamp::ZERO,
            next_rechoke: Timestamp::ZERO,
        }
    }

    /// Takes one fact. Time never runs backwards: an earlier `now` counts as the latest one seen.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.desk.now = self.desk.now.max(now);
        match input {
            Input::Swarm(id, fact) => self.swarm_fact(id, fact),
            Input::Conn(conn, facts) => facts
                .into_iter()
                .for_each(|fact| self.conn_fact(conn, fact)),
            Input::Piece(id, piece, fact) => self.piece_fact(id, piece, fact),
            Input::DialFailed(id, addr) => {
                self.master_dial_failed(id, addr);
                if let Some(swarm) = self.swarms.get_mut(&id) {
                    swarm.dial_failed(&self.desk, addr);
                }
                self.dial_all(Some(id));
            }
            Input::Master(id, fact) => {
                self.rates_due = true;
                self.master_fact(id, fact);
            }
            Input::Friends(input) => self.friends_input(input),
            Input::Limits(limits) => {
                self.desk.params.limits = limits;
                self.rates_due = true;
                self.desk.freed = true;
                self.ration();
                self.review();
            }
            Input::FeedCap(url, cap) => self.cap_feed(url, cap),
            Input::Paused(paused) => self.pause(paused),
            Input::Wall(wall) => self.wall(wall),
            Input::Carried(bytes) => {
                self.quota.carried(bytes);
                self.ration();
            }
            Input::Saved(total) => {
                self.quota.saved(total);
                self.ration();
            }
            Input::Timer => {}
        }
        if self.desk.now >= self.next_tick {
            self.tick();
        }
        self.settle();
    }

    /// The next decision, in order. Drain until `None` after every batch.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.out.pop_front()
    }

    /// When to hand in [`Input::Timer`] at the latest; `None`: never, for now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_timer()
    }

    /// Everything people are shown.
    #[must_use]
    pub fn view(&self) -> NodeView {
        viewing::view(self)
    }

    fn conn_fact(&mut self, conn: ConnId, fact: ConnFact) {
        if let ConnFact::Connected {
            swarm,
            addr,
            incoming,
            peer_id,
            extended,
            fast: _,
        } = fact
        {
            self.conns.insert(conn, swarm);
            return self.connected(
                conn,
                &Arrival {
                    swarm,
                    addr,
                    incoming,
                    peer_id,
                    extended,
                },
            );
        }
        let Some(id) = self.conns.get(&conn).copied() else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            if matches!(fact, ConnFact::Closed(_)) {
                self.conns.remove(&conn);
            }
            return;
        };
        self.rates_due |= matches!(
            fact,
            ConnFact::Closed(_)
                | ConnFact::Extended(_)
                | ConnFact::Bitfield(_)
                | ConnFact::HaveAll
                | ConnFact::HaveNone
        );
        match fact {
            ConnFact::Closed(_) => {
                swarm.gone(&mut self.desk, conn);
                swarm.recognise(&mut self.desk, &self.masters);
                self.conns.remove(&conn);
                self.sweep();
            }
            _ if swarm.peers.get(&conn).is_none_or(|peer| peer.closing) => {}
            ConnFact::Slave(open) => swarm.is_slave(&mut self.desk, conn, open),
            ConnFact::Extended(ext) => {
                swarm.extended(&mut self.desk, conn, ext);
                swarm.recognise(&mut self.desk, &self.masters);
            }
            other @ (ConnFact::Bitfield(_)
            | ConnFact::HaveAll
            | ConnFact::HaveNone
            | ConnFact::Have(_)
            | ConnFact::DontHave(_)
            | ConnFact::Interested(_)
            | ConnFact::Choking(_)
            | ConnFact::AllowedFast(_)
            | ConnFact::Requested { .. }
            | ConnFact::Served { .. }
            | ConnFact::Refused { .. }
            | ConnFact::Received { .. }
            | ConnFact::LeaseLow { .. }
            | ConnFact::LeaseDone { .. }
            | ConnFact::LeaseLost { .. }
            | ConnFact::Connected { .. }) => swarm.conn_fact(&mut self.desk, conn, other),
        }
    }

    /// A hand-shake was done: let in with a hello, or refused.
    fn connected(&mut self, conn: ConnId, arrival: &Arrival) {
        let ours = arrival.peer_id == self.desk.params.peer_id;
        let full = self.conns.len() > self.desk.params.limits.connections as usize;
        let Some(swarm) = self.swarms.get_mut(&arrival.swarm) else {
            return self.desk.order(conn, Order::Close);
        };
        if let Some(known) = swarm
            .book
            .get_mut(&arrival.addr)
            .filter(|_| !arrival.incoming)
        {
            known.dialling = None;
            known.ours |= ours;
        }
        let peer = newcomer(conn, arrival, swarm.pieces(), self.desk.now);
        swarm.peers.insert(conn, peer);
        let verdict = swarm.judge(&self.masters, conn);
        let master = matches!(verdict, Verdict::Master(_));
        let same = |p: &&Peer| p.conn != conn && !p.closing && p.peer_id == arrival.peer_id;
        let twin = swarm.peers.values().find(same).map(|p| p.conn);
        if swarm.meets() && !ours {
            swarm.met(&mut self.desk, conn, arrival);
        }
        if let Some(twin) = twin.filter(|_| !ours && !arrival.incoming) {
            swarm.tie_to_twin(arrival.addr, twin);
        }
        let refusal = if ours || twin.is_some() {
            Some(Defence::DuplicatePeer)
        } else if swarm.banned.contains(&arrival.addr.ip()) && !master {
            Some(Defence::SmartBan)
        } else if !master
            && (full || (swarm.meets() && !swarm.has_seat(&mut self.desk, conn, arrival.incoming)))
        {
            Some(Defence::ConnectionLimit)
        } else {
            None
        };
        if let Some(why) = refusal {
            swarm.peers.remove(&conn);
            for link in swarm
                .links
                .values_mut()
                .filter(|_| master && !arrival.incoming)
            {
                link.dialling = None;
                link.next = self.desk.now + Duration::from_secs(5);
            }
            return Swarm::refuse(&mut self.desk, conn, why);
        }
        if !swarm.joined() || self.desk.stopped() {
            swarm.peers.remove(&conn);
            return self.desk.order(conn, Order::Close);
        }
        let guest = self.aid.guest(arrival).filter(|_| verdict == Verdict::Peer);
        let verdict = guest.map_or(verdict, |key| Verdict::Guest(key.0));
        swarm.greet(&mut self.desk, conn, verdict);
        swarm.recognise(&mut self.desk, &self.masters);
        if let Some(key) = guest {
            self.guest_came(key, arrival.swarm, conn);
        }
    }

    fn piece_fact(&mut self, id: SwarmId, piece: u32, fact: PieceFact) {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        match fact {
            PieceFact::Checked {
                ok: true,
                contributors,
            } => {
                self.aid.relayed(self.desk.now, swarm, piece, &contributors);
                swarm.cleared(piece, &contributors);
                swarm.verified(&mut self.desk, piece);
            }
            PieceFact::Checked {
                ok: false,
                contributors,
            } => swarm.failed(&mut self.desk, piece, &contributors),
            PieceFact::Released => swarm.released(&mut self.desk, piece),
            PieceFact::Damaged => swarm.retire(&mut self.desk, piece),
        }
        if swarm.forgotten {
            self.sweep();
        }
    }

    /// What every input may have set free: starved connections, and the rates.
    fn settle(&mut self) {
        for _ in 0..4 {
            if self.desk.freed && self.desk.now >= self.desk.no_room_until {
                self.desk.freed = false;
                let starved = core::mem::take(&mut self.desk.starved);
                for (id, conn) in starved {
                    if let Some(swarm) = self.swarms.get_mut(&id) {
                        swarm.top_up(&mut self.desk, conn);
                    }
                }
            }
            let wanted = core::mem::take(&mut self.desk.room_wanted);
            if wanted > 0 && self.desk.stock.retiring < wanted {
                self.evict_anywhere();
            }
            if !self.desk.freed {
                break;
            }
        }
        if !self.desk.starved.is_empty() && self.desk.now >= self.desk.no_room_until {
            self.desk.no_room_until = Timestamp::ZERO;
        }
        self.say_rates();
    }

    fn say_rates(&mut self) {
        if !core::mem::take(&mut self.rates_due) {
            return;
        }
        let rates = self.rates();
        if self.rated.as_ref() != Some(&rates) {
            self.rated = Some(rates.clone());
            self.desk.out.push_back(Output::Rates(rates));
        }
    }

    /// Gives up the cheapest piece of all swarms. Only for masters' sake, or to fit a smaller cache.
    fn evict_anywhere(&mut self) -> bool {
        let purpose = if self.swarms.values().any(Swarm::master_demand) {
            Purpose::Master
        } else {
            Purpose::Free(1.0)
        };
        let over = self
            .desk
            .stock
            .used
            .saturating_sub(self.desk.stock.retiring)
            > self.desk.cap();
        let purpose = if over { Purpose::Master } else { purpose };
        self.evict_cheapest(purpose, |_| true).is_some()
    }

    /// Gives up the cheapest piece of these swarms, and says how many bytes that will free.
    fn evict_cheapest(&mut self, purpose: Purpose, of: impl Fn(&Swarm) -> bool) -> Option<u64> {
        let swarms = self.swarms.values().filter(|swarm| of(swarm));
        let costs = swarms.flat_map(|swarm| {
            let desk = &self.desk;
            let cost =
                move |piece: &u32| Some((swarm.cost(desk, *piece, purpose)?, swarm.id, *piece));
            swarm.active.keys().filter_map(cost)
        });
        let cheapest = costs.min_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (_, id, piece) = cheapest?;
        let swarm = self.swarms.get_mut(&id)?;
        swarm.retire(&mut self.desk, piece);
        Some(swarm.permit())
    }

    /// Dials for one swarm, or for all, within the connection limit.
    fn dial_all(&mut self, only: Option<SwarmId>) {
        let masters = self.all_master_addrs();
        let mut budget =
            (self.desk.params.limits.connections as usize).saturating_sub(self.conns.len());
        for swarm in self
            .swarms
            .values_mut()
            .filter(|swarm| only.is_none_or(|id| id == swarm.id))
        {
            budget -= swarm.dial(&mut self.desk, budget, &masters).min(budget);
        }
        if only.is_some() {
            self.dial_masters();
        }
    }
}

fn newcomer(conn: ConnId, arrival: &Arrival, pieces: u32, now: Timestamp) -> Peer {
    Peer {
        conn,
        addr: arrival.addr,
        incoming: arrival.incoming,
        peer_id: arrival.peer_id,
        extended: arrival.extended,
        slave: None,
        stood: false,
        reached: (!arrival.incoming).then_some(arrival.addr),
        stranger: None,
        ext: crate::io::Extended::default(),
        ext_seen: false,
        role: Role::Peer,
        suspect: false,
        closing: false,
        since: now,
        known: false,
        have: Bitfield::new(pieces),
        class: Class::Unknown,
        shown: Bitfield::new(pieces),
        told: BTreeMap::new(),
        delivered: BTreeMap::new(),
        chokes_us: true,
        allowed: BTreeSet::new(),
        said: now,
        wants_us: false,
        unchoked: false,
        prompted: now,
        interested: false,
        useful: now,
        open: now,
        leases: BTreeMap::new(),
        outstanding: 0,
        told_rate: 0,
        refused: BTreeMap::new(),
        last_asked: None,
        last_served: now,
        fed: 0,
        fruitless: 0,
        down_then: 0,
        up: Meter::default(),
        down: Meter::default(),
    }
}

impl Swarm {
    /// Says hello: what we show, and what it is to us.
    fn greet(&mut self, desk: &mut Desk, conn: ConnId, verdict: Verdict) {
        let whole = self.pieces() == 1 && self.held == 1;
        let have = if self.hold == Hold::Kept || whole {
            Shown::All
        } else if self.layout.is_none() {
            Shown::Unknown
        } else {
            Shown::None
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.suspect = verdict == Verdict::Wait;
        peer.role = verdict.role();
        if have == Shown::All {
            peer.shown = Bitfield::full(peer.shown.len());
        }
        desk.order(
            conn,
            Order::Hello {
                have,
                role: peer.role,
            },
        );
        if let Some(known) = self.book.get_mut(&peer.addr).filter(|_| !peer.incoming) {
            known.conn = Some(conn);
            known.dialling = None;
        }
        if peer.only_given() {
            self.enter_role(desk, conn);
        }
    }

    /// The hash was wrong: the only giver is banned; of several, each is suspect, and the piece is next fetched from
    /// one peer alone (smart ban).
    fn failed(&mut self, desk: &mut Desk, piece: u32, contributors: &[Contributor]) {
        let permit = self.permit();
        let Some(active) = self
            .active
            .get_mut(&piece)
            .filter(|a| a.stage == Stage::Fetching)
        else {
            return;
        };
        let (size, in_flight) = (active.size, active.size.saturating_sub(active.got));
        active.stage = Stage::Retiring;
        active.uncovered.clear();
        let holders: Vec<ConnId> = active.leases.drain(..).collect();
        if active.why == crate::swarm::Why::Free {
            self.account.in_flight = self.account.in_flight.saturating_sub(in_flight);
            self.account.wrong += size;
            // The swarm may want us none the less.
            self.account.late = true;
        }
        self.fetching = self.fetching.saturating_sub(1);
        self.partial.remove(&piece);
        desk.stock.fetching = desk.stock.fetching.saturating_sub(permit);
        desk.stock.retiring += permit;
        for conn in holders {
            self.end_lease(desk, conn, piece, true);
        }
        self.wasted += size;
        desk.wasted += size;
        desk.note(Note::Wasted(self.id, size));
        let ips: BTreeSet<_> = contributors
            .iter()
            .filter_map(|one| Some(self.peers.get(&one.conn)?.addr.ip()))
            .collect();
        let only = contributors.len() == 1;
        for ip in &ips {
            let strikes = self.strikes.entry(*ip).or_default();
            *strikes += if only { 2 } else { 1 };
            if *strikes >= 2 {
                self.ban(desk, *ip);
            }
        }
        if !only {
            self.alone.insert(piece);
        }
    }

    /// Who brought a suspect piece alone, and right, is no longer suspected.
    fn cleared(&mut self, piece: u32, contributors: &[Contributor]) {
        if self.alone.contains(&piece)
            && let [only] = contributors
            && let Some(peer) = self.peers.get(&only.conn)
        {
            self.strikes.remove(&peer.addr.ip());
        }
    }

    fn ban(&mut self, desk: &mut Desk, ip: std::net::IpAddr) {
        self.banned.insert(ip);
        desk.note(Note::Banned(self.id, ip));
        let conns: Vec<ConnId> = self
            .peers
            .values()
            .filter(|p| p.addr.ip() == ip)
            .map(|p| p.conn)
            .collect();
        for conn in conns {
            desk.note(Note::Fired(conn, Defence::SmartBan));
            self.close(desk, conn);
        }
    }
}
