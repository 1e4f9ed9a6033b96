//! Slaves, their masters and their friends in virtual swarms.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "test helpers, which the lint does not know for tests"
)]

use swarm_sim::plan::load;
use swarm_sim::{Outcome, SlavesOutcome, run};

fn play(plan: &str, case: &str, changes: &[&str], seed: u64) -> Outcome {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let cases = load(plan, &changes).unwrap();
    let case = cases.iter().find(|c| c.name == case).unwrap();
    run(case, seed).unwrap()
}

fn crowd(case: &str, changes: &[&str], seed: u64) -> Outcome {
    let plan = include_str!("../plans/friends-flash-crowd.toml");
    play(plan, case, changes, seed)
}

/// The plan with a tenth of its honest slaves and fewer thieves, over some hours.
fn favours(case: &str, seed: u64) -> Outcome {
    let changes = [
        "seconds=16000",
        "slave.washer.count=8",
        "swarm.washer.count=8",
        "slave.honest.count=46",
        "swarm.wish.count=46",
        "swarm.wish.group.master.joins=[0, 12000]",
        "slave.rider.count=4",
        "swarm.rider.count=12",
        "swarm.rider.group.master.joins=[0, 12000]",
    ];
    play(include_str!("../plans/favours.toml"), case, &changes, seed)
}

fn made<'a>(outcome: &'a Outcome, name: &str) -> &'a SlavesOutcome {
    outcome.slaves.iter().find(|s| s.name == name).unwrap()
}

#[test]
fn a_masters_slave_and_its_friends_each_make_it_faster() {
    let rate = |case| made(&crowd(case, &[], 1), "own").rate.unwrap();
    let rates = ["alone", "its slave", "6 friends"].map(rate);
    assert!(rates[1] > rates[0] * 1.15, "{rates:?}");
    assert!(rates[2] > rates[1] * 1.15, "{rates:?}");
}

#[test]
fn what_went_to_a_friends_master_is_signed_for_to_within_a_piece_a_help() {
    for case in ["6 friends", "6 friends, introduced", "6 friends, dialling"] {
        let outcome = crowd(case, &[], 1);
        let (own, idle) = (made(&outcome, "own"), made(&outcome, "idle"));
        assert!(idle.gave > 8 << 20, "{case}: {}", idle.gave);
        assert_eq!((idle.gave, idle.signed), (own.had, own.owe), "{case}");
        let helps = u64::from(outcome.joins);
        assert!(idle.signed <= idle.gave + helps * (256 << 10), "{case}");
        // Half a window may wait for its signature when a helper goes.
        let apart = idle.gave.abs_diff(idle.signed);
        assert!(apart <= helps * (256 << 10), "{case}: {apart}");
    }
}

#[test]
fn runs_with_friends_are_the_same_each_time() {
    let hash = |seed| crowd("2 friends", &["seconds=120"], seed).hash;
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

#[test]
fn each_slave_more_makes_its_master_faster() {
    let plan = include_str!("../plans/slaves.toml");
    let rate = |case| made(&play(plan, case, &[], 1), "slave").rate.unwrap();
    let rates = ["no slave", "1 slave", "2 slaves", "4 slaves"].map(rate);
    assert!(
        rates.is_sorted_by(|less, more| less * 1.1 < *more),
        "{rates:?}"
    );
}

/// Honest masters gain, the ledgers add up to what was delivered, a free rider has a window of each helper and signs for
/// none of it, and a thousand keys have no more of one helper than its pool holds and what flowed into it.
#[test]
fn favours_are_returned_and_theft_is_bounded() {
    let (alone, helped) = (favours("nobody has friends", 1), favours("friends", 1));
    let seconds = |outcome: &Outcome| made(outcome, "honest").mean_s.unwrap();
    assert!(seconds(&helped) < seconds(&alone) * 0.75);
    let honest = made(&helped, "honest");
    assert_eq!(honest.complete, honest.wanted);
    assert_eq!(made(&alone, "honest").gave, 0);

    let stolen = made(&helped, "rider").had;
    let to_honest = honest.gave + made(&helped, "prey").gave - stolen - made(&helped, "washer").had;
    assert_eq!(to_honest, honest.had);
    let signed = honest.signed + made(&helped, "prey").signed;
    assert_eq!(signed, honest.owe);
    let apart = signed.abs_diff(to_honest);
    assert!(apart * 100 <= to_honest, "{signed} signed for {to_honest}");

    let (window, pool, line) = (256 << 10, 4 << 20, 16 << 10);
    let rider = made(&helped, "rider");
    assert!(rider.most_had > 0 && rider.most_had <= window, "{rider:?}");
    assert_eq!((rider.owe, rider.gave), (0, 0));
    let washer = made(&helped, "washer");
    assert!(washer.keys > 100, "{washer:?}");
    let flowed_in = (helped.ended_s * f64::from(line) / 100.0) as u64;
    assert!(washer.most_from_one > 2 << 20, "{washer:?}");
    assert!(washer.most_from_one <= pool + flowed_in, "{washer:?}");
    assert!(washer.most_had <= window, "{washer:?}");
}
