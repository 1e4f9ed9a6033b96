//! What a feed may cost: torrents joined for its sake, and cache.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use swarm_core::io::{
    Geometry, Hold, Input, LeaveReason, Limits, Note, Origin, Output, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::feed_cap::FeedCap;
use swarm_core::time::Timestamp;
use swarm_core::view::SwarmState;

const FEED: &str = "http://feed.example/";
const OTHER: &str = "http://other.example/";

struct Scene {
    node: Node,
    now: Timestamp,
    joined: BTreeSet<u32>,
    left: Vec<(u32, LeaveReason)>,
}

impl Scene {
    fn new() -> Self {
        let limits = Limits {
            cache: 64 << 20,
            cache_memory: 64 << 20,
            ..Limits::default()
        };
        Self {
            node: Node::new(Params::new(limits, [1; 20]), 1),
            now: Timestamp::from_millis(1),
            joined: BTreeSet::new(),
            left: Vec::new(),
        }
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(self.now, input);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Join(id) => {
                    self.joined.insert(id.0);
                }
                Output::Leave(id) => {
                    self.joined.remove(&id.0);
                }
                Output::Note(Note::Left(id, why)) => self.left.push((id.0, why)),
                _ => {}
            }
        }
    }

    /// A torrent of so many leechers, named by this feed and counted.
    fn name(&mut self, id: u32, feed: &str, leechers: u32) {
        let known = SwarmFact::Known {
            info_hash: [u8::try_from(id).expect("small"); 20],
            name: format!("swarm {id}"),
            geometry: Some(Geometry {
                piece_length: 256 << 10,
                total: 64 << 20,
            }),
            private: false,
            hold: Hold::Cache,
            origin: Origin::Feed(feed.into()),
            pinned: false,
        };
        self.tell(Input::Swarm(SwarmId(id), known));
        let counted = SwarmFact::Scraped {
            complete: Some(1),
            incomplete: Some(leechers),
            downloaders: None,
        };
        self.tell(Input::Swarm(SwarmId(id), counted));
    }

    fn cap(&mut self, torrents: Option<u32>, cache: Option<u64>) {
        self.tell(Input::FeedCap(FEED.into(), FeedCap { torrents, cache }));
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.tell(Input::Timer);
    }

    /// The value and the weight of a term of `swarms why`.
    fn term(&self, id: u32, name: &str) -> (Option<f64>, f64) {
        let view = self.node.view();
        let swarm = view.swarms.iter().find(|swarm| swarm.id == SwarmId(id));
        let terms = &swarm.expect("known").need_terms;
        let term = terms.iter().find(|term| term.name == name).expect("a term");
        (term.value, term.weight)
    }
}

#[test]
fn no_more_torrents_of_a_feed_are_joined_than_it_may_have() {
    let mut scene = Scene::new();
    scene.cap(Some(1), None);
    for (id, leechers) in [(1, 20), (2, 12), (3, 8)] {
        scene.name(id, FEED, leechers);
    }
    scene.name(4, OTHER, 5);
    scene.wait(1);
    assert_eq!(scene.joined.len(), 2, "{:?}", scene.joined);
    assert!(scene.joined.contains(&4), "another feed has no cap");
    let (_, other) = scene.term(4, "torrents left to its feed");
    assert!((other - 1.0).abs() < f64::EPSILON);
    let waiting = (1..=3)
        .find(|id| !scene.joined.contains(id))
        .expect("one waits");
    let why = scene.term(waiting, "torrents left to its feed");
    assert_eq!(why, (Some(0.0), 0.0));

    // A reload with a larger cap, and one with none at all.
    scene.cap(Some(2), None);
    assert_eq!(scene.joined.len(), 3);
    scene.cap(None, None);
    assert_eq!(scene.joined, BTreeSet::from([1, 2, 3, 4]));
    assert!(scene.left.is_empty());

    // A smaller one: the least needy are left.
    scene.cap(Some(1), None);
    assert_eq!(scene.joined, BTreeSet::from([1, 4]));
    let capped = |id| (id, LeaveReason::FeedCap);
    assert_eq!(scene.left, [capped(3), capped(2)]);
    scene.wait(5);
    assert_eq!(scene.joined, BTreeSet::from([1, 4]), "and stay left");
}

#[test]
fn a_feed_without_cache_for_a_piece_joins_nothing() {
    let mut scene = Scene::new();
    scene.cap(None, Some(255 << 10));
    scene.name(1, FEED, 20);
    scene.wait(1);
    assert!(scene.joined.is_empty());
    let why = scene.term(1, "cache left to its feed, bytes");
    assert_eq!(why, (Some(f64::from(255 << 10)), 0.0));
    assert_eq!(scene.node.view().swarms[0].state, SwarmState::Known);
    scene.cap(None, Some(256 << 10));
    assert_eq!(scene.joined, BTreeSet::from([1]));
}

#[test]
fn what_the_user_names_too_is_no_feeds() {
    let mut scene = Scene::new();
    scene.cap(Some(0), None);
    scene.name(1, FEED, 20);
    scene.wait(1);
    assert!(scene.joined.is_empty());
    let known = SwarmFact::Known {
        info_hash: [1; 20],
        name: "swarm 1".into(),
        geometry: None,
        private: false,
        hold: Hold::Cache,
        origin: Origin::User,
        pinned: false,
    };
    scene.tell(Input::Swarm(SwarmId(1), known));
    assert_eq!(scene.joined, BTreeSet::from([1]));
}
