//! What the brain does in a swarm of slaves.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use swarm_core::io::friends::{
    Ask, FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode, FriendsOutput, HelpId,
    HelpMessage,
};
use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Defence, Extended, Geometry, Hold, Input, Limits, Note, Order,
    Origin, Output, PeerSource, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::rendezvous::NoDialBack;
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use swarm_core::time::Timestamp;

const SWARM: SwarmId = SwarmId(1);
/// Where the announce URL listens.
const AT: &str = "198.18.0.1";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn peer(n: u8) -> SocketAddr {
    SocketAddr::new([198, 18, n, 9].into(), 6881)
}

/// A node in one rendezvous, in virtual time.
struct Side {
    node: Node,
    second: u64,
    out: Vec<Output>,
    next: u64,
}

impl Side {
    fn new(hold: Hold, mode: FriendsMode) -> Self {
        let mut params = Params::new(
            Limits {
                cache: 64 << 20,
                cache_memory: 64 << 20,
                ..Limits::default()
            },
            *b"-BS0100-ourselves!!!",
        );
        params.friends = FriendsLimits {
            mode,
            ..FriendsLimits::default()
        };
        let mut side = Self {
            node: Node::new(params, 1),
            second: 1,
            out: Vec::new(),
            next: 0,
        };
        side.input(Input::Swarm(SWARM, known(hold)));
        side
    }

    fn host() -> Self {
        Self::new(Hold::Kept, FriendsMode::Known)
    }

    fn member() -> Self {
        Self::new(Hold::None, FriendsMode::Known)
    }

    fn input(&mut self, input: Input) {
        let now = Timestamp::from_millis(self.second * 1000);
        self.node.handle(now, input);
        while let Some(output) = self.node.poll_output() {
            self.out.push(output);
        }
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            self.input(Input::Timer);
        }
    }

    fn connect(&mut self, from: SocketAddr, incoming: bool, extended: bool) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        let mut peer_id = [0; 20];
        if let IpAddr::V4(ip) = from.ip() {
            peer_id[..4].copy_from_slice(&ip.octets());
        }
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr: from,
            incoming,
            peer_id,
            fast: true,
            extended,
        };
        self.facts(conn, vec![connected]);
        conn
    }

    fn facts(&mut self, conn: ConnId, facts: Vec<ConnFact>) {
        self.input(Input::Conn(conn, facts));
    }

    fn hello(&mut self, conn: ConnId, slave: Option<bool>) {
        let ext = Extended {
            pex: true,
            listen_port: Some(6881),
            ..Extended::default()
        };
        let slave = slave.map(ConnFact::Slave);
        let facts = slave
            .into_iter()
            .chain([ConnFact::Extended(ext), ConnFact::HaveNone]);
        self.facts(conn, facts.collect());
    }

    /// A connection to a member that we dialled, or that dialled us.
    fn member_at(&mut self, at: SocketAddr, incoming: bool) -> ConnId {
        let conn = self.connect(at, incoming, true);
        self.hello(conn, Some(false));
        conn
    }

    fn announce(&mut self, from: SocketAddr, stopped: bool) {
        let at = addr(&format!("{AT}:1")).ip();
        let fact = SwarmFact::Announced { from, at, stopped };
        self.input(Input::Swarm(SWARM, fact));
    }

    fn named_by_tracker(&mut self, at: SocketAddr) {
        let fact = SwarmFact::Peers(vec![at], PeerSource::Tracker);
        self.input(Input::Swarm(SWARM, fact));
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.out.contains(&Output::Order(conn, Order::Close))
    }

    fn fired(&self, conn: ConnId, defence: Defence) -> bool {
        self.out.contains(&Output::Note(Note::Fired(conn, defence)))
    }

    fn not_dialled(&self, at: SocketAddr, why: NoDialBack) -> bool {
        let note = Note::NotDialled(at, Defence::NoDialBack(why));
        self.out.contains(&Output::Note(note))
    }

    fn dials(&self, at: SocketAddr) -> usize {
        let dial = Output::Dial(SWARM, at);
        self.out.iter().filter(|output| **output == dial).count()
    }

    fn listed(&self) -> BTreeSet<SocketAddr> {
        let mut listed = BTreeSet::new();
        for output in &self.out {
            if let Output::Listed(_, at, on) = output {
                let new = if *on {
                    listed.insert(*at)
                } else {
                    listed.remove(at)
                };
                assert!(new, "said twice: {at}");
            }
        }
        listed
    }
}

fn known(hold: Hold) -> SwarmFact {
    SwarmFact::Known {
        info_hash: [7; 20],
        name: "rendezvous".into(),
        geometry: Some(Geometry {
            piece_length: 16_384,
            total: 2000,
        }),
        private: false,
        hold,
        origin: Origin::Rendezvous,
        pinned: false,
    }
}

//= spec/rendezvous.md#rv-stranger
//= spec/rendezvous.md#rv-polite
#[test]
fn a_stranger_is_let_go_without_a_ban_and_not_dialled_for_half_an_hour() {
    let mut side = Side::member();
    let at = peer(1);
    side.named_by_tracker(at);
    assert_eq!(side.dials(at), 1);
    let stranger = side.connect(at, false, true);
    side.hello(stranger, None);
    side.pass(19);
    assert!(!side.is_closed(stranger));
    side.pass(3);
    assert!(side.is_closed(stranger) && side.fired(stranger, Defence::Stranger));
    side.facts(stranger, vec![ConnFact::Closed(CloseReason::Ours)]);
    side.named_by_tracker(at);
    side.pass(1770);
    assert_eq!(side.dials(at), 1);
    side.pass(60);
    side.named_by_tracker(at);
    assert!(side.dials(at) > 1);
    let again = side.connect(peer(1), true, true);
    assert!(!side.is_closed(again), "a stranger is not banned");
    let view = side.node.view().swarms[0].meeting.expect("a rendezvous");
    assert_eq!((view.members, view.strangers_let_go), (0, 1));
}

//= spec/rendezvous.md#rv-stranger
#[test]
fn who_shows_nothing_is_a_stranger_in_twenty_seconds_and_who_cannot_at_once() {
    let mut side = Side::member();
    let silent = side.connect(peer(1), true, true);
    let plain = side.connect(peer(2), true, false);
    let member = side.member_at(peer(3), true);
    side.pass(22);
    assert!(side.is_closed(plain) && !side.is_closed(silent));
    side.pass(20);
    assert!(side.is_closed(silent));
    side.pass(3000);
    assert!(!side.is_closed(member));
}

//= spec/rendezvous.md#rv-served
#[test]
fn a_host_serves_a_stranger_before_it_lets_it_go() {
    let mut side = Side::host();
    let taker = side.connect(peer(1), true, true);
    side.hello(taker, None);
    side.facts(taker, vec![ConnFact::Interested(true)]);
    let unchoked = Output::Order(taker, Order::Unchoke(true));
    assert!(side.out.contains(&unchoked));
    side.pass(300);
    assert!(!side.is_closed(taker));
    side.facts(taker, vec![ConnFact::Have(0)]);
    side.pass(1);
    assert!(side.is_closed(taker));
    let slow = side.connect(peer(2), true, true);
    side.hello(slow, None);
    side.facts(slow, vec![ConnFact::Interested(true)]);
    side.pass(602);
    assert!(side.fired(slow, Defence::Stranger));
    let told = Output::Left(SWARM, 0);
    assert!(side.out.contains(&told), "a host is what it is: a seed");
}

#[test]
fn a_member_holds_and_asks_for_nothing_and_says_so_to_trackers() {
    let mut side = Side::member();
    let seed = side.member_at(peer(1), false);
    side.facts(seed, vec![ConnFact::HaveAll, ConnFact::Choking(false)]);
    side.pass(100);
    assert!(side.out.contains(&Output::Left(SWARM, 2000)));
    let asked = |output: &Output| {
        matches!(
            output,
            Output::Order(_, Order::Interested(true) | Order::Fetch(_))
        )
    };
    assert!(!side.out.iter().any(asked));
}

//= spec/rendezvous.md#rv-dial-back
#[test]
fn an_announcer_is_dialled_back_and_listed_once_it_shows_that_it_is_a_slave() {
    let mut side = Side::host();
    side.announce(peer(1), false);
    assert_eq!(side.dials(peer(1)), 1);
    let conn = side.connect(peer(1), false, true);
    assert!(side.listed().is_empty());
    side.hello(conn, Some(false));
    assert_eq!(side.listed(), BTreeSet::from([peer(1)]));
    side.announce(peer(2), false);
    let stranger = side.connect(peer(2), false, true);
    side.hello(stranger, None);
    side.pass(60);
    assert!(side.is_closed(stranger));
    side.facts(stranger, vec![ConnFact::Closed(CloseReason::Ours)]);
    side.announce(peer(2), false);
    assert!(side.not_dialled(peer(2), NoDialBack::Stranger));
    assert_eq!(side.listed(), BTreeSet::from([peer(1)]));
}

//= spec/rendezvous.md#rv-dial-back
#[test]
fn between_two_in_open_mode_only_a_session_that_stood_lists() {
    let mut side = Side::new(Hold::Kept, FriendsMode::Open);
    for n in [1, 2] {
        side.announce(peer(n), false);
        let conn = side.connect(peer(n), false, true);
        side.hello(conn, Some(n == 1));
    }
    assert_eq!(side.listed(), BTreeSet::from([peer(2)]));
    side.input(Input::Friends(FriendsInput::Stood(ConnId(1))));
    assert_eq!(side.listed(), BTreeSet::from([peer(1), peer(2)]));
}

//= spec/rendezvous.md#rv-dial-back
#[test]
fn a_dial_back_that_meets_who_is_connected_already_lists_it() {
    let mut side = Side::host();
    let came = SocketAddr::new(peer(1).ip(), 50_000);
    let member = side.member_at(came, true);
    side.announce(peer(1), false);
    let twin = side.connect(peer(1), false, true);
    assert!(side.is_closed(twin) && !side.is_closed(member));
    assert_eq!(side.listed(), BTreeSet::from([peer(1)]));
    // Another address that plays the same peer proves nothing.
    let elsewhere = SocketAddr::new(peer(2).ip(), 6881);
    side.announce(elsewhere, false);
    assert_eq!(side.listed(), BTreeSet::from([peer(1)]));
}

//= spec/rendezvous.md#rv-dial-back
#[test]
fn who_answered_a_dial_back_before_it_could_show_that_it_is_a_slave_is_listed_when_it_comes() {
    let mut side = Side::host();
    side.announce(peer(1), false);
    let without_metadata = side.connect(peer(1), false, true);
    side.hello(without_metadata, None);
    side.facts(
        without_metadata,
        vec![ConnFact::Closed(CloseReason::Remote)],
    );
    assert!(side.listed().is_empty());
    side.member_at(SocketAddr::new(peer(1).ip(), 50_000), true);
    assert_eq!(side.listed(), BTreeSet::from([peer(1)]));
}

//= spec/rendezvous.md#rv-dial-back
//= spec/rendezvous.md#rv-answer
#[test]
fn a_listing_ends_with_stopped_or_half_an_hour_after_the_last_proof() {
    let mut side = Side::host();
    for n in [1, 2] {
        side.announce(peer(n), false);
        let conn = side.connect(peer(n), false, true);
        side.hello(conn, Some(false));
    }
    side.pass(4000);
    assert_eq!(side.listed().len(), 2, "both are still connected");
    side.announce(peer(1), true);
    assert_eq!(side.listed(), BTreeSet::from([peer(2)]));
    side.facts(ConnId(2), vec![ConnFact::Closed(CloseReason::Remote)]);
    side.pass(1790);
    assert_eq!(side.listed(), BTreeSet::from([peer(2)]));
    side.pass(20);
    assert!(side.listed().is_empty());
    side.announce(peer(3), false);
    let conn = side.connect(peer(3), false, true);
    side.hello(conn, Some(false));
    side.input(Input::Swarm(SWARM, SwarmFact::Unnamed(Origin::Rendezvous)));
    assert!(side.listed().is_empty() && side.out.contains(&Output::Leave(SWARM)));
}

//= spec/rendezvous.md#rv-dial-scope
//= spec/rendezvous.md#rv-dial-pace
#[test]
fn p16_announces_make_us_dial_no_victim() {
    let mut side = Side::host();
    for forbidden in ["198.18.1.9:22", "127.0.0.1:6881", "169.254.1.1:6881"] {
        side.announce(addr(forbidden), false);
        assert_eq!(side.dials(addr(forbidden)), 0);
    }
    assert!(side.not_dialled(addr("198.18.1.9:22"), NoDialBack::Port));
    assert!(side.not_dialled(addr("127.0.0.1:6881"), NoDialBack::Address));
    side.announce(addr("10.0.0.1:6881"), false);
    assert!(side.not_dialled(addr("10.0.0.1:6881"), NoDialBack::Private));
    let victim = addr("198.18.1.9:2000");
    for _ in 0..500 {
        side.announce(victim, false);
        side.input(Input::DialFailed(SWARM, victim));
        side.pass(1);
    }
    assert_eq!(side.dials(victim), 1);
    assert!(side.not_dialled(victim, NoDialBack::Endpoint));
    for port in 2001..2500 {
        side.announce(SocketAddr::new(victim.ip(), port), false);
    }
    let all = side
        .out
        .iter()
        .filter(|output| matches!(output, Output::Dial(..)));
    assert_eq!(all.count(), 4);
    assert!(side.not_dialled(addr("198.18.1.9:2400"), NoDialBack::Pace));
}

//= spec/rendezvous.md#rv-pex
#[test]
fn members_hear_of_members_that_we_reached_and_of_no_others() {
    let mut side = Side::member();
    let to = side.member_at(peer(1), false);
    side.member_at(peer(2), false);
    side.member_at(SocketAddr::new(peer(3).ip(), 40_000), true);
    let stranger = side.connect(peer(4), false, true);
    side.hello(stranger, None);
    side.member_at(addr("10.0.0.9:6881"), false);
    side.pass(2);
    let told = |side: &Side, from: usize| -> Vec<(Vec<SocketAddr>, Vec<SocketAddr>)> {
        let messages = side.out[from..].iter().filter_map(|output| {
            let Output::Friends(FriendsOutput::Introduce {
                conn,
                added,
                dropped,
            }) = output
            else {
                return None;
            };
            (*conn == to).then(|| (added.clone(), dropped.clone()))
        });
        messages.collect()
    };
    assert_eq!(told(&side, 0), [(vec![peer(2)], vec![])]);
    side.member_at(peer(5), false);
    side.facts(ConnId(2), vec![ConnFact::Closed(CloseReason::Remote)]);
    let before = side.out.len();
    side.pass(50);
    assert!(told(&side, before).is_empty(), "once a minute");
    side.pass(15);
    assert_eq!(told(&side, before), [(vec![peer(5)], vec![peer(2)])]);
}

#[test]
fn strangers_give_way_and_members_do_not_but_to_a_dial_back() {
    let mut side = Side::host();
    let stranger = side.connect(peer(1), true, true);
    for n in 2..=40 {
        side.member_at(peer(n), true);
    }
    let newcomer = side.member_at(peer(41), true);
    assert!(side.is_closed(stranger) && !side.is_closed(newcomer));
    side.facts(stranger, vec![ConnFact::Closed(CloseReason::Ours)]);
    let refused = side.connect(peer(42), true, true);
    assert!(side.fired(refused, Defence::ConnectionLimit) && side.is_closed(refused));
    side.facts(refused, vec![ConnFact::Closed(CloseReason::Ours)]);
    side.announce(peer(43), false);
    let asked_for = side.member_at(peer(43), false);
    assert!(!side.is_closed(asked_for) && side.is_closed(ConnId(2)));
}

fn ask(side: &mut Side, met: Option<ConnId>) -> Vec<Output> {
    let id = FriendId(0);
    let mut fact = |fact| side.input(Input::Friends(FriendsInput::Friend(id, fact)));
    fact(FriendFact::Known {
        nearness: Nearness::Acquaintance,
        standing: Standing::default(),
    });
    let ip = peer(1).ip();
    fact(FriendFact::Online {
        smaller: true,
        ip,
        network: NetworkTag(1),
        endpoint: None,
    });
    if let Some(conn) = met {
        fact(FriendFact::Linked(conn));
    }
    fact(FriendFact::Synced {
        given: 0,
        received: 0,
    });
    fact(FriendFact::Message(HelpMessage::Ask(Ask {
        id: HelpId(1),
        info_hash: [5; 20],
        size: 1 << 30,
        piece_length: 1 << 18,
        wanted: 1 << 30,
        master: vec![peer(1)],
        deliveries: vec![Delivery::Relayed],
        private: false,
    })));
    let friends = |output: &&Output| matches!(output, Output::Friends(_));
    side.out.iter().filter(friends).cloned().collect()
}

//= spec/rendezvous.md#rv-no-credit
#[test]
fn an_acquaintance_met_here_is_offered_what_any_other_is() {
    let mut here = Side::new(Hold::None, FriendsMode::Open);
    let conn = here.connect(peer(1), true, true);
    here.hello(conn, Some(true));
    let mut elsewhere = Side::new(Hold::None, FriendsMode::Open);
    let offered = ask(&mut here, Some(conn));
    assert!(!offered.is_empty());
    assert_eq!(offered, ask(&mut elsewhere, None));
}

#[derive(Debug, Clone)]
enum Op {
    Announce(u8, u16, bool),
    Connect(u8, bool),
    Slave(u8, bool),
    Close(u8),
    Stood(u8),
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<u8>(), 1000u16..1040, any::<bool>()).prop_map(|(n, p, s)| Op::Announce(n, p, s)),
        (any::<u8>(), any::<bool>()).prop_map(|(n, i)| Op::Connect(n, i)),
        (any::<u8>(), any::<bool>()).prop_map(|(n, o)| Op::Slave(n, o)),
        any::<u8>().prop_map(Op::Close),
        any::<u8>().prop_map(Op::Stood),
        (1u16..700).prop_map(Op::Pass),
    ]
}

proptest! {
    //= spec/rendezvous.md#rv-dial-back
    #[test]
    fn whatever_comes_only_who_announced_and_was_proved_is_listed(
        ops in prop::collection::vec(op(), 1..120), open: bool
    ) {
        let mode = if open { FriendsMode::Open } else { FriendsMode::Known };
        let mut side = Side::new(Hold::Kept, mode);
        let (mut announced, mut slaves) = (BTreeSet::new(), BTreeSet::new());
        for op in ops {
            let conn = |n: u8| ConnId(u64::from(n % 16));
            match op {
                Op::Announce(n, port, stopped) => {
                    let from = SocketAddr::new(peer(n % 4).ip(), port);
                    announced.insert(from);
                    side.announce(from, stopped);
                }
                Op::Connect(n, incoming) => {
                    let from = SocketAddr::new(peer(n % 4).ip(), 1000 + u16::from(n % 40));
                    side.connect(from, incoming, true);
                }
                Op::Slave(n, open) => {
                    slaves.insert(conn(n));
                    side.hello(conn(n), Some(open));
                }
                Op::Close(n) => {
                    side.facts(conn(n), vec![ConnFact::Closed(CloseReason::Remote)]);
                }
                Op::Stood(n) => side.input(Input::Friends(FriendsInput::Stood(conn(n)))),
                Op::Pass(seconds) => side.pass(u64::from(seconds)),
            }
            let listed = side.listed();
            prop_assert!(listed.is_subset(&announced));
            prop_assert!(listed.iter().all(|at| at.port() >= 1024));
            let view = side.node.view().swarms[0].meeting.expect("a rendezvous");
            prop_assert_eq!(view.listed as usize, listed.len());
        }
    }
}
