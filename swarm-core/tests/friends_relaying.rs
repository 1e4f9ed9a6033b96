//! What is relayed is credited byte for byte: whoever else brought a part of a piece, or the piece itself to the master.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/hub/mod.rs"]
mod hub;

use hub::{KIB, MIB, Meeting, PIECE, Plan, World, limits, swarm};
use swarm_core::io::{CloseReason, ConnId};
use swarm_core::policy::tit_for_tat::Nearness;

/// Slave 0 has a master that wants 32 MiB, and gets so much of its swarm by itself; friends relay to it.
fn relaying(count: usize, own: u64, seed: u64) -> World {
    let plan = Plan {
        supply: 256 * KIB,
        line: 2 * MIB,
        ..Plan::default()
    };
    let asker = Plan {
        wants: 128,
        own,
        supply: 64 * KIB,
        ..plan.clone()
    };
    let mut plans = vec![plan; count + 1];
    plans[0] = asker;
    let mut world = World::new(plans, Meeting::Relayed, limits(), seed);
    (1..=count).for_each(|i| world.befriend(0, i, Nearness::Friend));
    world
}

fn handed(world: &World, friend: usize) -> u64 {
    world.slaves[0].handed.get(&friend).copied().unwrap_or(0)
}

fn signed(world: &World, friend: usize) -> u64 {
    world.slaves[0].signed.get(&friend).copied().unwrap_or(0)
}

fn gave(world: &World, friend: usize) -> u64 {
    world.slaves[friend].gave.get(&0).copied().unwrap_or(0)
}

/// A connection of slave 0 over which a friend relays, and a piece of which it brought a part.
fn half_brought(world: &World) -> Option<(ConnId, u32)> {
    let asker = &world.slaves[0];
    let cache = asker.cache.iter().filter(|(_, buffer)| !buffer.held);
    let halves = cache.flat_map(|((_, piece), buffer)| {
        let part = |(_, bytes): &(&ConnId, &u64)| (1..PIECE).contains(*bytes);
        buffer
            .from
            .iter()
            .filter(part)
            .map(|(conn, _)| (*conn, *piece))
    });
    let mut halves = halves.filter(|(conn, _)| asker.links.contains_key(conn));
    halves.next()
}

fn finish(world: &mut World) {
    assert!(world.run_until(600.0, |w| w.done(0).is_some()));
    // What is under way, and the last signatures.
    let end = world.t + 90.0;
    world.run_until(end, |_| false);
}

//= spec/friends.md#credit-relayed
#[test]
fn a_piece_that_the_master_got_elsewhere_meanwhile_is_paid_to_whoever_relayed_it() {
    let mut crossed = 0;
    for seed in 0..20 {
        let mut world = relaying(4, 384 * KIB, seed);
        finish(&mut world);
        for friend in 1..=4 {
            assert_eq!(
                signed(&world, friend),
                handed(&world, friend),
                "seed {seed}: what {friend} brought"
            );
            crossed += gave(&world, friend) - handed(&world, friend);
        }
        let all: u64 = (1..=4).map(|friend| handed(&world, friend)).sum();
        assert!(all > 8 * MIB, "seed {seed}: {all} relayed");
    }
    assert_eq!(crossed, 0, "what was delivered and never verified");
}

//= spec/friends.md#credit-relayed
#[test]
fn of_a_piece_with_several_sources_each_is_paid_its_blocks() {
    let mut world = relaying(1, 0, 1);
    assert!(world.run_until(60.0, |w| half_brought(w).is_some()));
    let (conn, piece) = half_brought(&world).expect("just seen");
    let part = world.slaves[0].cache[&(swarm(0), piece)].from[&conn];
    // It brings no more: the swarm brings the rest, once the piece was taken back.
    world.slaves[1].plan.line = 0;
    world.slaves[1].known.clear();
    world.close(0, conn, CloseReason::Remote);
    finish(&mut world);
    assert!(
        part > 0 && handed(&world, 1) % PIECE == part % PIECE,
        "{part}"
    );
    assert_eq!(gave(&world, 1), handed(&world, 1));
    assert_eq!(signed(&world, 1), handed(&world, 1));
}

//= spec/friends.md#credit-relayed
#[test]
fn a_piece_that_failed_is_paid_to_nobody() {
    let mut world = relaying(1, 0, 1);
    assert!(world.run_until(60.0, |w| half_brought(w).is_some()));
    let (_, piece) = half_brought(&world).expect("just seen");
    world.slaves[0].spoiled.insert(piece);
    finish(&mut world);
    assert!(world.slaves[0].spoiled.is_empty(), "it was checked");
    assert!(gave(&world, 1) >= handed(&world, 1) + PIECE);
    assert_eq!(signed(&world, 1), handed(&world, 1));
}
