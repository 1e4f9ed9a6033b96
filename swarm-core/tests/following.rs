//! What the brain does about a torrent that its master misses.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs)]

use swarm_core::io::{
    Hold, Input, Limits, MasterFact, MasterId, Origin, Output, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;

const MIB: u64 = 1 << 20;

#[test]
fn a_master_is_dialled_for_a_torrent_whose_metadata_it_alone_may_have() {
    let limits = Limits {
        cache: 64 * MIB,
        cache_memory: 64 * MIB,
        ..Limits::default()
    };
    let mut node = Node::new(Params::new(limits, [1; 20]), 1);
    let address = "198.18.0.3:6881".parse().expect("an address");
    let now = Timestamp::from_millis(1);
    let configured = MasterFact::Configured {
        name: "home".into(),
        share: 0.5,
        slave_key: 1,
    };
    node.handle(now, Input::Master(MasterId(1), configured));
    node.handle(
        now,
        Input::Master(MasterId(1), MasterFact::Resolved(vec![address])),
    );
    let known = SwarmFact::Known {
        info_hash: [1; 20],
        name: "magnet".into(),
        geometry: None,
        private: false,
        hold: Hold::Cache,
        origin: Origin::Master(MasterId(1)),
        pinned: false,
    };
    node.handle(now, Input::Swarm(SwarmId(1), known));
    let dialled = std::iter::from_fn(|| node.poll_output())
        .any(|output| output == Output::Dial(SwarmId(1), address));
    assert!(dialled, "nobody asks the master for the metadata");
}
