//! What becomes of pieces that were begun, when whoever brings them stops.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "support/desk.rs"]
mod desk;

use desk::{Desk, ask, reserve};
use swarm_core::io::friends::{HelpId, HelpMessage};
use swarm_core::io::{CloseReason, ConnFact, ConnId, Fetch, Input, LeaseEnd, Order, Origin};

const MASTER: ConnId = ConnId(1);
const SEED: ConnId = ConnId(7);

fn fetches(desk: &mut Desk) -> Vec<Fetch> {
    let orders = std::mem::take(&mut desk.orders);
    let fetch = |(conn, order)| match (conn, order) {
        (SEED, Order::Fetch(fetch)) => Some(fetch),
        _ => None,
    };
    orders.into_iter().filter_map(fetch).collect()
}

/// In tit for tat a slow peer's slot comes and goes. What it brought of a piece that a master lacks is not thrown away while
/// the cache has room.
#[test]
fn a_masters_piece_waits_for_the_next_unchoke() {
    let mut desk = Desk::new();
    desk.needy_master(false);
    let piece = begun(&mut desk, 1);
    desk.wait(30);
    assert_eq!(under_way(&desk), 1, "{piece}, of which a block is here");
    desk.wait(300);
    assert_eq!(under_way(&desk), 1, "{piece} was given up");
}

/// So many blocks of a piece are here, and nobody brings more of it.
fn begun(desk: &mut Desk, blocks: u32) -> u32 {
    desk.comes(SEED, ([198, 19, 0, 7], 40_000).into(), ConnFact::HaveAll);
    desk.feed(Input::Conn(SEED, vec![ConnFact::Choking(false)]));
    let leased = fetches(desk);
    let piece = leased.first().expect("asked").piece;
    let mut facts = vec![ConnFact::Received {
        piece,
        bytes: blocks * 16_384,
        redundant: 0,
    }];
    facts.extend(leased.iter().map(|fetch| ConnFact::LeaseLost {
        piece: fetch.piece,
        why: LeaseEnd::Choked,
    }));
    facts.push(ConnFact::Choking(true));
    desk.feed(Input::Conn(SEED, facts));
    piece
}

fn under_way(desk: &Desk) -> u32 {
    desk.node.view().swarms[0].fetching_pieces
}

/// Strangers that lack it could be given it, but every slot that brings its rest is one that brings nothing for the master.
#[test]
fn what_the_master_got_from_others_is_given_up_unless_half_of_it_is_here() {
    for (blocks, given_up) in [(1, 1), (2, 0)] {
        let mut desk = Desk::new();
        desk.needy_master(false);
        let stranger = ConnId(9);
        desk.comes(
            stranger,
            ([198, 19, 0, 9], 40_000).into(),
            ConnFact::HaveNone,
        );
        let piece = begun(&mut desk, blocks);
        desk.wait(2);
        let before = under_way(&desk);
        desk.feed(Input::Conn(MASTER, vec![ConnFact::Have(piece)]));
        desk.wait(1);
        assert_eq!(before - under_way(&desk), given_up, "{blocks} blocks");
    }
}

#[test]
fn a_master_that_is_away_for_a_moment_is_waited_for() {
    let mut desk = Desk::new();
    desk.needy_master(false);
    begun(&mut desk, 1);
    desk.wait(25);
    assert_eq!(under_way(&desk), 1);
    desk.feed(Input::Conn(
        MASTER,
        vec![ConnFact::Closed(CloseReason::Remote)],
    ));
    desk.wait(10);
    assert_eq!(under_way(&desk), 1);
}

/// The asker took it back: another brings it.
#[test]
fn what_a_friend_took_back_is_given_up_unless_half_of_it_is_here() {
    for (blocks, left) in [(1, 0), (2, 1)] {
        let mut desk = Desk::new();
        desk.synced(1, 0, 0);
        desk.known(Origin::User, false);
        desk.says(1, ask(1, "198.18.0.2:51413"));
        desk.says(1, reserve(1, 0..1));
        desk.wait(1);
        let piece = begun(&mut desk, blocks);
        desk.wait(2);
        assert_eq!((piece, under_way(&desk)), (0, 1));
        let (id, pieces) = (HelpId(1), vec![piece]);
        desk.says(1, HelpMessage::Release { id, pieces });
        desk.wait(1);
        assert_eq!(under_way(&desk), left, "{blocks} blocks");
    }
}
