//! Several real `Node`s in virtual time, with their masters, a swarm that feeds each of them, and sessions between
//! friends. Everything is deterministic: the same plan and seed give the same run.
//!
//! Slave `i` has the torrent that its own master wants, numbered `i`; friends are numbered by their index, too.

#![allow(dead_code, reason = "each test uses a part of it")]

mod carry;
mod flow;
mod restarting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use swarm_core::io::friends::{
    FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode, FriendsNote, RpcPowers,
    WitnessKind,
};
use swarm_core::io::{
    ConnFact, ConnId, Geometry, Hold, Input, Limits, MasterFact, MasterId, Origin, SwarmFact,
    SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use swarm_core::time::Timestamp;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const PIECE: u64 = 256 * KIB;
pub const MASTER: MasterId = MasterId(1);

/// How a slave's shell (not its brain) behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Honest,
    /// Takes help, and sends no IOU.
    NeverSigns,
    /// Says that it delivered twice as much.
    ClaimsDouble,
    /// Says that it holds everything, and uploads nothing to guests.
    ServesNothing,
    /// Follows each IOU with its oldest one.
    ShowsOldIou,
}

/// How masters and helpers come together in this world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    Rpc,
    Introduced,
    Dialled,
    Relayed,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// Upload line, bytes/s.
    pub line: u64,
    /// What the swarm gives this slave in each torrent, bytes/s.
    pub supply: u64,
    /// Pieces that its master wants; none: it has no master.
    pub wants: u32,
    /// What the master gets of the swarm by itself, bytes/s.
    pub own: u64,
    /// When its master is added, seconds.
    pub wakes: f64,
    pub conduct: Conduct,
    pub witness: WitnessKind,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            line: MIB,
            supply: MIB,
            wants: 0,
            own: 0,
            wakes: 0.0,
            conduct: Conduct::Honest,
            witness: WitnessKind::Bytes,
        }
    }
}

/// The far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    Seed,
    Master(usize),
    Slave(usize, ConnId),
}

#[derive(Debug)]
pub struct Conn {
    pub far: Far,
    pub swarm: SwarmId,
    /// What we announced, and whether we unchoke it.
    pub told: BTreeSet<u32>,
    pub unchoked: bool,
    /// What we asked it for.
    pub leases: VecDeque<(u32, u64)>,
    /// What a master is fetching from us.
    pub current: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Buffer {
    pub missing: u64,
    pub held: bool,
    pub announce: Vec<ConnId>,
    /// Bytes that each brought.
    pub from: BTreeMap<ConnId, u64>,
}

pub struct Slave {
    pub plan: Plan,
    pub node: Node,
    pub conns: BTreeMap<ConnId, Conn>,
    pub cache: BTreeMap<(SwarmId, u32), Buffer>,
    pub facts: BTreeMap<ConnId, Vec<ConnFact>>,
    pub inbox: Vec<Input>,
    pub notes: Vec<(f64, FriendsNote)>,
    /// Payload bytes to the masters of others, or to their slaves that relay.
    pub gave: BTreeMap<usize, u64>,
    /// Bytes that slaves of others brought for our master, in pieces that passed their hash.
    pub handed: BTreeMap<usize, u64>,
    /// Whose slave a connection leads to, those that are gone too.
    pub links: BTreeMap<ConnId, usize>,
    /// Pieces whose next check fails.
    pub spoiled: BTreeSet<u32>,
    /// Largest totals that it signed for others, and that reached them.
    pub signed: BTreeMap<usize, u64>,
    /// What they had signed for it before this run.
    pub began_with: BTreeMap<usize, u64>,
    /// Helps that it gave, by friend.
    pub helped: BTreeMap<usize, u64>,
    pub watches: BTreeSet<SwarmId>,
    pub known: BTreeSet<SwarmId>,
    pub introduced: Vec<(f64, SocketAddr)>,
    pub dialled: Vec<(f64, SocketAddr)>,
}

pub struct Master {
    pub have: Vec<bool>,
    pub got: Vec<u64>,
    pub conns: BTreeMap<usize, ConnId>,
    pub downloaded: BTreeMap<usize, u64>,
    pub own_part: f64,
    pub done_at: Option<f64>,
}

pub struct World {
    pub t: f64,
    pub dt: f64,
    pub meeting: Meeting,
    pub limits: FriendsLimits,
    pub slaves: Vec<Slave>,
    pub masters: Vec<Option<Master>>,
    pub mail: Vec<(f64, usize, Input)>,
    pub pieces: u32,
    /// Masters may be ordinary peers of helpers' slaves before a help begins.
    pub early: bool,
    /// Who has which piece of whose torrent reserved.
    pub lent: BTreeMap<(usize, u32), usize>,
    /// Pieces that were reserved, and of those, taken or given back.
    pub reserved: (usize, usize),
    next_conn: u64,
    next_look: f64,
    rng: u64,
}

pub fn friend(i: usize) -> FriendId {
    FriendId(u32::try_from(i).expect("few"))
}

pub fn swarm(i: usize) -> SwarmId {
    SwarmId(u32::try_from(i).expect("few"))
}

pub fn slave_addr(i: usize) -> SocketAddr {
    SocketAddr::from(([198, 18, u8::try_from(10 + i).expect("few"), 1], 6881))
}

pub fn master_addr(i: usize) -> SocketAddr {
    SocketAddr::new(slave_addr(i).ip(), 51413)
}

pub fn seed_addr(torrent: SwarmId) -> SocketAddr {
    SocketAddr::from(([198, 19, u8::try_from(torrent.0).expect("few"), 1], 6881))
}

pub fn hash(torrent: SwarmId) -> [u8; 20] {
    [u8::try_from(torrent.0).expect("few"); 20]
}

pub fn limits() -> FriendsLimits {
    FriendsLimits {
        mode: FriendsMode::Known,
        ..FriendsLimits::default()
    }
}

impl World {
    pub fn new(plans: Vec<Plan>, meeting: Meeting, limits: FriendsLimits, seed: u64) -> Self {
        let pieces = plans.iter().map(|plan| plan.wants).max().unwrap_or(0) + 2;
        let slaves: Vec<Slave> = plans
            .into_iter()
            .enumerate()
            .map(|(i, plan)| slave(plan, &limits, seed.wrapping_add(i as u64)))
            .collect();
        let masters = slaves.iter().map(|s| master(&s.plan, pieces)).collect();
        let mut world = Self {
            t: 0.0,
            dt: 0.05,
            meeting,
            limits,
            slaves,
            masters,
            mail: Vec::new(),
            pieces,
            early: false,
            lent: BTreeMap::new(),
            reserved: (0, 0),
            next_conn: 0,
            next_look: 0.0,
            rng: seed ^ 0x5eed,
        };
        (0..world.slaves.len()).for_each(|i| world.introduce_itself(i));
        world
    }

    /// What a shell says at the start: where it is reached, its master, its master's torrent.
    fn introduce_itself(&mut self, i: usize) {
        let reach = FriendsInput::Reach(vec![slave_addr(i)]);
        let mut inputs = vec![Input::Friends(reach)];
        if self.masters[i].is_some() && self.slaves[i].plan.wakes <= self.t {
            let configured = MasterFact::Configured {
                name: "home".into(),
                share: 0.5,
                slave_key: 7,
            };
            let powers = RpcPowers {
                dials: self.meeting == Meeting::Rpc,
                witness: if self.meeting == Meeting::Relayed {
                    WitnessKind::None
                } else {
                    self.slaves[i].plan.witness
                },
            };
            inputs.extend([
                Input::Master(MASTER, configured),
                Input::Master(MASTER, MasterFact::Resolved(vec![master_addr(i)])),
                Input::Friends(FriendsInput::Rpc(MASTER, powers)),
                self.known(swarm(i), Origin::Master(MASTER)),
            ]);
            self.slaves[i].known.insert(swarm(i));
        }
        self.feed(i, inputs);
    }

    pub fn known(&self, torrent: SwarmId, origin: Origin) -> Input {
        let geometry = Geometry {
            piece_length: u32::try_from(PIECE).expect("small"),
            total: u64::from(self.pieces) * PIECE,
        };
        let fact = SwarmFact::Known {
            info_hash: hash(torrent),
            name: "virtual".into(),
            geometry: Some(geometry),
            private: false,
            hold: Hold::Cache,
            // As after `slavectl swarms add --pin`.
            pinned: origin == Origin::User,
            origin,
        };
        Input::Swarm(torrent, fact)
    }

    /// Makes two slaves friends, with what their ledgers say, and opens their session.
    pub fn befriend(&mut self, i: usize, j: usize, nearness: Nearness) {
        self.befriend_with(i, j, nearness, (0, 0));
    }

    /// The same, after `i` gave `totals.0` to `j` and had `totals.1` of it.
    pub fn befriend_with(&mut self, i: usize, j: usize, nearness: Nearness, totals: (u64, u64)) {
        for (own, other, (given, received)) in [(i, j, totals), (j, i, (totals.1, totals.0))] {
            let standing = Standing {
                given,
                received,
                delivered: given,
                disputed: 0,
            };
            let facts = [
                FriendFact::Known { nearness, standing },
                FriendFact::Online {
                    smaller: own < other,
                    ip: slave_addr(other).ip(),
                    network: network(slave_addr(other).ip()),
                    endpoint: None,
                },
                FriendFact::Synced { given, received },
            ];
            let id = friend(other);
            let inputs = facts.map(|fact| Input::Friends(FriendsInput::Friend(id, fact)));
            self.slaves[own].signed.insert(other, received);
            self.slaves[own].began_with.insert(other, given);
            self.slaves[own].inbox.extend(inputs);
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp((self.t * 1e6) as u64)
    }

    pub fn random(&mut self) -> u64 {
        self.rng = self
            .rng
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.rng >> 33
    }

    fn fresh_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    /// One step of virtual time.
    pub fn step(&mut self) {
        self.t += self.dt;
        let t = self.t;
        let due: Vec<_> = self.mail.extract_if(.., |(at, _, _)| *at <= t).collect();
        for (_, to, input) in due {
            if let Input::Friends(FriendsInput::Friend(from, FriendFact::Message(message))) = &input
            {
                self.watch_loans(to, from.0 as usize, message, to);
            }
            self.slaves[to].inbox.push(input);
        }
        for i in 0..self.slaves.len() {
            let wakes = self.slaves[i].plan.wakes;
            if wakes > t - self.dt && wakes <= t {
                self.introduce_itself(i);
            }
        }
        self.look();
        self.flow();
        for i in 0..self.slaves.len() {
            let now = self.now();
            let slave = &mut self.slaves[i];
            let mut inputs = core::mem::take(&mut slave.inbox);
            let facts = core::mem::take(&mut slave.facts);
            inputs.extend(
                facts
                    .into_iter()
                    .map(|(conn, facts)| Input::Conn(conn, facts)),
            );
            if slave.node.poll_timeout().is_some_and(|at| at <= now) {
                inputs.push(Input::Timer);
            }
            self.feed(i, inputs);
        }
        self.check();
    }

    /// Hands inputs in and carries out what comes of it, until nothing does.
    pub fn feed(&mut self, i: usize, mut inputs: Vec<Input>) {
        let now = self.now();
        while !inputs.is_empty() {
            for input in inputs.drain(..) {
                self.slaves[i].node.handle(now, input);
            }
            let mut outputs = Vec::new();
            while let Some(output) = self.slaves[i].node.poll_output() {
                outputs.push(output);
            }
            for output in outputs {
                self.carry_out(i, output);
            }
            inputs = core::mem::take(&mut self.slaves[i].inbox);
        }
    }

    /// What must hold at every moment, whoever lies.
    fn check(&self) {
        for (i, slave) in self.slaves.iter().enumerate() {
            for (j, gave) in &slave.gave {
                let signed = self.slaves[*j].signed.get(&i).copied().unwrap_or(0);
                let helps = slave.helped.get(j).copied().unwrap_or(0);
                assert!(
                    signed <= slave.began_with.get(j).copied().unwrap_or(0) + gave + helps * PIECE,
                    "{j} signed {signed} for {gave} of {i}, {helps} helps"
                );
            }
            let used = slave.cache.len() as u64 * PIECE;
            assert!(used <= CACHE, "cache of {i}: {used}");
        }
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

    pub fn done(&self, j: usize) -> Option<f64> {
        self.masters[j].as_ref().and_then(|m| m.done_at)
    }
}

impl Slave {
    pub fn standing(&self, j: usize) -> Standing {
        let id = friend(j);
        let view = self.node.view();
        let known = view.aid.friends.iter().find(|f| f.id == id);
        known.expect("a friend").standing
    }

    pub fn noted(&self, test: impl Fn(&FriendsNote) -> bool) -> usize {
        self.notes.iter().filter(|(_, note)| test(note)).count()
    }
}

pub const CACHE: u64 = 64 * MIB;

pub fn network(ip: IpAddr) -> NetworkTag {
    match ip {
        IpAddr::V4(v4) => NetworkTag(u64::from(u32::from(v4) >> 8)),
        IpAddr::V6(v6) => NetworkTag((u128::from(v6) >> 72) as u64),
    }
}

fn slave(plan: Plan, limits: &FriendsLimits, seed: u64) -> Slave {
    let line = Limits {
        upload: Some(plan.line),
        cache: CACHE,
        cache_memory: CACHE,
        repeat: false,
        max_swarms: 0,
        ..Limits::default()
    };
    let mut params = Params::new(line, *b"-BS0100-slave--1----");
    params.peer_id[12..20].copy_from_slice(&seed.to_be_bytes());
    params.friends = limits.clone();
    Slave {
        plan,
        node: Node::new(params, seed),
        conns: BTreeMap::new(),
        cache: BTreeMap::new(),
        facts: BTreeMap::new(),
        inbox: Vec::new(),
        notes: Vec::new(),
        gave: BTreeMap::new(),
        handed: BTreeMap::new(),
        links: BTreeMap::new(),
        spoiled: BTreeSet::new(),
        signed: BTreeMap::new(),
        began_with: BTreeMap::new(),
        helped: BTreeMap::new(),
        watches: BTreeSet::new(),
        known: BTreeSet::new(),
        introduced: Vec::new(),
        dialled: Vec::new(),
    }
}

/// A master that wants so many pieces; it has the others.
fn master(plan: &Plan, pieces: u32) -> Option<Master> {
    let wants = plan.wants;
    (wants > 0).then(|| Master {
        have: (0..pieces).map(|p| p >= wants).collect(),
        got: vec![0; pieces as usize],
        conns: BTreeMap::new(),
        downloaded: BTreeMap::new(),
        own_part: 0.0,
        done_at: None,
    })
}
