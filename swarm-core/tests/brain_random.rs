//! The brain under any sequence of facts: it does not panic, never takes more permits than the cache has, never asks a
//! master, never announces what it does not hold, and gives the same answers again.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Contributor, Extended, Geometry, Hold, Input, LeaseEnd, Limits,
    MasterFact, MasterId, Order, Origin, Output, PeerSource, PieceFact, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;

const SWARM: SwarmId = SwarmId(1);
const PIECES: u32 = 24;
const PIECE: u64 = 65_536;
const CACHE: u64 = 10 * PIECE;

#[derive(Clone, Debug)]
enum Op {
    Connect(u8, bool, bool),
    Facts(u8, u8, u32, bool),
    /// The shell's side: the n-th begun piece verifies, fails, or the n-th retired one is released.
    Verify(u8, bool),
    Release(u8),
    Wait(u32),
    Close(u8),
    Peers(u8),
    Pause(bool),
    Shrink(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0u8..12, any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Op::Connect(a, b, c)),
        20 => (0u8..12, 0u8..14, 0u32..PIECES + 2, any::<bool>()).prop_map(|(a, b, c, d)| Op::Facts(a, b, c, d)),
        8 => (any::<u8>(), prop::bool::weighted(0.9)).prop_map(|(n, ok)| Op::Verify(n, ok)),
        8 => any::<u8>().prop_map(Op::Release),
        4 => (1u32..20_000).prop_map(Op::Wait),
        2 => (0u8..12).prop_map(Op::Close),
        1 => any::<u8>().prop_map(Op::Peers),
        1 => prop::bool::weighted(0.1).prop_map(Op::Pause),
        1 => (2u64..12).prop_map(|n| Op::Shrink(n * PIECE)),
    ]
}

fn limits(cache: u64) -> Limits {
    Limits {
        upload: Some(1 << 20),
        connections: 8,
        cache,
        cache_memory: cache,
        max_swarms: 2,
        ..Limits::default()
    }
}

fn addr(who: u8) -> SocketAddr {
    SocketAddr::from(([198, 18, 0, who], 6881))
}

/// A shell that counts.
struct Shell {
    node: Node,
    now: Timestamp,
    conns: BTreeMap<u8, ConnId>,
    masters: BTreeSet<ConnId>,
    next: u64,
    fetching: BTreeSet<u32>,
    held: BTreeSet<u32>,
    retiring: Vec<u32>,
    cap: u64,
    inputs: Vec<(Timestamp, Input)>,
    outputs: Vec<Output>,
}

impl Shell {
    fn feed(&mut self, input: Input) {
        self.inputs.push((self.now, input.clone()));
        self.node.handle(self.now, input);
        while let Some(output) = self.node.poll_output() {
            self.carry_out(&output);
            self.outputs.push(output);
        }
    }

    fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Order(conn, Order::Fetch(fetch)) => {
                assert!(!self.masters.contains(conn), "a master was asked");
                assert!(!self.held.contains(&fetch.piece) && !self.retiring.contains(&fetch.piece));
                assert!(!fetch.blocks.is_empty() && fetch.blocks.end <= 4);
                let new = self.fetching.insert(fetch.piece);
                let used =
                    (self.fetching.len() + self.held.len() + self.retiring.len()) as u64 * PIECE;
                assert!(
                    !new || used <= self.cap,
                    "{used} bytes of permits, {} allowed",
                    self.cap
                );
            }
            Output::Order(_, Order::Announce(piece)) => {
                assert!(self.held.contains(piece), "announced but not held")
            }
            Output::Order(conn, Order::Interested(true)) => assert!(!self.masters.contains(conn)),
            Output::Order(
                conn,
                Order::Hello {
                    role: swarm_core::io::Role::Master(_),
                    ..
                },
            ) => {
                self.masters.insert(*conn);
            }
            Output::Order(conn, Order::Close) => self.conns.retain(|_, c| c != conn),
            Output::Retire(_, piece) => {
                assert!(
                    self.fetching.remove(piece) || self.held.remove(piece),
                    "retired what is not there"
                );
                self.retiring.push(*piece);
            }
            Output::Order(..)
            | Output::Dial(..)
            | Output::Join(_)
            | Output::Leave(_)
            | Output::Forget(_)
            | Output::Scrape(_)
            | Output::WantPeers(_)
            | Output::Left(..)
            | Output::Rates(_)
            | Output::Friends(_)
            | Output::Save(_)
            | Output::Allow(_)
            | Output::Listed(..)
            | Output::Note(_) => {}
        }
        assert!(self.held.len() < PIECES as usize, "we are a seed");
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Connect(who, incoming, donthave) => self.connect(*who, *incoming, *donthave),
            Op::Facts(who, kind, piece, yes) => {
                if let Some(conn) = self.conns.get(who).copied() {
                    self.feed(Input::Conn(conn, vec![fact(*kind, *piece, *yes)]));
                }
            }
            Op::Verify(n, ok) => self.check(*n, *ok),
            Op::Release(n) => {
                if self.retiring.is_empty() {
                    return;
                }
                let piece = self.retiring.remove(usize::from(*n) % self.retiring.len());
                self.feed(Input::Piece(SWARM, piece, PieceFact::Released));
            }
            Op::Wait(ms) => {
                self.now = Timestamp(self.now.0 + u64::from(*ms) * 1000);
                self.feed(Input::Timer);
                assert!(
                    self.node.poll_timeout().is_none_or(|at| at > self.now),
                    "a busy loop"
                );
            }
            Op::Close(who) => {
                if let Some(conn) = self.conns.remove(who) {
                    self.feed(Input::Conn(
                        conn,
                        vec![ConnFact::Closed(CloseReason::Remote)],
                    ));
                }
            }
            Op::Peers(n) => {
                let addrs = (0..n % 12).map(addr).collect();
                self.feed(Input::Swarm(
                    SWARM,
                    SwarmFact::Peers(addrs, PeerSource::Tracker),
                ));
            }
            Op::Pause(yes) => self.feed(Input::Paused(*yes)),
            Op::Shrink(cache) => {
                self.cap = *cache;
                self.feed(Input::Limits(limits(*cache)));
            }
        }
    }

    fn connect(&mut self, who: u8, incoming: bool, donthave: bool) {
        if self.conns.contains_key(&who) {
            return;
        }
        let conn = ConnId(self.next);
        self.next += 1;
        self.conns.insert(who, conn);
        let mut peer_id = [0; 20];
        peer_id[0] = who;
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr: addr(who),
            incoming,
            peer_id,
            fast: true,
            extended: true,
        };
        let ext = Extended {
            donthave,
            ..Extended::default()
        };
        self.feed(Input::Conn(conn, vec![connected, ConnFact::Extended(ext)]));
    }

    /// The hash of the `n`-th piece under way is known.
    fn check(&mut self, n: u8, ok: bool) {
        let nth = usize::from(n) % self.fetching.len().max(1);
        let Some(piece) = self.fetching.iter().nth(nth).copied() else {
            return;
        };
        let contributors = self.conns.values().copied();
        let contributors = contributors.take(usize::from(n % 3));
        let contributors = contributors.map(gave).collect();
        self.fetching.remove(&piece);
        if ok {
            self.held.insert(piece);
        } else {
            self.retiring.push(piece);
        }
        let checked = PieceFact::Checked { ok, contributors };
        self.feed(Input::Piece(SWARM, piece, checked));
    }
}

fn fact(kind: u8, piece: u32, yes: bool) -> ConnFact {
    match kind {
        0 => ConnFact::Bitfield(vec![
            u8::try_from(piece).expect("small"),
            if yes { 255 } else { 0 },
            0xf0,
        ]),
        1 => ConnFact::HaveAll,
        2 => ConnFact::HaveNone,
        3 => ConnFact::Have(piece),
        4 => ConnFact::DontHave(piece),
        5 => ConnFact::Interested(yes),
        6 | 7 => ConnFact::Choking(!yes),
        8 => ConnFact::Requested {
            piece,
            bytes: 16_384,
        },
        9 => ConnFact::Served {
            piece,
            bytes: 16_384,
        },
        10 => ConnFact::Received {
            piece,
            bytes: 16_384,
            redundant: u32::from(yes),
        },
        11 => ConnFact::LeaseDone { piece },
        12 => ConnFact::AllowedFast(piece),
        _ => ConnFact::LeaseLost {
            piece,
            why: if yes {
                LeaseEnd::Rejected
            } else {
                LeaseEnd::Choked
            },
        },
    }
}

fn shell() -> Shell {
    let mut shell = Shell {
        node: Node::new(Params::new(limits(CACHE), [255; 20]), 1),
        now: Timestamp::from_millis(1),
        conns: BTreeMap::new(),
        masters: BTreeSet::new(),
        next: 0,
        fetching: BTreeSet::new(),
        held: BTreeSet::new(),
        retiring: Vec::new(),
        cap: CACHE,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let configured = MasterFact::Configured {
        name: "home".into(),
        share: 0.5,
        slave_key: 1,
    };
    shell.feed(Input::Master(MasterId(1), configured));
    shell.feed(Input::Master(
        MasterId(1),
        MasterFact::Resolved(vec![addr(1)]),
    ));
    shell.feed(Input::Swarm(
        SWARM,
        SwarmFact::Known {
            info_hash: [3; 20],
            name: "any".into(),
            geometry: Some(Geometry {
                piece_length: 65_536,
                total: u64::from(PIECES) * PIECE,
            }),
            private: false,
            hold: Hold::Cache,
            origin: Origin::User,
            pinned: false,
        },
    ));
    shell
}

/// A shell whose node fetches one piece from each of `givers` seeds, and the first piece it began.
fn fetching_from(givers: u8) -> (Shell, u32) {
    let mut shell = shell();
    for who in 20..20 + givers {
        shell.run(&Op::Connect(who, false, true));
        shell.run(&Op::Facts(who, 1, 0, true));
    }
    for who in 2..8 {
        shell.run(&Op::Connect(who, true, true));
        shell.run(&Op::Facts(who, 2, 0, true));
    }
    for who in 20..20 + givers {
        shell.run(&Op::Facts(who, 6, 0, true));
    }
    shell.run(&Op::Wait(3000));
    let piece = *shell.fetching.first().expect("something is fetched");
    (shell, piece)
}

/// This one gave a part.
fn gave(conn: ConnId) -> Contributor {
    Contributor {
        conn,
        bytes: 16_384,
    }
}

fn fail(shell: &mut Shell, piece: u32, contributors: Vec<ConnId>) {
    let contributors = contributors.into_iter().map(gave).collect();
    shell.fetching.remove(&piece);
    shell.retiring.push(piece);
    shell.feed(Input::Piece(
        SWARM,
        piece,
        PieceFact::Checked {
            ok: false,
            contributors,
        },
    ));
}

#[test]
fn a_bad_piece_from_one_giver_bans_it_and_of_several_the_second_strike_does() {
    let banned = |shell: &Shell| {
        let note =
            |output: &&Output| matches!(output, Output::Note(swarm_core::io::Note::Banned(..)));
        shell.outputs.iter().filter(note).count()
    };
    let (mut shell, piece) = fetching_from(1);
    let giver = shell.conns[&20];
    fail(&mut shell, piece, vec![giver]);
    assert_eq!(banned(&shell), 1);
    assert!(!shell.conns.contains_key(&20), "closed");
    shell.feed(Input::Conn(
        giver,
        vec![ConnFact::Closed(CloseReason::Ours)],
    ));
    shell.run(&Op::Connect(20, true, true));
    assert!(!shell.conns.contains_key(&20), "and not let in again");

    let (mut shell, piece) = fetching_from(2);
    let (a, b) = (shell.conns[&20], shell.conns[&21]);
    fail(&mut shell, piece, vec![a, b]);
    assert_eq!(banned(&shell), 0, "of two, nobody knows which");
    let again = *shell.fetching.first().expect("another is under way");
    fail(&mut shell, again, vec![a]);
    assert_eq!(banned(&shell), 1);
}

#[test]
fn an_idle_node_sets_no_timer() {
    assert_eq!(
        Node::new(Params::new(limits(CACHE), [255; 20]), 1).poll_timeout(),
        None
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_cap_holds_and_answers_repeat_under_any_facts(ops in prop::collection::vec(op(), 1..250)) {
        let mut shell = shell();
        ops.iter().for_each(|op| shell.run(op));
        let used = (shell.fetching.len() + shell.held.len() + shell.retiring.len()) as u64 * PIECE;
        prop_assert_eq!(shell.node.view().cache.used_bytes, used, "the brain counts as the shell does");
        let mut again = Node::new(Params::new(limits(CACHE), [255; 20]), 1);
        let mut outputs = Vec::new();
        for (now, input) in shell.inputs {
            again.handle(now, input);
            while let Some(output) = again.poll_output() {
                outputs.push(output);
            }
        }
        prop_assert_eq!(outputs, shell.outputs);
    }
}
