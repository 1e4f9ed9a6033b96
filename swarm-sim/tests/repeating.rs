//! Our own node in virtual swarms.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "test helpers, which the lint does not know for tests"
)]

use swarm_sim::plan::load;
use swarm_sim::{Outcome, later, run};

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

fn liars(name: &str, seed: u64) -> Outcome {
    let cases = load(include_str!("../plans/liars.toml"), &[]).unwrap();
    run(cases.iter().find(|c| c.name == name).unwrap(), seed).unwrap()
}

#[test]
fn poison_stops_nobody_and_its_givers_are_banned() {
    let outcome = liars("2 poisoners", 1);
    assert_eq!(outcome.complete, 8);
    assert!(
        outcome.wasted > 256 << 10,
        "nobody was given anything wrong"
    );
    assert_eq!((outcome.bans, outcome.leaves), (2, 0));
    assert!(outcome.up > 50 << 20, "{} bytes given", outcome.up);
}

#[test]
fn seeds_that_only_say_so_do_not_keep_us_out() {
    let outcome = liars("5 braggarts", 1);
    assert!(outcome.up > 20 << 20, "{} bytes given", outcome.up);
}

#[test]
fn fake_counts_and_fake_interest_cost_the_stop_loss() {
    let name = "3 swarms of teases whose scrapes claim 1,000 leechers more";
    let outcome = liars(name, 1);
    let baits: Vec<_> = outcome
        .swarms
        .iter()
        .filter(|(name, _, _)| name.starts_with("bait"))
        .collect();
    assert_eq!(baits.len(), 3);
    for (name, up, down) in baits {
        assert!(*down > 0, "{name} was not tried");
        assert!(down - up <= 4 * (256 << 10), "{name} cost {down} bytes");
    }
}

#[test]
fn no_hour_costs_more_than_prospecting_may() {
    let text = include_str!("../plans/field-cases.toml");
    let cost = |name: &str| {
        let cases = load(text, &[]).unwrap();
        let case = cases.iter().find(|c| c.name.starts_with(name)).unwrap();
        run(case, 1).unwrap()
    };
    let hours = 3;
    let ours = cost("never-harm: the same for three hours").down;
    assert!(
        ours <= hours * 16 * (256 << 10),
        "{ours} bytes taken for nothing"
    );
    let without = cost("never-harm: the same, without").down;
    assert!(ours < without, "{ours}, {without} without the rule");
}

#[test]
fn no_leecher_is_done_over_5_percent_later_because_of_us() {
    let play = |case: &'static str| (1..=8).map(move |seed| starving(case, &[], seed));
    let outcomes: Vec<Outcome> = play("nobody").chain(play("repeater")).collect();
    let ours: Vec<&Outcome> = outcomes.iter().filter(|o| o.up > 0).collect();
    assert_eq!(ours.len(), 8);
    let later = later(&outcomes, &ours).unwrap();
    assert!(later <= 0.05, "{later}");
}

#[test]
fn a_capped_feed_gets_no_more() {
    let text = include_str!("../plans/fifty-swarms.toml");
    let play = |change: &str| {
        let changes = ["seconds=120".to_owned(), change.to_owned()];
        let cases = load(text, &changes).unwrap();
        let case = cases.iter().find(|c| c.name == "repeater").unwrap();
        run(case, 1).unwrap()
    };
    let two = play("repeater.feed_torrents=2");
    assert!(two.joins - two.leaves <= 2 && two.up > 0, "{two:?}");
    let small = play("repeater.feed_cache='1 MiB'");
    assert!(small.cache_peak <= 1 << 20, "{} bytes", small.cache_peak);
    assert!(small.up > 0);
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
