//! A virtual swarm in virtual time around one real `Node`: the shell and the peers are modelled at the level of
//! pieces and leases, with shared upload lines, unchoke slots, rarest-first picking and HAVEs.
//!
//! It also keeps watch: the cache's permits, the honesty of what stands announced, and that a master is never asked.

mod choking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use swarm_core::io::{
    Batch, CloseReason, ConnFact, ConnId, Extended, Fetch, Geometry, Hold, Input, Limits,
    MasterFact, MasterId, Note, Order, Origin, Output, PieceFact, Role, Shown, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const SWARM: SwarmId = SwarmId(1);
const US: usize = usize::MAX;
const BLOCK: u64 = 16_384;

pub fn limits(cache: u64, upload: Option<u64>) -> Limits {
    Limits {
        upload,
        cache,
        cache_memory: cache,
        ..Limits::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Seed,
    Leecher,
    /// Wants from us alone; uploads nothing.
    Master,
    /// Says it is interested, and never asks for anything.
    Deaf,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub up: u64,
    pub donthave: bool,
    /// Seconds until it dials us; `None` = we dial it.
    pub dials_at: Option<f64>,
}

#[derive(Debug)]
pub struct VPeer {
    pub plan: Plan,
    pub addr: SocketAddr,
    pub conn: Option<ConnId>,
    pub have: Vec<bool>,
    pub got: Vec<u64>,
    pub told: BTreeSet<u32>,
    pub done_at: Option<f64>,
    pub closed: u32,
    pub from_us: u64,
    greeted: bool,
    unchoked: bool,
    interested: bool,
    we_want: bool,
    serves: BTreeSet<usize>,
    /// Since when each has his slot, and what he was given in it.
    turns: BTreeMap<usize, (f64, u64)>,
    /// What each gave since the last choking.
    gave: BTreeMap<usize, u64>,
    optimistic: Option<usize>,
    asked_before: bool,
    leases: VecDeque<(u32, u64)>,
    current: BTreeMap<usize, u32>,
    facts: Vec<ConnFact>,
}

#[derive(Debug, Default)]
struct Buffer {
    missing: u64,
    held: bool,
    announce: Vec<ConnId>,
    contributors: Vec<ConnId>,
}

pub struct Sim {
    pub node: Node,
    pub t: f64,
    pub dt: f64,
    pub peers: Vec<VPeer>,
    pub up_rate: f64,
    pub up: u64,
    pub down: u64,
    pub to_master: u64,
    pub peak: u64,
    pub notes: Vec<Note>,
    pub log: Vec<Batch>,
    pub outputs: Vec<Output>,
    pub left_swarm: Option<f64>,
    pub samples: Vec<(f64, u64)>,
    pub fetched: Vec<u32>,
    pub slots: usize,
    cap: u64,
    piece: u64,
    total: u64,
    count: u32,
    cache: BTreeMap<u32, Buffer>,
    next_conn: u64,
    rng: u64,
    rechoke: f64,
    rechokes: u32,
    released: Vec<u32>,
    redial: Vec<(f64, usize)>,
}

pub struct Shape {
    pub piece: u64,
    pub total: u64,
    pub limits: Limits,
    /// Bytes/s our line really carries.
    pub line: u64,
    pub origin: Origin,
    pub seed: u64,
    pub dt: f64,
}

impl Sim {
    pub fn new(shape: Shape, plans: Vec<Plan>) -> Self {
        let count = u32::try_from(shape.total.div_ceil(shape.piece)).expect("few pieces");
        let peers = plans
            .into_iter()
            .enumerate()
            .map(|(i, plan)| vpeer(i, plan, count))
            .collect();
        let cap = shape.limits.cache;
        let mut sim = Self {
            node: Node::new(
                Params::new(shape.limits, *b"-BS0100-ourselves!!!"),
                shape.seed,
            ),
            t: 0.0,
            dt: shape.dt,
            peers,
            up_rate: shape.line as f64,
            up: 0,
            down: 0,
            to_master: 0,
            peak: 0,
            notes: Vec::new(),
            log: Vec::new(),
            outputs: Vec::new(),
            left_swarm: None,
            samples: Vec::new(),
            fetched: vec![0; count as usize],
            slots: 8,
            cap,
            piece: shape.piece,
            total: shape.total,
            count,
            cache: BTreeMap::new(),
            next_conn: 0,
            rng: shape.seed ^ 0xabcdef,
            rechoke: 0.0,
            rechokes: 0,
            released: Vec::new(),
            redial: Vec::new(),
        };
        let inputs = sim.introduction(shape.origin);
        sim.feed(inputs);
        sim
    }

    /// What the shell says first: the masters, the swarm, and the peers that a tracker names.
    fn introduction(&self, origin: Origin) -> Vec<Input> {
        let masters: Vec<SocketAddr> = self
            .peers
            .iter()
            .filter(|p| p.plan.kind == Kind::Master)
            .map(|p| p.addr)
            .collect();
        let mut inputs = Vec::new();
        if !masters.is_empty() {
            let configured = MasterFact::Configured {
                name: "home".into(),
                share: 0.5,
                slave_key: 7,
            };
            inputs.push(Input::Master(MasterId(1), configured));
            inputs.push(Input::Master(MasterId(1), MasterFact::Resolved(masters)));
        }
        let geometry = Geometry {
            piece_length: u32::try_from(self.piece).expect("small"),
            total: self.total,
        };
        let known = SwarmFact::Known {
            info_hash: [9; 20],
            name: "virtual".into(),
            geometry: Some(geometry),
            private: false,
            hold: Hold::Cache,
            origin,
            pinned: false,
        };
        inputs.push(Input::Swarm(SWARM, known));
        let undialled = self
            .peers
            .iter()
            .filter(|p| p.plan.dials_at.is_none() && p.plan.kind != Kind::Master);
        let named = undialled.map(|p| p.addr).collect();
        inputs.push(Input::Swarm(
            SWARM,
            SwarmFact::Peers(named, swarm_core::io::PeerSource::Tracker),
        ));
        inputs
    }

    pub fn now(&self) -> Timestamp {
        Timestamp((self.t * 1e6) as u64)
    }

    fn size(&self, piece: u32) -> u64 {
        (self.total - u64::from(piece) * self.piece).min(self.piece)
    }

    fn random(&mut self) -> u64 {
        self.rng = self
            .rng
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.rng >> 33
    }

    /// Hands in a batch and carries out what comes of it, until nothing does.
    pub fn feed(&mut self, mut inputs: Vec<Input>) {
        let now = self.now();
        while !inputs.is_empty() {
            self.log.push(Batch {
                now,
                inputs: inputs.clone(),
            });
            for input in inputs.drain(..) {
                self.node.handle(now, input);
            }
            let mut outs = Vec::new();
            while let Some(output) = self.node.poll_output() {
                outs.push(output);
            }
            for output in outs {
                self.outputs.push(output.clone());
                self.carry_out(output, &mut inputs);
            }
            for piece in std::mem::take(&mut self.released) {
                self.cache.remove(&piece);
                inputs.push(Input::Piece(SWARM, piece, PieceFact::Released));
            }
            self.check();
        }
    }

    fn check(&mut self) {
        let used = self.cache.len() as u64 * self.piece;
        self.peak = self.peak.max(used);
        assert!(
            used <= self.cap,
            "cache over its cap: {used} > {}",
            self.cap
        );
        let held = self.cache.values().filter(|b| b.held).count();
        assert!(
            self.count == 1 || held < self.count as usize,
            "we hold every piece"
        );
        for peer in self.peers.iter().filter(|p| p.conn.is_some() && p.unchoked) {
            for piece in &peer.told {
                let honest =
                    peer.have[*piece as usize] || self.cache.get(piece).is_some_and(|b| b.held);
                assert!(
                    honest,
                    "{:?} unchoked, and piece {piece} stands announced but is gone",
                    peer.plan.kind
                );
            }
            let looks_full = self.count > 1 && peer.told.len() == self.count as usize;
            assert!(
                !(looks_full && peer.plan.donthave),
                "we look like a seed to {:?}",
                peer.plan.kind
            );
        }
    }

    fn carry_out(&mut self, output: Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Order(conn, order) => self.order(conn, order, inputs),
            Output::Dial(_, addr) => {
                let Some(i) = self
                    .peers
                    .iter()
                    .position(|p| p.addr == addr && p.conn.is_none())
                else {
                    inputs.push(Input::DialFailed(SWARM, addr));
                    return;
                };
                if self.peers[i].plan.dials_at.is_some_and(|at| at > self.t) {
                    inputs.push(Input::DialFailed(SWARM, addr));
                } else {
                    self.connect(i, false, inputs);
                }
            }
            Output::Retire(_, piece) => {
                assert!(
                    self.cache.contains_key(&piece),
                    "retired what is not there: {piece}"
                );
                for peer in &mut self.peers {
                    peer.leases.retain(|(p, _)| *p != piece);
                    let ours = peer.current.get(&US) == Some(&piece);
                    if ours {
                        peer.current.remove(&US);
                    }
                }
                self.released.push(piece);
            }
            Output::Note(note) => self.notes.push(note),
            Output::Leave(_) => self.left_swarm = Some(self.t),
            Output::Join(_)
            | Output::Forget(_)
            | Output::Scrape(_)
            | Output::WantPeers(_)
            | Output::Left(..)
            | Output::Listed(..)
            | Output::Friends(_)
            | Output::Rates(_)
            | Output::Save(_)
            | Output::Allow(_) => {}
        }
    }

    fn connect(&mut self, i: usize, incoming: bool, inputs: &mut Vec<Input>) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let mut peer_id = *b"-VP0001-000000000000";
        peer_id[19] = u8::try_from(i).expect("few peers");
        let peer = &mut self.peers[i];
        peer.conn = Some(conn);
        peer.greeted = false;
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr: peer.addr,
            incoming,
            peer_id,
            fast: true,
            extended: true,
        };
        let ext = Extended {
            donthave: peer.plan.donthave,
            reqq: Some(500),
            ..Extended::default()
        };
        let set = if peer.plan.kind == Kind::Seed {
            ConnFact::HaveAll
        } else {
            ConnFact::Bitfield(wire(&peer.have))
        };
        let mut facts = vec![connected, ConnFact::Extended(ext), set];
        if peer.plan.kind == Kind::Deaf {
            facts.push(ConnFact::Interested(true));
        }
        inputs.push(Input::Conn(conn, facts));
    }

    fn disconnect(&mut self, i: usize) {
        let peer = &mut self.peers[i];
        peer.conn = None;
        peer.told.clear();
        peer.leases.clear();
        peer.unchoked = false;
        peer.interested = false;
        peer.we_want = false;
        peer.serves.remove(&US);
        peer.turns.remove(&US);
        peer.asked_before = false;
        peer.current.remove(&US);
        peer.facts.clear();
        peer.closed += 1;
    }

    fn order(&mut self, conn: ConnId, order: Order, inputs: &mut Vec<Input>) {
        let Some(i) = self.peers.iter().position(|p| p.conn == Some(conn)) else {
            return;
        };
        let held =
            |piece: u32, cache: &BTreeMap<u32, Buffer>| cache.get(&piece).is_some_and(|b| b.held);
        match order {
            Order::Hello { have, role } => {
                assert_eq!(have, Shown::None);
                assert!(!self.peers[i].greeted, "hello twice");
                assert_eq!(
                    matches!(role, Role::Master(_)),
                    self.peers[i].plan.kind == Kind::Master
                );
                self.peers[i].greeted = true;
            }
            Order::Role(_) => {}
            Order::Unchoke(yes) => {
                self.peers[i].unchoked = yes;
                if !yes {
                    self.peers[i].current.remove(&US);
                }
            }
            Order::Interested(yes) => {
                assert!(
                    !yes || self.peers[i].plan.kind != Kind::Master,
                    "interested in a master"
                );
                self.peers[i].we_want = yes;
                self.peers[i].asked_before = false;
            }
            Order::Announce(piece) => {
                assert!(
                    held(piece, &self.cache),
                    "announced piece {piece}, which is not held"
                );
                self.peers[i].told.insert(piece);
            }
            Order::Withdraw(piece) => {
                if self.peers[i].plan.donthave {
                    self.peers[i].told.remove(&piece);
                }
                if self.peers[i].current.get(&US) == Some(&piece) {
                    self.peers[i].current.remove(&US);
                }
            }
            Order::Fetch(fetch) => self.lease(i, &fetch),
            Order::Revoke(piece) => self.peers[i].leases.retain(|(p, _)| *p != piece),
            Order::Close => {
                self.disconnect(i);
                inputs.push(Input::Conn(conn, vec![ConnFact::Closed(CloseReason::Ours)]));
            }
        }
    }

    /// A lease of what is still missing; of what is there already, nothing is left to do.
    fn lease(&mut self, i: usize, fetch: &Fetch) {
        assert!(
            self.peers[i].plan.kind != Kind::Master,
            "a block request to a master"
        );
        let size = self.size(fetch.piece);
        let buffer = self.cache.entry(fetch.piece).or_default();
        if buffer.held || (buffer.missing == 0 && !buffer.contributors.is_empty()) {
            let piece = fetch.piece;
            self.peers[i].facts.push(ConnFact::LeaseDone { piece });
            return;
        }
        if buffer.contributors.is_empty() && buffer.missing == 0 {
            buffer.missing = size;
            self.fetched[fetch.piece as usize] += 1;
        }
        buffer.announce = fetch.announce.to_vec();
        let range = u64::from(fetch.blocks.end - fetch.blocks.start) * BLOCK;
        let bytes = range.min(size).min(buffer.missing);
        self.peers[i].leases.push_back((fetch.piece, bytes));
    }

    /// One step of virtual time.
    pub fn step(&mut self) {
        self.t += self.dt;
        let mut inputs = Vec::new();
        let mut due: Vec<usize> = (0..self.peers.len())
            .filter(|i| {
                self.peers[*i]
                    .plan
                    .dials_at
                    .is_some_and(|at| at <= self.t && at > self.t - self.dt - 1e-9)
            })
            .collect();
        let t = self.t;
        due.extend(
            self.redial
                .iter()
                .filter(|(at, _)| *at <= t)
                .map(|(_, i)| *i),
        );
        self.redial.retain(|(at, _)| *at > t);
        for i in due {
            if self.peers[i].conn.is_none() {
                self.connect(i, true, &mut inputs);
            }
        }
        self.feed(inputs);
        if self.t >= self.rechoke {
            self.rechoke = self.t + 15.0;
            self.peers_rechoke();
        }
        self.fill_slots();
        for i in 0..self.peers.len() {
            self.upload_of(i);
        }
        self.our_upload();
        self.flush();
        self.samples.push((self.t, self.up));
    }

    /// The rarest piece of `offer` that `j` lacks, not yet asked of another unless nothing else is left.
    fn pick(&mut self, j: usize, offer: &dyn Fn(usize) -> bool) -> Option<u32> {
        let busy: BTreeSet<u32> = self.peers[j].current.values().copied().collect();
        let salt = self.random();
        let holders = |p: usize| self.peers.iter().filter(|peer| peer.have[p]).count();
        let wanted = (0..self.count as usize).filter(|p| !self.peers[j].have[*p] && offer(*p));
        let key = |p: &usize| {
            let asked = busy.contains(&u32::try_from(*p).expect("small"));
            (
                asked,
                self.peers[j].got[*p] == 0,
                holders(*p),
                (*p as u64).wrapping_mul(salt | 1) % 1009,
            )
        };
        wanted
            .min_by_key(key)
            .map(|p| u32::try_from(p).expect("small"))
    }

    fn upload_of(&mut self, i: usize) {
        let served: Vec<usize> = self.peers[i].serves.iter().copied().collect();
        let mut active = Vec::new();
        for j in served {
            if j == US {
                if !self.peers[i].leases.is_empty() {
                    active.push(US);
                }
                continue;
            }
            if self.current(j, i).is_some() {
                active.push(j);
            }
        }
        let share = (self.peers[i].plan.up as f64 * self.dt / active.len().max(1) as f64) as u64;
        for j in active {
            if j == US {
                self.give_us(i, share)
            } else {
                self.serve_peer(i, j, share)
            }
        }
    }

    /// What `j` is fetching from `i` (or from us).
    fn current(&mut self, j: usize, i: usize) -> Option<u32> {
        if let Some(piece) = self.peers[j].current.get(&i).copied() {
            return Some(piece);
        }
        let offered: Vec<bool> = if i == US {
            (0..self.count)
                .map(|p| self.peers[j].told.contains(&p))
                .collect()
        } else {
            self.peers[i].have.clone()
        };
        let piece = self.pick(j, &|p| offered[p])?;
        self.peers[j].current.insert(i, piece);
        if i == US {
            let bytes =
                u32::try_from(self.size(piece) - self.peers[j].got[piece as usize]).expect("small");
            self.peers[j]
                .facts
                .push(ConnFact::Requested { piece, bytes });
        }
        Some(piece)
    }

    fn serve_peer(&mut self, i: usize, j: usize, mut bytes: u64) {
        while bytes > 0 {
            let Some(piece) = self.current(j, i) else {
                return;
            };
            let size = self.size(piece);
            let peer = &mut self.peers[j];
            let part = bytes.min(size - peer.got[piece as usize]);
            peer.got[piece as usize] += part;
            *peer.gave.entry(i).or_default() += part;
            bytes -= part;
            if let Some((_, sent)) = self
                .peers
                .get_mut(i)
                .and_then(|giver| giver.turns.get_mut(&j))
            {
                *sent += part;
            }
            let peer = &mut self.peers[j];
            if i == US {
                self.up += part;
                peer.from_us += part;
                if peer.plan.kind == Kind::Master {
                    self.to_master += part;
                }
                peer.facts.push(ConnFact::Served {
                    piece,
                    bytes: u32::try_from(part).expect("small"),
                });
            }
            if peer.got[piece as usize] >= size {
                peer.have[piece as usize] = true;
                peer.current.retain(|_, p| *p != piece);
                peer.facts.push(ConnFact::Have(piece));
                if peer.have.iter().all(|have| *have) && peer.done_at.is_none() {
                    peer.done_at = Some(self.t);
                }
            }
        }
    }

    fn give_us(&mut self, i: usize, mut bytes: u64) {
        let conn = self.peers[i].conn.expect("connected");
        while bytes > 0 {
            let Some((piece, left)) = self.peers[i].leases.front_mut() else {
                return;
            };
            let part = bytes.min(*left);
            *left -= part;
            let (piece, done) = (*piece, *left == 0);
            bytes -= part;
            if let Some((_, sent)) = self.peers[i].turns.get_mut(&US) {
                *sent += part;
            }
            let Some(buffer) = self.cache.get_mut(&piece) else {
                panic!("lease without a permit")
            };
            let new = part.min(buffer.missing);
            buffer.missing -= new;
            if !buffer.contributors.contains(&conn) {
                buffer.contributors.push(conn);
            }
            self.down += part;
            let redundant = u32::try_from(part - new).expect("small");
            let bytes = u32::try_from(new).expect("small");
            self.peers[i].facts.push(ConnFact::Received {
                piece,
                bytes,
                redundant,
            });
            if done {
                self.peers[i].leases.pop_front();
                self.peers[i].facts.push(ConnFact::LeaseDone { piece });
            }
        }
        let outstanding: u64 = self.peers[i].leases.iter().map(|(_, left)| *left).sum();
        if outstanding < self.piece / 2 {
            let rate = 0;
            self.peers[i]
                .facts
                .push(ConnFact::LeaseLow { outstanding, rate });
        }
    }

    fn our_upload(&mut self) {
        let mut active = Vec::new();
        for j in 0..self.peers.len() {
            let downloads = matches!(self.peers[j].plan.kind, Kind::Leecher | Kind::Master);
            if self.peers[j].conn.is_none() || !downloads {
                continue;
            }
            let wants = self.peers[j]
                .told
                .iter()
                .any(|p| !self.peers[j].have[*p as usize]);
            if wants != self.peers[j].interested {
                self.peers[j].interested = wants;
                self.peers[j].facts.push(ConnFact::Interested(wants));
            }
            if wants && self.peers[j].unchoked && self.current(j, US).is_some() {
                active.push(j);
            }
        }
        let share = (self.up_rate * self.dt / active.len().max(1) as f64) as u64;
        for j in active {
            self.serve_peer(US, j, share);
        }
    }

    fn flush(&mut self) {
        let mut inputs = Vec::new();
        for peer in &mut self.peers {
            let facts = std::mem::take(&mut peer.facts);
            if let (Some(conn), false) = (peer.conn, facts.is_empty()) {
                inputs.push(Input::Conn(conn, facts));
            }
        }
        let whole: Vec<u32> = self
            .cache
            .iter()
            .filter(|(_, b)| !b.held && b.missing == 0)
            .map(|(piece, _)| *piece)
            .collect();
        for piece in whole {
            let Some(buffer) = self.cache.get_mut(&piece) else {
                continue;
            };
            buffer.held = true;
            let (announce, contributors) = (buffer.announce.clone(), buffer.contributors.clone());
            for peer in self
                .peers
                .iter_mut()
                .filter(|p| p.conn.is_some_and(|conn| announce.contains(&conn)))
            {
                peer.told.insert(piece);
            }
            inputs.push(Input::Piece(
                SWARM,
                piece,
                PieceFact::Checked {
                    ok: true,
                    contributors,
                },
            ));
        }
        if self.node.poll_timeout().is_some_and(|at| at <= self.now()) {
            inputs.push(Input::Timer);
        }
        self.feed(inputs);
    }

    pub fn run_until(&mut self, limit: f64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while self.t < limit {
            self.step();
            if done(self) {
                return true;
            }
        }
        false
    }

    /// Bytes we sent up to a moment.
    pub fn sent_by(&self, t: f64) -> u64 {
        self.samples
            .iter()
            .take_while(|(at, _)| *at <= t)
            .last()
            .map_or(0, |(_, up)| *up)
    }

    pub fn leechers(&self) -> impl Iterator<Item = &VPeer> {
        self.peers.iter().filter(|p| p.plan.kind == Kind::Leecher)
    }
}

fn vpeer(i: usize, plan: Plan, count: u32) -> VPeer {
    let host = u8::try_from(10 + i).expect("few peers");
    let seed = plan.kind == Kind::Seed;
    VPeer {
        addr: SocketAddr::new(Ipv4Addr::new(198, 18, host, 1).into(), 6881),
        conn: None,
        have: vec![seed; count as usize],
        got: vec![0; count as usize],
        told: BTreeSet::new(),
        done_at: None,
        closed: 0,
        from_us: 0,
        greeted: false,
        unchoked: false,
        interested: false,
        we_want: false,
        serves: BTreeSet::new(),
        turns: BTreeMap::new(),
        gave: BTreeMap::new(),
        optimistic: None,
        asked_before: false,
        leases: VecDeque::new(),
        current: BTreeMap::new(),
        facts: Vec::new(),
        plan,
    }
}

fn wire(have: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        bits.iter()
            .enumerate()
            .map(|(i, bit)| u8::from(*bit) << (7 - i))
            .sum()
    };
    have.chunks(8).map(byte).collect()
}
