//! Swarms whose times follow from arithmetic.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "test helpers, which the lint does not know for tests"
)]

use swarm_sim::plan::load;
use swarm_sim::{Outcome, run};

const MIB: f64 = 1_048_576.0;

/// A swarm of 16 MiB: a seed of 1 MiB/s and so many leechers.
fn play(leechers: u32, up: &str, changes: &[&str], seed: u64) -> Outcome {
    let text = format!(
        r#"
        name = "test"
        about = "test"
        seconds = 3000
        overhead = 0.0
        acknowledge = 0.0
        [[swarm]]
        name = "main"
        size = "16 MiB"
        piece = "256 KiB"
        [[swarm.group]]
        name = "seed"
        kind = "seed"
        up = "1 MiB"
        [[swarm.group]]
        name = "leechers"
        kind = "leecher"
        count = {leechers}
        up = "{up}"
        "#
    );
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let cases = load(&text, &changes).unwrap();
    run(&cases[0], seed).unwrap()
}

#[test]
fn one_leecher_takes_size_by_rate() {
    let alone = play(1, "1 KiB", &[], 1).mean_s.unwrap();
    assert!((16.0..16.5).contains(&alone), "{alone}");
    let down = ["swarm.main.group.leechers.down = '512 KiB'"];
    let narrow = play(1, "1 KiB", &down, 1).mean_s.unwrap();
    assert!((32.0..32.8).contains(&narrow), "{narrow}");
    // The first bytes wait for ticks, and what a connection asks for grows with what it sent.
    let limited = play(1, "1 KiB", &["swarm.main.group.seed.limited=true"], 1);
    let limited = limited.mean_s.unwrap();
    assert!((16.0..18.5).contains(&limited), "{limited}");
    let headers = play(1, "1 KiB", &["overhead=0.1"], 1).mean_s.unwrap();
    assert!((17.59..18.2).contains(&headers), "{headers}");
}

#[test]
fn many_leechers_come_near_the_fluid_bound_and_never_under_it() {
    for (count, up, slack) in [(4, 0.25, 1.25), (8, 0.25, 1.25), (30, 0.25, 1.35)] {
        let outcome = play(count, &format!("{} KiB", up * 1024.0), &[], 1);
        // The seed sends everything once at least, all lines together send it to everybody.
        let lines = 1.0 + up * f64::from(count);
        let bound = (16.0 * f64::from(count) / lines).max(16.0);
        let last = outcome.last_s.unwrap();
        assert!(last >= bound * 0.999, "{count}: {last} under {bound}");
        assert!(last <= bound * slack, "{count}: {last} over {bound}");
        let sent = (outcome.seeds_sent + outcome.leechers_sent) as f64;
        let wanted = 16.0 * MIB * f64::from(count);
        let wasted = outcome.wasted as f64;
        let whole = sent - wasted;
        assert!(
            (wanted..wanted * 1.02).contains(&whole),
            "{count}: {whole} of {wanted}"
        );
    }
}

#[test]
fn leechers_that_give_nothing_share_the_seed_alike() {
    let give_nothing = ["swarm.main.group.leechers.kind = 'free-rider'"];
    let outcome = play(4, "0 KiB", &give_nothing, 1);
    let (_, _, got, mean) = &outcome.groups[1];
    assert!(*got >= 64 << 20);
    let mean = mean.unwrap();
    assert!((60.0..66.0).contains(&mean), "{mean}");
}

#[test]
fn latency_costs_little_and_breaking_connections_lose_nobody() {
    let far = play(8, "256 KiB", &["latency_ms=100"], 1);
    let near = play(8, "256 KiB", &[], 1);
    assert!(far.mean_s.unwrap() < near.mean_s.unwrap() * 1.15);
    let broken = play(8, "256 KiB", &["connection_s=30"], 1);
    assert_eq!(broken.complete, 8);
}

#[test]
fn who_leaves_takes_its_line_along() {
    let stay = play(
        8,
        "256 KiB",
        &["swarm.main.group.leechers.joins=[0, 60]"],
        1,
    );
    let changes = [
        "swarm.main.group.leechers.joins=[0, 60]",
        "swarm.main.group.leechers.stays_s=0.0",
    ];
    let leave = play(8, "256 KiB", &changes, 1);
    assert_eq!((stay.complete, leave.complete), (8, 8));
    assert!(leave.last_s.unwrap() >= stay.last_s.unwrap());
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let hash = |seed| play(8, "256 KiB", &["latency_ms=10"], seed).hash;
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
