//! Tit for tat among several brains, with the roles turned round, over hundreds of seeds.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/hub/mod.rs"]
mod hub;

use hub::{Conduct, KIB, MIB, Meeting, PIECE, Plan, World, limits};
use swarm_core::io::friends::{FriendDefence, FriendsLimits, FriendsMode, FriendsNote};
use swarm_core::policy::tit_for_tat::{Nearness, Turn};

/// One helper (0) that can feed `line` bytes/s, and so many askers whose masters want 64 MiB and get almost nothing.
fn askers(count: usize, line: u64, limits: FriendsLimits, seed: u64) -> World {
    let helper = Plan {
        line,
        supply: 16 * MIB,
        ..Plan::default()
    };
    let asker = Plan {
        wants: 256,
        supply: 8 * KIB,
        line: MIB,
        ..Plan::default()
    };
    let mut plans = vec![asker; count + 1];
    plans[0] = helper;
    World::new(plans, Meeting::Rpc, limits, seed)
}

fn gave(world: &World, to: usize) -> u64 {
    world.slaves[0].gave.get(&to).copied().unwrap_or(0)
}

fn waits(world: &World, what: Turn) -> usize {
    let test = |note: &FriendsNote| matches!(note, FriendsNote::Fired(_, FriendDefence::Waits(turn)) if *turn == what);
    world.slaves[0].noted(test)
}

/// Whoever gave us most for what it had of us has most of a scarce line, whatever the ledgers say, and whoever asks first.
#[test]
fn payback_is_preferred_over_two_hundred_seeds() {
    for seed in 0..200u64 {
        let count = 2 + (seed % 18) as usize;
        let mut world = askers(count, MIB, limits(), seed);
        let best = 1 + world.random() as usize % count;
        for i in 1..=count {
            let (had, back) = (world.random() % (40 * MIB), world.random() % (20 * MIB));
            let totals = if i == best {
                (had, had + 30 * MIB)
            } else {
                (had + back, back)
            };
            world.befriend_with(0, i, Nearness::Friend, totals);
        }
        world.run_until(40.0, |_| false);
        let most = gave(&world, best);
        // A second goes by before the first turns are dealt, and each may have one window by then.
        for i in (1..=count).filter(|i| *i != best) {
            let other = gave(&world, i);
            assert!(
                most > 2 * other,
                "seed {seed}: {best} had {most}, {i} had {other}"
            );
        }
        assert!(
            most >= 15 * MIB,
            "seed {seed}: {best} had {most} of {} MiB",
            28
        );
        let theirs = world.slaves[best].standing(0);
        let ours = world.slaves[0].standing(best);
        assert!(
            theirs.received.abs_diff(ours.given) <= 4 * MIB + PIECE,
            "seed {seed}"
        );
    }
}

/// The helper of yesterday is preferred today, before a friend that never gave anything.
#[test]
fn the_roles_turned_round() {
    for seed in 0..100 {
        let idle = Plan {
            supply: 512 * KIB,
            line: 512 * KIB,
            ..Plan::default()
        };
        let first = Plan {
            wants: 120,
            ..idle.clone()
        };
        let later = Plan {
            wants: 120,
            wakes: 100.0,
            ..idle
        };
        let starving = Plan {
            supply: 8 * KIB,
            ..later.clone()
        };
        let mut world = World::new(vec![first, later, starving], Meeting::Rpc, limits(), seed);
        world.befriend(0, 1, Nearness::Friend);
        assert!(
            world.run_until(100.0, |w| w.done(0).is_some()),
            "seed {seed}"
        );
        let end = world.t + 5.0;
        world.run_until(end, |_| false);
        let owed = world.slaves[1].standing(0).given;
        assert!(owed > 4 * MIB, "seed {seed}: {owed}");
        assert_eq!(world.slaves[0].standing(1).received, owed, "seed {seed}");
        world.befriend(0, 2, Nearness::Friend);
        world.slaves[1].plan.supply = 8 * KIB;
        world.run_until(140.0, |_| false);
        let (friend, taker) = (gave(&world, 1), gave(&world, 2));
        assert!(
            friend > 2 * taker && friend > 8 * MIB,
            "seed {seed}: {friend} {taker}"
        );
    }
}

//= spec/friends.md#credit-ceiling
#[test]
fn a_debtor_over_its_ceiling_waits_while_another_wants_the_line_and_only_then() {
    let mut alone = askers(1, MIB, limits(), 1);
    alone.befriend_with(0, 1, Nearness::Friend, (200 * MIB, 0));
    alone.run_until(40.0, |_| false);
    let unhindered = gave(&alone, 1);
    assert!(unhindered > 20 * MIB, "{unhindered}");
    assert_eq!(waits(&alone, Turn::Ceiling), 0);

    let mut world = askers(2, MIB, limits(), 1);
    world.befriend_with(0, 1, Nearness::Friend, (200 * MIB, 0));
    world.befriend(0, 2, Nearness::Friend);
    world.run_until(40.0, |_| false);
    let (debtor, newcomer) = (gave(&world, 1), gave(&world, 2));
    assert!(
        debtor <= 4 * MIB + PIECE && newcomer > 15 * MIB,
        "{debtor} {newcomer}"
    );
    let declined = |note: &FriendsNote| matches!(note, FriendsNote::WeDeclined(..));
    assert!(waits(&world, Turn::Ceiling) + world.slaves[0].noted(declined) > 0);
}

#[test]
fn an_acquaintance_gets_the_trickle_while_friends_fill_the_line() {
    let limits = FriendsLimits {
        mode: FriendsMode::Open,
        ..limits()
    };
    let line = MIB;
    let mut world = askers(2, line, limits, 1);
    world.befriend(0, 1, Nearness::Friend);
    world.befriend(0, 2, Nearness::Acquaintance);
    world.run_until(60.0, |_| false);
    let (friend, stranger) = (gave(&world, 1), gave(&world, 2));
    assert!(friend > 40 * line, "{friend}");
    assert!(
        stranger > 0 && stranger <= PIECE + line / 100 * 60,
        "{stranger}"
    );
    assert!(waits(&world, Turn::Trickle) > 0);
}

/// Nineteen acquaintances that never sign, each in a network of its own, and a pool of 6 MiB.
//= spec/friends.md#credit-pool
#[test]
fn p12_fresh_keys_get_no_more_than_one_pool() {
    for seed in 0..20 {
        let limits = FriendsLimits {
            mode: FriendsMode::Open,
            open_pool: 6 * MIB,
            ..limits()
        };
        let line = 2 * MIB;
        let mut world = askers(19, line, limits, seed);
        for i in 1..=19 {
            world.slaves[i].plan.conduct = Conduct::NeverSigns;
            world.befriend(0, i, Nearness::Acquaintance);
        }
        world.run_until(120.0, |_| false);
        let all: u64 = (1..=19).map(|i| gave(&world, i)).sum();
        let came = (line as f64 / 100.0 * world.t) as u64;
        assert!(all > 0 && all <= 6 * MIB + came, "seed {seed}: {all}");
        let dry = |note: &FriendsNote| {
            matches!(
                note,
                FriendsNote::Fired(_, FriendDefence::Pool)
                    | FriendsNote::WeDeclined(_, swarm_core::policy::help::Decline::Pool)
            )
        };
        assert!(world.slaves[0].noted(dry) > 0, "seed {seed}");
    }
}
