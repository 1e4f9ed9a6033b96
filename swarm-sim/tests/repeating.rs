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

#[test]
fn poison_stops_nobody_and_its_givers_are_banned() {
    let cases = load(include_str!("../plans/liars.toml"), &[]).unwrap();
    let case = cases.iter().find(|c| c.name == "2 poisoners").unwrap();
    let outcome = run(case, 1).unwrap();
    assert_eq!(outcome.complete, 8);
    assert!(
        outcome.wasted > 256 << 10,
        "nobody was given anything wrong"
    );
}

#[test]
fn a_policy_switched_off_changes_the_run() {
    let hash = |off: &str| starving("repeater", &[off], 1).hash;
    let all_on = hash("repeater.off=[]");
    for policy in ["yield", "remind", "interest", "stop-loss"] {
        assert_ne!(
            hash(&format!("repeater.off=['{policy}']")),
            all_on,
            "{policy}"
        );
    }
}

#[test]
fn one_who_knows_all_puts_a_repeater_where_it_is_needed() {
    let text = include_str!("../plans/fifty-swarms.toml");
    let changes = ["seconds=120".to_owned()];
    let cases = load(text, &changes).unwrap();
    let case = cases
        .iter()
        .find(|c| c.plan.repeater.as_ref().unwrap().oracle);
    let outcome = run(case.unwrap(), 1).unwrap();
    let given = |make: &str| -> u64 {
        let of_make = outcome
            .swarms
            .iter()
            .filter(|(name, _, _)| name.starts_with(make));
        of_make.map(|(_, up, _)| up).sum()
    };
    assert!(
        given("starving") > 10 * given("sated"),
        "{:?}",
        outcome.swarms
    );
}
