//! A virtual swarm in virtual time around one real `Node`: the shell and the peers are modelled at the level of
//! pieces and leases, with shared upload lines, unchoke slots, rarest-first picking and HAVEs.
//!
//! It also keeps watch: the cache's permits, the honesty of what stands announced, and that a master is never asked.

mod carry;
mod choking;
mod flow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use swarm_core::io::{
    Batch, CloseReason, ConnFact, ConnId, Contributor, Extended, Fetch, Geometry, Hold, Input,
    Limits, MasterFact, MasterId, Note, Order, Origin, Output, PieceFact, Role, Shown, SwarmFact,
    SwarmId,
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
    contributors: Vec<Contributor>,
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
