//! One peer behind several addresses: it is connected once, and not dialled over and over.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::net::SocketAddr;

use desk::{Desk, SWARM};
use swarm_core::io::{CloseReason, ConnFact, ConnId, Input, Order, PeerSource, SwarmFact};

const TWIN: ConnId = ConnId(3);

fn at(host: u8) -> SocketAddr {
    ([198, 18, 2, host], 6881).into()
}

/// What is dialled when somebody names these.
fn named(desk: &mut Desk, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    desk.dials.clear();
    let named = SwarmFact::Peers(addrs.to_vec(), PeerSource::Tracker);
    desk.feed(Input::Swarm(SWARM, named));
    desk.dials.clone()
}

/// A dial is answered by the peer of connection 3.
fn answers(desk: &mut Desk, conn: u64, addr: SocketAddr) {
    let connected = ConnFact::Connected {
        swarm: SWARM,
        addr,
        incoming: false,
        peer_id: [3; 20],
        fast: true,
        extended: true,
    };
    desk.feed(Input::Conn(ConnId(conn), vec![connected]));
}

fn closed(desk: &mut Desk, conn: ConnId) {
    let closed = ConnFact::Closed(CloseReason::Remote);
    desk.feed(Input::Conn(conn, vec![closed]));
}

fn refused(desk: &mut Desk, conn: u64, addr: SocketAddr) {
    answers(desk, conn, addr);
    assert!(desk.orders.contains(&(ConnId(conn), Order::Close)));
    closed(desk, ConnId(conn));
}

/// What is dialled of these in so many seconds, sorted.
fn dialled(desk: &mut Desk, seconds: u64, of: &[SocketAddr]) -> Vec<SocketAddr> {
    desk.dials.clear();
    desk.wait(seconds);
    let mut dials: Vec<SocketAddr> = desk.dials.clone();
    dials.retain(|addr| of.contains(addr));
    dials.sort_unstable();
    dials
}

#[test]
fn who_dialled_us_is_not_dialled_again_while_that_connection_stands() {
    let mut desk = Desk::new();
    desk.needy_master(false);
    desk.comes(TWIN, ([198, 18, 2, 1], 40_000).into(), ConnFact::HaveNone);
    let both = [at(1), at(2)];
    assert_eq!(named(&mut desk, &both), both);
    refused(&mut desk, 4, at(1));
    refused(&mut desk, 5, at(2));
    assert_eq!(dialled(&mut desk, 600, &both), []);
    assert_eq!(named(&mut desk, &both), []);
    closed(&mut desk, TWIN);
    assert_eq!(dialled(&mut desk, 1, &both), both, "both are free at once");
}

#[test]
fn another_address_of_a_peer_that_we_dialled_is_free_when_it_goes() {
    let mut desk = Desk::new();
    desk.needy_master(false);
    let both = [at(1), at(2)];
    assert_eq!(named(&mut desk, &both), both);
    answers(&mut desk, TWIN.0, at(1));
    refused(&mut desk, 4, at(2));
    assert_eq!(dialled(&mut desk, 600, &both), []);
    closed(&mut desk, TWIN);
    // The one that was dialled waits its five seconds; of the other nobody knows anything bad.
    assert_eq!(dialled(&mut desk, 1, &both), [at(2)]);
    assert_eq!(dialled(&mut desk, 5, &both), [at(1)]);
}
