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

use desk::Desk;
use swarm_core::io::{ConnFact, ConnId, Fetch, Input, LeaseEnd, Order};

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
    desk.comes(SEED, ([198, 19, 0, 7], 40_000).into(), ConnFact::HaveAll);
    desk.feed(Input::Conn(SEED, vec![ConnFact::Choking(false)]));
    let begun = fetches(&mut desk);
    let piece = begun.first().expect("asked").piece;
    let mut facts = vec![ConnFact::Received {
        piece,
        bytes: 16_384,
        redundant: 0,
    }];
    facts.extend(begun.iter().map(|fetch| ConnFact::LeaseLost {
        piece: fetch.piece,
        why: LeaseEnd::Choked,
    }));
    facts.push(ConnFact::Choking(true));
    desk.feed(Input::Conn(SEED, facts));
    let begun_with = |desk: &Desk| desk.node.view().swarms[0].fetching_pieces;
    desk.wait(30);
    assert_eq!(begun_with(&desk), 1, "{piece}, of which a block is here");
    desk.wait(300);
    assert_eq!(begun_with(&desk), 1, "{piece} was given up");
}
