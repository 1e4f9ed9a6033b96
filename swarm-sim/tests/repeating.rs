//! Our own node in virtual swarms.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "test helpers, which the lint does not know for tests"
)]

use swarm_sim::plan::load;
use swarm_sim::{Outcome, run};

fn starving(case: &str, changes: &[&str], seed: u64) -> Outcome {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let cases = load(include_str!("../plans/starving.toml"), &changes).unwrap();
    let case = cases.iter().find(|c| c.name == case).unwrap();
    run(case, seed).unwrap()
}

#[test]
fn a_repeater_gives_more_than_it_takes_and_the_swarm_is_done_sooner() {
    let alone = starving("nobody", &[], 1);
    let helped = starving("repeater", &[], 1);
    assert_eq!((alone.complete, helped.complete), (8, 8));
    assert!(helped.ratio.unwrap() > 2.5, "{:?}", helped.ratio);
    assert!(helped.mean_s.unwrap() < alone.mean_s.unwrap() * 0.9);
    assert!(helped.cache_peak <= 16 << 20);
    // What the repeater gave, nobody else had to.
    let sum = |o: &Outcome| o.seeds_sent + o.leechers_sent + o.up - o.wasted - o.down;
    let all = 8 * (64 << 20);
    for outcome in [&alone, &helped] {
        assert!(sum(outcome) >= all && sum(outcome) < all + all / 100);
    }
}

#[test]
fn runs_with_our_node_are_the_same_each_time() {
    let hash = |seed| starving("repeater", &["latency_ms=20"], seed).hash;
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

#[test]
fn the_line_is_never_exceeded() {
    let outcome = starving("repeater", &["repeater.up='256 KiB'"], 1);
    let lasted = outcome.ended_s - 3.0;
    assert!(outcome.up as f64 <= 262_144.0 * (lasted + 1.0));
}
