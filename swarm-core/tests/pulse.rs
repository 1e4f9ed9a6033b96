//! A master as Transmission is: once a second it says HAVE for what it completed, and asks for everything that stands
//! announced at that moment. The cache must not stand still in between: a piece all of whose blocks went out makes
//! room for the next, and is fetched again only if the master turns out to lack it.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Contributor, Extended, Geometry, Hold, Input, Limits,
    MasterFact, MasterId, Order, Origin, Output, PeerSource, PieceFact, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;

const SWARM: SwarmId = SwarmId(1);
const MIB: u64 = 1 << 20;
const STEP_US: u64 = 2_000;
/// What the seed and our line carry in one step.
const PER_STEP: u64 = 350 * MIB / 1_000_000 * STEP_US;
const PULSE_STEPS: u64 = 1_000_000 / STEP_US;

fn seed_addr() -> SocketAddr {
    SocketAddr::from(([198, 18, 0, 10], 6881))
}

fn master_addr() -> SocketAddr {
    SocketAddr::from(([198, 18, 0, 30], 6881))
}

/// The shell, a seed that only we reach, and the master.
struct Rig {
    node: Node,
    steps: u64,
    pieces: u32,
    donthave: bool,
    next_conn: u64,
    seed: Option<ConnId>,
    master: Option<ConnId>,
    leases: VecDeque<(u32, u64)>,
    missing: BTreeMap<u32, u64>,
    held: BTreeSet<u32>,
    retired: Vec<u32>,
    fetched: BTreeMap<u32, u32>,
    withdrawn: BTreeSet<u32>,
    announced: BTreeSet<u32>,
    /// The master's requests, and what it got of each piece since it connected.
    asked: VecDeque<(u32, u64)>,
    asking: BTreeSet<u32>,
    got: BTreeMap<u32, u64>,
    /// All blocks of these went out on this connection.
    sent: BTreeSet<u32>,
    /// Complete at the master, HAVE not said.
    unsaid: BTreeSet<u32>,
    said: BTreeSet<u32>,
    window: u64,
    /// Pieces asked for at each pulse.
    pulses: Vec<u64>,
    /// It never says HAVE for these.
    mute: BTreeSet<u32>,
    /// The hash of these fails at the master, once.
    spoiled: BTreeSet<u32>,
    refused: u64,
}

impl Rig {
    fn new(pieces: u32, cache: u64, donthave: bool) -> Self {
        let limits = Limits {
            connections: 50,
            cache,
            cache_memory: cache,
            ..Limits::default()
        };
        let mut rig = Self {
            node: Node::new(Params::new(limits, *b"-BS0100-ourselves!!!"), 5),
            steps: 1,
            pieces,
            donthave,
            next_conn: 1,
            seed: None,
            master: None,
            leases: VecDeque::new(),
            missing: BTreeMap::new(),
            held: BTreeSet::new(),
            retired: Vec::new(),
            fetched: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            announced: BTreeSet::new(),
            asked: VecDeque::new(),
            asking: BTreeSet::new(),
            got: BTreeMap::new(),
            sent: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            said: BTreeSet::new(),
            window: 2,
            pulses: Vec::new(),
            mute: BTreeSet::new(),
            spoiled: BTreeSet::new(),
            refused: 0,
        };
        rig.introduce();
        rig
    }

    fn introduce(&mut self) {
        let id = MasterId(1);
        let configured = MasterFact::Configured {
            name: "home".into(),
            share: 1.0,
            slave_key: 7,
        };
        self.feed(Input::Master(id, configured));
        self.feed(Input::Master(id, MasterFact::Resolved(vec![master_addr()])));
        let known = SwarmFact::Known {
            info_hash: [9; 20],
            name: "pulse".into(),
            geometry: Some(Geometry {
                piece_length: 1 << 20,
                total: u64::from(self.pieces) * MIB,
            }),
            private: false,
            hold: Hold::Cache,
            origin: Origin::User,
            pinned: true,
        };
        self.feed(Input::Swarm(SWARM, known));
        let peers = SwarmFact::Peers(vec![seed_addr()], PeerSource::User);
        self.feed(Input::Swarm(SWARM, peers));
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.steps * STEP_US)
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now();
            self.node.handle(now, input);
            while let Some(output) = self.node.poll_output() {
                self.carry_out(output, &mut inputs);
            }
            for piece in self.retired.drain(..) {
                inputs.push_back(Input::Piece(SWARM, piece, PieceFact::Released));
            }
        }
    }

    fn carry_out(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Dial(_, addr) => self.connect(addr, inputs),
            Output::Order(conn, order) if Some(conn) == self.master => match order {
                Order::Announce(piece) => self.hear(piece),
                Order::Withdraw(piece) => {
                    self.withdrawn.insert(piece);
                    if self.donthave {
                        self.announced.remove(&piece);
                    }
                }
                Order::Fetch(_) => panic!("a block request to the master"),
                Order::Close => panic!("the master was closed"),
                _ => {}
            },
            Output::Order(_, Order::Fetch(fetch)) => {
                if let Entry::Vacant(new) = self.missing.entry(fetch.piece) {
                    new.insert(MIB);
                    *self.fetched.entry(fetch.piece).or_default() += 1;
                }
                let blocks = u64::from(fetch.blocks.end - fetch.blocks.start);
                self.leases.push_back((fetch.piece, blocks * 16_384));
            }
            Output::Retire(_, piece) => {
                let over = self.said.contains(&piece) || self.sent.contains(&piece);
                assert!(
                    over || !self.announced.contains(&piece),
                    "piece {piece} was given up with blocks the master may still ask for"
                );
                self.held.remove(&piece);
                self.missing.remove(&piece);
                self.leases.retain(|(leased, _)| *leased != piece);
                self.retired.push(piece);
            }
            _ => {}
        }
        assert!(
            self.held.len() < self.pieces as usize,
            "we hold every piece"
        );
    }

    fn connect(&mut self, addr: SocketAddr, inputs: &mut VecDeque<Input>) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let seed = addr == seed_addr();
        let set = if seed {
            self.seed = Some(conn);
            ConnFact::HaveAll
        } else {
            self.master = Some(conn);
            ConnFact::Bitfield(wire(&self.said, self.pieces))
        };
        let mut peer_id = *b"-VP0001-000000000000";
        peer_id[19] = u8::from(seed);
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr,
            incoming: false,
            peer_id,
            fast: true,
            extended: true,
        };
        let ext = Extended {
            donthave: self.donthave,
            ..Extended::default()
        };
        let mut facts = vec![connected, ConnFact::Extended(ext), set];
        if seed {
            facts.push(ConnFact::Choking(false));
        }
        inputs.push_back(Input::Conn(conn, facts));
    }

    fn hear(&mut self, piece: u32) {
        assert!(self.held.contains(&piece), "announced, and not held");
        self.announced.insert(piece);
        self.withdrawn.remove(&piece);
    }

    /// The master goes, and what it had not said HAVE for is lost to it.
    fn lose_master(&mut self) {
        let conn = self.master.take().expect("connected");
        self.announced.clear();
        self.asked.clear();
        self.asking.clear();
        self.unsaid.clear();
        self.sent.clear();
        self.got.retain(|piece, _| self.said.contains(piece));
        self.feed(Input::Conn(
            conn,
            vec![ConnFact::Closed(CloseReason::Remote)],
        ));
    }

    fn pulse(&mut self) {
        let Some(conn) = self.master else { return };
        let mute = &self.mute;
        let (silent, news): (Vec<u32>, Vec<u32>) = std::mem::take(&mut self.unsaid)
            .into_iter()
            .partition(|piece| mute.contains(piece));
        self.unsaid.extend(silent);
        self.said.extend(news.iter().copied());
        let mut facts: Vec<ConnFact> = news.into_iter().map(ConnFact::Have).collect();
        let open = self.announced.iter().filter(|piece| {
            !self.said.contains(piece)
                && !self.unsaid.contains(piece)
                && !self.asking.contains(piece)
        });
        let most = usize::try_from(self.window).expect("small");
        let wanted: Vec<u32> = open.copied().take(most).collect();
        for piece in &wanted {
            let bytes = MIB - self.got.get(piece).copied().unwrap_or(0);
            self.asking.insert(*piece);
            self.asked.push_back((*piece, bytes));
            let bytes = u32::try_from(bytes).expect("a piece");
            facts.push(ConnFact::Requested {
                piece: *piece,
                bytes,
            });
        }
        if !wanted.is_empty() {
            self.window *= 6;
            self.pulses.push(wanted.len() as u64);
        }
        if !facts.is_empty() {
            self.feed(Input::Conn(conn, facts));
        }
    }

    fn serve(&mut self) {
        let mut left = PER_STEP;
        let mut facts = Vec::new();
        while let Some((piece, bytes)) = self.asked.front_mut() {
            let piece = *piece;
            if !self.held.contains(&piece) || self.withdrawn.contains(&piece) {
                self.asked.pop_front();
                self.asking.remove(&piece);
                self.refused += 1;
                facts.push(ConnFact::Refused { piece, bytes: 1 });
                continue;
            }
            let part = left.min(*bytes);
            if part == 0 {
                break;
            }
            *bytes -= part;
            left -= part;
            let got = self.got.entry(piece).or_default();
            *got += part;
            if *got == MIB {
                self.asking.remove(&piece);
                self.sent.insert(piece);
                if self.spoiled.remove(&piece) {
                    *got = 0;
                } else {
                    self.unsaid.insert(piece);
                }
            }
            if *bytes == 0 {
                self.asked.pop_front();
            }
            let bytes = u32::try_from(part).expect("a piece");
            facts.push(ConnFact::Served { piece, bytes });
        }
        if let (Some(conn), false) = (self.master, facts.is_empty()) {
            self.feed(Input::Conn(conn, facts));
        }
    }

    fn fetch(&mut self) {
        let Some(conn) = self.seed else { return };
        let mut left = PER_STEP;
        let (mut facts, mut whole) = (Vec::new(), Vec::new());
        while let Some((piece, lease)) = self.leases.front_mut() {
            let part = left.min(*lease);
            if part == 0 {
                break;
            }
            *lease -= part;
            left -= part;
            let (piece, done) = (*piece, *lease == 0);
            let missing = self.missing.get_mut(&piece).expect("a permit");
            *missing -= part;
            if *missing == 0 {
                whole.push(piece);
            }
            let bytes = u32::try_from(part).expect("a piece");
            facts.push(ConnFact::Received {
                piece,
                bytes,
                redundant: 0,
            });
            if done {
                self.leases.pop_front();
                facts.push(ConnFact::LeaseDone { piece });
            }
        }
        if !facts.is_empty() {
            self.feed(Input::Conn(conn, facts));
        }
        for piece in whole {
            self.held.insert(piece);
            self.missing.remove(&piece);
            let before = self.announced.len();
            self.feed(Input::Piece(
                SWARM,
                piece,
                PieceFact::Checked {
                    ok: true,
                    contributors: vec![Contributor {
                        conn,
                        bytes: 1 << 20,
                    }],
                },
            ));
            // The shell tells the audience of the fetch by itself.
            if self.announced.len() == before && self.master.is_some() {
                self.hear(piece);
            }
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.fetch();
        self.serve();
        if self.steps.is_multiple_of(PULSE_STEPS) {
            self.pulse();
        }
        if self.node.poll_timeout().is_some_and(|at| at <= self.now()) {
            self.feed(Input::Timer);
        }
    }

    fn run_until(&mut self, seconds: u64, mut done: impl FnMut(&Self) -> bool) {
        let end = self.steps + seconds * PULSE_STEPS;
        while !done(self) {
            assert!(
                self.steps < end,
                "{} of {} pieces after pulses of {:?}",
                self.said.len(),
                self.pieces,
                self.pulses
            );
            self.step();
        }
    }

    fn complete(&self) -> bool {
        self.said.len() + self.unsaid.len() == self.pieces as usize && self.spoiled.is_empty()
    }

    fn refetched(&self) -> Vec<u32> {
        let twice = self.fetched.iter().filter(|(_, count)| **count > 1);
        twice.map(|(piece, _)| *piece).collect()
    }
}

fn wire(said: &BTreeSet<u32>, pieces: u32) -> Vec<u8> {
    let mut bytes = vec![0; pieces.div_ceil(8) as usize];
    for piece in said {
        bytes[*piece as usize / 8] |= 0x80 >> (piece % 8);
    }
    bytes
}

#[test]
fn every_pulse_finds_the_whole_cache_announced() {
    for donthave in [false, true] {
        let mut rig = Rig::new(256, 64 * MIB, donthave);
        rig.run_until(30, Rig::complete);
        // 2, 12, and then all 64 permits each second.
        assert_eq!(rig.pulses, [2, 12, 64, 64, 64, 50], "donthave: {donthave}");
        assert_eq!(rig.refetched(), []);
        assert_eq!(rig.fetched.len(), 256);
        assert_eq!(rig.refused, 0);
        assert_eq!(rig.withdrawn.is_empty(), !donthave);
    }
}

#[test]
fn a_cache_larger_than_the_torrent_waits_for_no_have_at_the_end() {
    let mut rig = Rig::new(256, 320 * MIB, false);
    rig.run_until(30, Rig::complete);
    // The last piece is fetched as soon as another one was delivered, not when the master says so.
    assert_eq!(rig.pulses, [2, 12, 72, 170]);
    assert_eq!(rig.refetched(), []);
}

#[test]
fn delivered_pieces_that_a_closed_connection_lost_are_fetched_again_and_no_others() {
    let mut rig = Rig::new(256, 64 * MIB, false);
    rig.run_until(30, |rig| rig.unsaid.len() > 40);
    let lost: BTreeSet<u32> = rig.unsaid.clone();
    let gone: Vec<u32> = lost.difference(&rig.held).copied().collect();
    assert!(!gone.is_empty(), "nothing delivered was given up");
    rig.lose_master();
    rig.run_until(120, Rig::complete);
    let again = rig.refetched();
    assert!(gone.iter().all(|piece| again.contains(piece)), "{again:?}");
    assert!(again.iter().all(|piece| lost.contains(piece)), "{again:?}");
    assert!(rig.fetched.values().all(|count| *count <= 2));
}

#[test]
fn a_piece_that_spoiled_at_the_master_is_fetched_again_when_it_asks() {
    let mut rig = Rig::new(256, 64 * MIB, false);
    rig.spoiled = (0..256).step_by(16).collect();
    let spoiled = rig.spoiled.clone();
    rig.run_until(60, Rig::complete);
    let again = rig.refetched();
    assert!(!again.is_empty(), "all were held still");
    assert!(
        again.iter().all(|piece| spoiled.contains(piece)),
        "{again:?}"
    );
    assert!(rig.fetched.values().all(|count| *count <= 2));
}

#[test]
fn a_master_that_says_no_have_for_thirty_seconds_lacks_the_piece() {
    let mut rig = Rig::new(128, 16 * MIB, false);
    rig.mute = BTreeSet::from([3, 50]);
    rig.run_until(60, Rig::complete);
    let done = rig.steps;
    assert_eq!(rig.refetched(), []);
    rig.run_until(60, |rig| rig.refetched() == [3, 50]);
    let waited = (rig.steps - done) / PULSE_STEPS;
    assert!(waited >= 15, "asked again after {waited} s");
    // Once: it stands announced to the master now, and is kept for it.
    rig.mute.clear();
    for _ in 0..40 * PULSE_STEPS {
        rig.step();
    }
    assert!(rig.fetched.values().all(|count| *count <= 2));
}
