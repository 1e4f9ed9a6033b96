//! Whom we dial again, and when.
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

use std::net::SocketAddr;

use desk::{Desk, SWARM};
use swarm_core::io::{ConnFact, ConnId, Input, Origin, PeerSource, SwarmFact};

/// It came to us from a port of its own, and a tracker names the one where it listens: both are one peer, and a dial there is
/// refused. Dialled again each second, both sides would shake hands for nothing for ever.
#[test]
fn where_a_peer_listens_that_is_connected_already_is_tried_once_a_minute() {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    let came: SocketAddr = ([198, 18, 3, 1], 40_000).into();
    let listens: SocketAddr = ([198, 18, 3, 1], 6881).into();
    desk.comes(ConnId(1), came, ConnFact::HaveNone);
    desk.feed(Input::Swarm(
        SWARM,
        SwarmFact::Peers(vec![listens], PeerSource::Tracker),
    ));
    let (mut next, mut tries) = (10, 0);
    for _ in 0..150 {
        desk.wait(1);
        for addr in std::mem::take(&mut desk.dials) {
            (next, tries) = (next + 1, tries + 1);
            let connected = ConnFact::Connected {
                swarm: SWARM,
                addr,
                incoming: false,
                peer_id: [1; 20],
                fast: true,
                extended: true,
            };
            desk.feed(Input::Conn(ConnId(next), vec![connected]));
        }
    }
    assert_eq!(tries, 3, "at 1, 61 and 121 s");
}
