//! The operator's word about help: ask for it now, or none of it.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/hub/mod.rs"]
mod hub;

use hub::{KIB, MIB, Meeting, PIECE, Plan, World, hash, limits, swarm};
use swarm_core::io::Input;
use swarm_core::io::friends::{FriendsInput, FriendsNote};
use swarm_core::policy::tit_for_tat::Nearness;
use swarm_core::view::WishView;

/// Slave 0 has a master that wants 16 MiB and gets them fast enough by itself; the others are its idle friends.
fn content(friends: usize) -> World {
    let plan = Plan {
        supply: 2 * MIB,
        line: 2 * MIB,
        ..Plan::default()
    };
    let asker = Plan {
        wants: 64,
        ..plan.clone()
    };
    let mut plans = vec![plan; friends + 1];
    plans[0] = asker;
    let mut world = World::new(plans, Meeting::Rpc, limits(), 1);
    (1..=friends).for_each(|i| world.befriend(0, i, Nearness::Friend));
    world.run_until(1.0, |_| false);
    world
}

fn say(world: &mut World, input: FriendsInput) {
    world.slaves[0].inbox.push(Input::Friends(input));
}

fn wishes(world: &World) -> Vec<WishView> {
    world.slaves[0].node.view().aid.wishes
}

fn asked(world: &World) -> usize {
    world.slaves[0].noted(|note| matches!(note, FriendsNote::Asked(..)))
}

fn gave(world: &World) -> u64 {
    let helpers = world.slaves.iter().skip(1);
    helpers.map(|s| s.gave.get(&0).copied().unwrap_or(0)).sum()
}

#[test]
fn asked_by_hand_friends_help_a_master_that_is_not_short() {
    let mut world = content(2);
    assert_eq!(asked(&world), 0);
    say(&mut world, FriendsInput::Ask(hash(swarm(0)), None));
    world.step();
    assert_eq!(asked(&world), 2);
    let done = |w: &World| w.done(0).is_some() && wishes(w).is_empty();
    assert!(world.run_until(60.0, done));
    assert!(gave(&world) > 0);
    let over = |note: &FriendsNote| *note == FriendsNote::AskDone(hash(swarm(0)));
    assert_eq!(world.slaves[0].noted(over), 1);
}

#[test]
fn so_many_bytes_are_asked_for_and_no_more() {
    let mut world = content(2);
    let most = 8 * PIECE;
    say(&mut world, FriendsInput::Ask(hash(swarm(0)), Some(most)));
    world.step();
    let left = wishes(&world)[0].left_bytes;
    assert_eq!((asked(&world), left), (2, Some(most)));
    assert!(world.run_until(60.0, |w| wishes(w).is_empty()));
    let end = world.t + 20.0;
    world.run_until(end, |_| false);
    assert_eq!(asked(&world), 2, "nobody is asked again");
    let gave = gave(&world);
    assert!((most..=most + 2 * PIECE).contains(&gave), "{gave}");
}

#[test]
fn a_wish_waits_for_its_swarm_and_outlives_the_master() {
    let mut world = content(1);
    let later = [77; 20];
    say(&mut world, FriendsInput::Ask(later, Some(5 * MIB)));
    world.run_until(10.0, |_| false);
    let stands = WishView {
        info_hash: later,
        stopped: false,
        left_bytes: Some(5 * MIB),
    };
    assert_eq!(wishes(&world), [stands]);
    say(&mut world, FriendsInput::ByItself(later));
    world.step();
    assert_eq!(wishes(&world), []);
}

#[test]
fn stopped_help_ends_on_both_sides_and_none_begins() {
    let plan = Plan {
        supply: 128 * KIB,
        wants: 512,
        ..Plan::default()
    };
    let mut plans = vec![plan; 2];
    plans[1].wants = 0;
    let mut world = World::new(plans, Meeting::Rpc, limits(), 1);
    world.befriend(0, 1, Nearness::Friend);
    let helps = |w: &World, i: usize| w.slaves[i].node.view().aid.helps.len();
    assert!(world.run_until(60.0, |w| helps(w, 0) == 1 && helps(w, 1) == 1));
    let before = asked(&world);
    say(&mut world, FriendsInput::Stop(hash(swarm(0))));
    let end = world.t + 100.0;
    assert!(world.run_until(end, |w| helps(w, 0) == 0 && helps(w, 1) == 0));
    world.run_until(end, |_| false);
    assert_eq!(asked(&world), before, "short, and yet silent");

    say(&mut world, FriendsInput::ByItself(hash(swarm(0))));
    let end = world.t + 100.0;
    assert!(
        world.run_until(end, |w| helps(w, 1) == 1),
        "by itself again"
    );
    let stop = Input::Friends(FriendsInput::Stop(hash(swarm(0))));
    world.slaves[1].inbox.push(stop);
    let end = world.t + 100.0;
    assert!(world.run_until(end, |w| helps(w, 0) == 0 && helps(w, 1) == 0));
    world.run_until(end, |w| helps(w, 1) > 0);
    assert_eq!(helps(&world, 1), 0, "the helper's operator said no");
}
