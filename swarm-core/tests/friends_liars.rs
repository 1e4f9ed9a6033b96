//! Attacks on help between friends: a liar gains a window, once. Rows P… are those of the project's list of attacks.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/hub/mod.rs"]
mod hub;

use hub::{Conduct, KIB, MIB, Meeting, PIECE, Plan, World, limits};
use swarm_core::io::friends::{FriendDefence, FriendsNote};
use swarm_core::policy::tit_for_tat::Nearness;

fn fired(world: &World, i: usize, test: impl Fn(&FriendDefence) -> bool) -> usize {
    world.slaves[i].noted(|note| matches!(note, FriendsNote::Fired(_, why) if test(why)))
}

/// Slave 0 asks, slave 1 helps.
fn pair(asker: Plan, helper: Plan, seed: u64) -> World {
    let mut world = World::new(vec![asker, helper], Meeting::Rpc, limits(), seed);
    world.befriend(0, 1, Nearness::Friend);
    world
}

fn asker() -> Plan {
    Plan {
        wants: 256,
        supply: 16 * KIB,
        ..Plan::default()
    }
}

fn helper() -> Plan {
    Plan {
        supply: 2 * MIB,
        line: 2 * MIB,
        ..Plan::default()
    }
}

//= spec/iou.md#window-pause
//= spec/iou.md#disputed
#[test]
fn p11_p15_a_debtor_that_never_signs_has_one_window_once() {
    for seed in 0..50 {
        let liar = Plan {
            conduct: Conduct::NeverSigns,
            ..asker()
        };
        let mut world = pair(liar, helper(), seed);
        world.run_until(1500.0, |_| false);
        let gave = world.slaves[1].gave.get(&0).copied().unwrap_or(0);
        assert!(gave > 2 * MIB && gave <= 4 * MIB, "seed {seed}: {gave}");
        let standing = world.slaves[1].standing(0);
        assert_eq!(
            (standing.given, standing.disputed),
            (0, gave),
            "seed {seed}"
        );
        assert!(fired(&world, 1, |why| matches!(why, FriendDefence::Window)) > 0);
        assert_eq!(
            fired(&world, 1, |why| matches!(why, FriendDefence::Disputed(_))),
            1
        );
        let declined = |note: &FriendsNote| {
            let why = swarm_core::policy::help::Decline::Disputed;
            matches!(note, FriendsNote::WeDeclined(_, declined) if *declined == why)
        };
        assert!(world.slaves[1].noted(declined) > 0, "seed {seed}");
    }
}

//= spec/friends.md#credit-witness
//= spec/friends.md#credit-once
#[test]
fn p14_a_helper_that_claims_double_is_credited_what_was_seen() {
    for seed in 0..50 {
        let liar = Plan {
            conduct: Conduct::ClaimsDouble,
            ..helper()
        };
        let mut world = pair(asker(), liar, seed);
        assert!(
            world.run_until(300.0, |w| w.done(0).is_some()),
            "seed {seed}"
        );
        world.run_until(world.t + 30.0, |_| false);
        let gave = world.slaves[1].gave.get(&0).copied().unwrap_or(0);
        let signed = world.slaves[0].standing(1).received;
        assert!(
            signed <= gave + PIECE && signed + PIECE >= gave,
            "seed {seed}: {signed} {gave}"
        );
        assert_eq!(
            fired(&world, 0, |why| matches!(why, FriendDefence::Claims(_))),
            1
        );
    }
}

#[test]
fn a_helper_that_reserves_and_serves_nothing_gets_nothing_while_the_swarm_delivers() {
    for seed in 0..50 {
        let liar = Plan {
            conduct: Conduct::ServesNothing,
            ..helper()
        };
        let alone = Plan {
            own: 256 * KIB,
            ..asker()
        };
        let mut world = pair(alone, liar, seed);
        assert!(
            world.run_until(600.0, |w| w.done(0).is_some()),
            "seed {seed}"
        );
        world.run_until(world.t + 30.0, |_| false);
        assert_eq!(world.slaves[0].standing(1).received, 0, "seed {seed}");
        assert!(fired(&world, 0, |why| matches!(why, FriendDefence::NoProgress)) > 0);
    }
}

#[test]
fn p3_p5_an_old_iou_changes_nothing() {
    for seed in 0..50 {
        let liar = Plan {
            conduct: Conduct::ShowsOldIou,
            ..asker()
        };
        let mut world = pair(liar, helper(), seed);
        let mut before = 0;
        let fell = world.run_until(60.0, |w| {
            let given = w.slaves[1].standing(0).given;
            let fell = given < before;
            before = given;
            fell
        });
        assert!(!fell && before > 8 * MIB, "seed {seed}: {before}");
        assert!(fired(&world, 1, |why| matches!(why, FriendDefence::StaleIou)) > 0);
    }
}

#[test]
fn honest_pairs_agree_to_within_a_window_and_fire_no_defence() {
    for seed in 0..50 {
        let mut world = pair(asker(), helper(), seed);
        let apart = world.run_until(60.0, |w| {
            let (there, here) = (w.slaves[1].standing(0), w.slaves[0].standing(1));
            there.given > here.received || here.received - there.given > 4 * MIB
        });
        assert!(!apart, "seed {seed} at {}", world.t);
        for i in 0..2 {
            assert_eq!(
                fired(&world, i, |_| true),
                0,
                "seed {seed}: {:?}",
                world.slaves[i].notes
            );
        }
    }
}
