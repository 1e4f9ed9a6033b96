//! The last blocks, asked for twice.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs)]

use swarm_core::io::{
    ConnFact, ConnId, Fetch, Geometry, Hold, Input, Limits, MasterFact, MasterId, Order, Origin,
    Output, PeerSource, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;

const MIB: u64 = 1 << 20;
const SWARM: SwarmId = SwarmId(1);
const MASTER: MasterId = MasterId(1);

fn limits() -> Limits {
    Limits {
        cache: 64 * MIB,
        cache_memory: 64 * MIB,
        ..Limits::default()
    }
}

/// Somebody at `198.18.0.conn` connects and says these things.
fn connect(node: &mut Node, now: Timestamp, conn: u64, says: &[ConnFact]) {
    let connected = ConnFact::Connected {
        swarm: SWARM,
        addr: format!("198.18.0.{conn}:6881").parse().expect("an address"),
        incoming: false,
        peer_id: [u8::try_from(conn).expect("small"); 20],
        fast: true,
        extended: false,
    };
    let facts = std::iter::once(connected).chain(says.iter().cloned());
    node.handle(now, Input::Conn(ConnId(conn), facts.collect()));
}

/// A slave with a master (connection 1) that lacks two of three pieces of 2 MiB, and two seeds (2 and 3).
fn slave(now: Timestamp) -> Node {
    let mut node = Node::new(Params::new(limits(), [9; 20]), 1);
    let configured = MasterFact::Configured {
        name: "home".into(),
        share: 0.5,
        slave_key: 1,
    };
    let master = "198.18.0.1:6881".parse().expect("an address");
    let seeds = [2, 3].map(|n| format!("198.18.0.{n}:6881").parse().expect("an address"));
    let known = SwarmFact::Known {
        info_hash: [1; 20],
        name: "virtual".into(),
        geometry: Some(Geometry {
            piece_length: 2 << 20,
            total: 6 * MIB,
        }),
        private: false,
        hold: Hold::Cache,
        origin: Origin::Master(MASTER),
        pinned: false,
    };
    let peers = SwarmFact::Peers(seeds.to_vec(), PeerSource::Tracker);
    for input in [
        Input::Master(MASTER, configured),
        Input::Master(MASTER, MasterFact::Resolved(vec![master])),
        Input::Swarm(SWARM, known),
        Input::Swarm(SWARM, peers),
    ] {
        node.handle(now, input);
    }
    connect(
        &mut node,
        now,
        1,
        &[
            ConnFact::Bitfield(vec![0b0010_0000]),
            ConnFact::Interested(true),
        ],
    );
    for seed in [2, 3] {
        connect(
            &mut node,
            now,
            seed,
            &[ConnFact::HaveAll, ConnFact::Choking(false)],
        );
    }
    node
}

fn orders(node: &mut Node) -> Vec<(u64, Order)> {
    let outputs = std::iter::from_fn(|| node.poll_output());
    let order = |output| {
        let Output::Order(conn, order) = output else {
            return None;
        };
        Some((conn.0, order))
    };
    outputs.filter_map(order).collect()
}

fn fetches(orders: &[(u64, Order)], of: u64) -> Vec<Fetch> {
    let fetch = |(conn, order): &(u64, Order)| {
        let Order::Fetch(fetch) = order else {
            return None;
        };
        (*conn == of).then(|| fetch.clone())
    };
    orders.iter().filter_map(fetch).collect()
}

/// The shell says at once that a lease is done whose blocks are all there: asked for again, it would say so for ever.
#[test]
fn blocks_that_a_second_peer_brought_are_taken_from_the_first_and_never_asked_for_a_third_time() {
    let mut node = slave(Timestamp::from_millis(1));
    let mut said = orders(&mut node);
    let mut asked = fetches(&said, 3);
    assert!(
        !fetches(&said, 2).is_empty() && !asked.is_empty(),
        "{said:?}"
    );
    // The first seed brings nothing. The second one brings all that it is asked for.
    let (mut at, mut next) = (0, 4_000);
    while at < asked.len() && asked.len() < 20 {
        let Fetch { piece, blocks, .. } = asked[at].clone();
        at += 1;
        next += 1;
        let bytes = (blocks.end - blocks.start) * 16_384;
        let facts = vec![
            ConnFact::Received {
                piece,
                bytes,
                redundant: 0,
            },
            ConnFact::LeaseDone { piece },
        ];
        node.handle(Timestamp::from_millis(next), Input::Conn(ConnId(3), facts));
        let more = orders(&mut node);
        asked.extend(fetches(&more, 3));
        said.extend(more);
    }
    let mut seen: Vec<_> = asked.iter().map(|f| (f.piece, f.blocks.start)).collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all, "{asked:?}");
    let revoked = |(conn, order): &(u64, Order)| *conn == 2 && matches!(order, Order::Revoke(_));
    assert_eq!(
        said.iter().filter(|said| revoked(said)).count(),
        fetches(&said, 2).len(),
        "{said:?}"
    );
}
