//! How a helper and its friend's master come together, and what the one may do with the other: one brain, and what friends
//! and peers say to it.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use desk::{Desk, PIECE, PIECES, SWARM, ask, reserve};
use swarm_core::io::friends::{Ask, FriendFact, FriendId, FriendsOutput, HelpId, HelpMessage};
use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Extended, Input, MasterId, Order, Origin, Role,
};
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::tit_for_tat::Standing;

const SEED: ConnId = ConnId(9);
const MASTER: ConnId = ConnId(3);

fn at(host: u8, port: u16) -> SocketAddr {
    ([198, 18, 1, host], port).into()
}

/// Help `id` for this friend, whose master comes by itself.
fn helps(desk: &mut Desk, friend: u32, id: u32, pieces: std::ops::Range<u32>) {
    let host = u8::try_from(friend).expect("few");
    let HelpMessage::Ask(asked) = ask(id, &at(host, 51413).to_string()) else {
        unreachable!("an ask")
    };
    let deliveries = vec![Delivery::Rpc];
    desk.says(
        friend,
        HelpMessage::Ask(Ask {
            deliveries,
            ..asked
        }),
    );
    desk.says(friend, reserve(id, pieces));
}

/// A helper in the swarm, with a session to each of these friends.
fn helper(cache: u64, friends: u32) -> Desk {
    let mut desk = Desk::with_cache(cache);
    desk.known(Origin::User, false);
    (1..=friends).for_each(|friend| desk.synced(friend, 0, 0));
    desk
}

/// Connections that were taken for the friend's master, in order.
fn guests(desk: &Desk) -> Vec<ConnId> {
    let orders = desk.orders.iter().filter(|(_, order)| match order {
        Order::Hello { role, .. } | Order::Role(role) => *role == Role::Guest(FriendId(1)),
        Order::Fetch(_)
        | Order::Announce(_)
        | Order::Withdraw(_)
        | Order::Unchoke(_)
        | Order::Interested(_)
        | Order::Revoke(_)
        | Order::Close => false,
    });
    orders.map(|(conn, _)| *conn).collect()
}

fn told(desk: &Desk, conn: ConnId) -> Vec<u32> {
    let told = desk.told.get(&conn).into_iter().flatten();
    told.copied().collect()
}

//= spec/friends.md#release-stop
#[test]
fn what_the_asker_takes_back_is_not_fetched_for_it() {
    let mut desk = helper(64 << 20, 1);
    helps(&mut desk, 1, 1, 0..8);
    // The seed that could give all of them is busy until then.
    desk.gives.insert(SEED);
    desk.comes(SEED, ([198, 19, 0, 7], 40_000).into(), ConnFact::HaveAll);
    desk.wait(2);
    assert_eq!(desk.asked_of(SEED), []);
    let pieces = (4..8).collect();
    let id = HelpId(1);
    desk.says(1, HelpMessage::Release { id, pieces });
    desk.feed(Input::Conn(SEED, vec![ConnFact::Choking(false)]));
    desk.wait(10);
    let fetched: BTreeSet<u32> = desk.asked_of(SEED).into_iter().collect();
    assert_eq!(fetched, (0..4).collect());
}

//= spec/friends.md#arrive-provisional
#[test]
fn a_guest_has_one_piece_until_its_friend_says_that_it_is_its_master() {
    let mut desk = helper(64 << 20, 1);
    helps(&mut desk, 1, 1, 0..8);
    desk.seed(SEED);
    desk.wait(3);
    assert!((0..8).all(|piece| desk.holds(piece)));

    desk.comes(MASTER, at(1, 40_000), ConnFact::HaveNone);
    desk.comes(ConnId(4), at(1, 40_001), ConnFact::HaveNone);
    desk.wait(3);
    let [piece] = told(&desk, MASTER)[..] else {
        panic!("{:?}", told(&desk, MASTER))
    };
    assert_eq!(guests(&desk), [MASTER], "not two at once");
    desk.takes(MASTER, piece);
    let id = HelpId(1);
    // Somebody else is its master, as far as the friend says.
    let from = at(1, 40_007);
    desk.says(1, HelpMessage::Arrived { id, from });
    desk.wait(5);
    assert_eq!(told(&desk, MASTER), [piece], "nothing more");

    // It may come again, and is no more to us then.
    let gone = || vec![ConnFact::Closed(CloseReason::Remote)];
    desk.feed(Input::Conn(ConnId(4), gone()));
    desk.feed(Input::Conn(MASTER, gone()));
    desk.comes(ConnId(5), at(1, 40_002), ConnFact::HaveNone);
    desk.wait(5);
    assert_eq!(guests(&desk), [MASTER, ConnId(5)]);
    assert!(told(&desk, ConnId(5)).len() <= 1);
    let from = at(1, 40_002);
    desk.says(1, HelpMessage::Arrived { id, from });
    desk.wait(5);
    assert!(told(&desk, ConnId(5)).len() > 1, "now it is the master");
}

//= spec/friends.md#arrive-master
#[test]
fn a_guest_that_was_a_peer_is_asked_for_nothing_more() {
    let mut desk = helper(64 << 20, 2);
    let mut has = vec![0; PIECES as usize / 8];
    has[1] = 0xff;
    desk.comes(MASTER, at(1, 40_000), ConnFact::Bitfield(has));
    desk.feed(Input::Conn(MASTER, vec![ConnFact::Choking(false)]));
    // Another friend wants what it has.
    helps(&mut desk, 2, 3, 8..16);
    desk.wait(2);
    let leased: BTreeSet<u32> = desk.asked_of(MASTER).into_iter().collect();
    assert!(!leased.is_empty(), "a peer like any other");

    let before = desk.orders.len();
    helps(&mut desk, 1, 1, 0..4);
    desk.wait(2);
    let since: Vec<Order> = desk.orders[before..]
        .iter()
        .filter(|(conn, _)| *conn == MASTER)
        .map(|(_, order)| order.clone())
        .collect();
    for piece in leased {
        assert!(since.contains(&Order::Revoke(piece)), "{piece}: {since:?}");
    }
    assert!(since.contains(&Order::Interested(false)));
    desk.feed(Input::Conn(MASTER, vec![ConnFact::Choking(false)]));
    desk.wait(30);
    let later = &desk.orders[before..];
    let fetches = |(conn, order): &&(ConnId, Order)| {
        *conn == MASTER && matches!(order, Order::Fetch(_) | Order::Interested(true))
    };
    assert_eq!(later.iter().filter(fetches).count(), 0, "{later:?}");
}

/// The cache has room for eight pieces. What the friend's master was told of stays until it has it, though the friend takes
/// it back, and our own master wants the room; `desk` watches that, and that nothing is announced before its hash passed.
//= spec/friends.md#helper-announces
#[test]
fn what_is_announced_to_a_master_is_there_and_stays() {
    let mut desk = helper(8 * u64::from(PIECE), 1);
    helps(&mut desk, 1, 1, 0..4);
    desk.comes(MASTER, at(1, 40_000), ConnFact::HaveNone);
    let (id, from) = (HelpId(1), at(1, 40_000));
    desk.says(1, HelpMessage::Arrived { id, from });
    desk.wait(2);
    assert_eq!(told(&desk, MASTER), [], "nothing is held");
    desk.seed(SEED);
    desk.wait(2);
    assert_eq!(told(&desk, MASTER), [0, 1, 2, 3]);

    let pieces = (0..4).collect();
    desk.says(1, HelpMessage::Release { id, pieces });
    desk.needy_master(false);
    desk.wait(60);
    let fetched: BTreeSet<u32> = desk.asked_of(SEED).into_iter().collect();
    assert!(fetched.len() > 4, "{fetched:?}: there was use for the room");
    assert!((0..4).all(|piece| desk.holds(piece)), "and yet they stay");
    (0..4).for_each(|piece| desk.takes(MASTER, piece));
    desk.wait(1);
    let delivered = desk.out.iter().flat_map(|out| match out {
        FriendsOutput::Send(_, HelpMessage::Progress { delivered, .. }) => delivered.as_slice(),
        FriendsOutput::Send(..)
        | FriendsOutput::Sign(..)
        | FriendsOutput::Keep(..)
        | FriendsOutput::FetchMeta { .. }
        | FriendsOutput::Reach(..)
        | FriendsOutput::Invite(..)
        | FriendsOutput::Introduce { .. }
        | FriendsOutput::Watch(..) => &[],
    });
    assert!(delivered.eq(&[0, 1, 2, 3]), "and are said to be delivered");
}

/// A master that is short, and one friend, whose session comes from 198.18.1.1; it was met nowhere of ours.
fn asker(pex: bool) -> (Desk, HelpId) {
    let mut desk = Desk::new();
    desk.met(1, Standing::default(), None);
    desk.fact(
        1,
        FriendFact::Synced {
            given: 0,
            received: 0,
        },
    );
    desk.needy_master(false);
    let extended = Extended {
        pex,
        ..Extended::default()
    };
    desk.feed(Input::Conn(ConnId(1), vec![ConnFact::Extended(extended)]));
    desk.wait(12);
    let asked = desk.out.iter().find_map(|out| {
        if let FriendsOutput::Send(_, HelpMessage::Ask(ask)) = out {
            Some(ask.id)
        } else {
            None
        }
    });
    let id = asked.expect("asked");
    (desk, id)
}

/// The helper takes the ask up and says that it is ready; of whom our master hears, or whom we dial, in the way's time.
fn named(desk: &mut Desk, id: HelpId, way: Delivery, at: Vec<SocketAddr>) -> BTreeSet<SocketAddr> {
    let offer = HelpMessage::Offer {
        id,
        rate: 1 << 20,
        room: 1 << 30,
        deliveries: vec![way],
        at,
    };
    desk.says(1, offer);
    desk.dials.clear();
    let ready = HelpMessage::Progress {
        id,
        held: vec![0],
        delivered: Vec::new(),
        bytes: 0,
    };
    desk.says(1, ready);
    desk.wait(44);
    let mut named: BTreeSet<SocketAddr> = desk.dials.iter().copied().collect();
    for out in &desk.out {
        match out {
            FriendsOutput::Invite(MasterId(1), SWARM, addr) => {
                named.insert(*addr);
            }
            FriendsOutput::Introduce { added, .. } => named.extend(added),
            FriendsOutput::Invite(..)
            | FriendsOutput::Send(..)
            | FriendsOutput::Sign(..)
            | FriendsOutput::Keep(..)
            | FriendsOutput::FetchMeta { .. }
            | FriendsOutput::Reach(..)
            | FriendsOutput::Watch(..) => {}
        }
    }
    named
}

//= spec/friends.md#deliver-proved
#[test]
fn p16_only_endpoints_that_are_the_helpers_own_are_named_or_dialled() {
    let victim = SocketAddr::from(([198, 18, 77, 7], 6881));
    let (own, other) = (at(1, 7000), SocketAddr::from(([198, 18, 9, 9], 7000)));
    for way in [Delivery::Rpc, Delivery::Introduced, Delivery::Relayed] {
        let (mut desk, id) = asker(true);
        let none = named(&mut desk, id, way, vec![victim]);
        assert_eq!(none, BTreeSet::new(), "{way:?}");
        let asks = FriendsOutput::Reach(FriendId(1), vec![victim]);
        assert!(desk.out.contains(&asks), "{way:?}: whether it is its own");

        // The shell knows by the session where this one is.
        let (mut desk, id) = asker(true);
        desk.fact(1, FriendFact::Reached(own));
        let one = named(&mut desk, id, way, vec![victim, own]);
        assert_eq!(one, BTreeSet::from([own]), "{way:?}");

        // A session was completed there.
        let (mut desk, id) = asker(true);
        desk.fact(1, FriendFact::Reached(other));
        let one = named(&mut desk, id, way, vec![victim, other]);
        assert_eq!(one, BTreeSet::from([other]), "{way:?}");
    }
}
