//! Help between friends, from the ask to the last IOU: several brains in virtual time, exchanging their own messages.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/hub/mod.rs"]
mod hub;

use std::net::SocketAddr;

use hub::{Conduct, KIB, MIB, Meeting, PIECE, Plan, World, limits, master_addr, swarm};
use swarm_core::io::Origin;
use swarm_core::io::friends::FriendsNote;
use swarm_core::policy::tit_for_tat::Nearness;

const WANTS: u32 = 128;

/// Slave 0 has a master, and the others are its friends.
fn among_friends(asker: Plan, friends: Vec<Plan>, meeting: Meeting, seed: u64) -> World {
    let count = friends.len();
    let plans = [vec![asker], friends].concat();
    let mut world = World::new(plans, meeting, limits(), seed);
    (1..=count).for_each(|i| world.befriend(0, i, Nearness::Friend));
    world
}

/// A slave whose swarm gives it 256 KiB/s.
fn slow() -> Plan {
    Plan {
        supply: 256 * KIB,
        line: 2 * MIB,
        ..Plan::default()
    }
}

/// One whose master wants 32 MiB, and so many friends.
fn with_friends(count: usize, meeting: Meeting, seed: u64) -> World {
    let asker = Plan {
        wants: WANTS,
        ..slow()
    };
    among_friends(asker, vec![slow(); count], meeting, seed)
}

fn seconds(count: usize, meeting: Meeting) -> f64 {
    let mut world = with_friends(count, meeting, 1);
    assert!(
        world.run_until(600.0, |w| w.done(0).is_some()),
        "{count} {meeting:?}"
    );
    // The last signatures.
    let end = world.t + 40.0;
    world.run_until(end, |_| false);
    for i in 1..=count {
        let gave = world.slaves[i].gave.get(&0).copied().unwrap_or(0);
        let there = world.slaves[i].standing(0);
        let here = world.slaves[0].standing(i);
        assert_eq!(there.given, here.received, "{meeting:?}");
        assert!(
            there.given.abs_diff(gave) <= PIECE,
            "{meeting:?}: {i} gave {gave}, {there:?}"
        );
        assert!(gave > 0, "{meeting:?}: {i} helped");
    }
    world.done(0).expect("done")
}

/// Fetched at 256 KiB/s, 32 MiB take 128 s. Six friends bring six times as much besides, less the first three seconds, in
/// which a master's gain says nothing.
#[test]
fn with_six_friends_it_is_over_three_times_as_fast_whichever_way_they_meet() {
    let alone = seconds(0, Meeting::Rpc);
    for meeting in [
        Meeting::Rpc,
        Meeting::Introduced,
        Meeting::Dialled,
        Meeting::Relayed,
    ] {
        let helped = seconds(6, meeting);
        assert!(
            helped * 3.0 < alone,
            "{meeting:?}: {helped} s, alone {alone} s"
        );
    }
}

/// Six friends could have everything lent to them at once: the slave's own line would then have nothing to carry.
#[test]
fn the_askers_own_line_has_its_part_to_the_end() {
    let mut world = with_friends(6, Meeting::Rpc, 1);
    assert!(world.run_until(600.0, |w| w.done(0).is_some()));
    let master = world.masters[0].as_ref().expect("its master");
    let own = master.downloaded.get(&0).copied().unwrap_or(0);
    let all: u64 = master.downloaded.values().sum();
    assert!(own * 8 > all, "{own} of {all}");
}

/// What is lent to a friend that nobody gives anything is there for the one that runs dry.
#[test]
fn a_helper_that_gets_nothing_holds_nobody_up() {
    let plan = Plan {
        supply: 2 * MIB,
        ..Plan::default()
    };
    let asker = Plan {
        wants: WANTS,
        supply: 8 * KIB,
        ..plan.clone()
    };
    let starved = Plan {
        supply: 0,
        ..plan.clone()
    };
    let mut world = among_friends(asker, vec![plan, starved], Meeting::Rpc, 1);
    assert!(world.run_until(600.0, |w| w.done(0).is_some()));
    // 32 s of the first friend's line, and the last piece that comes by itself: 256 KiB at 8 KiB/s.
    let seconds = world.done(0).expect("done");
    assert!(seconds < 70.0, "{seconds} s");
}

/// A slave whose swarm is fast and whose line is slow does not keep to itself what its friend's line could carry: 32 MiB go
/// at 2.25 MiB/s, in one help, not at 256 KiB/s.
#[test]
fn what_our_own_line_cannot_carry_soon_is_left_to_the_helper() {
    let plan = Plan {
        supply: 8 * MIB,
        line: 2 * MIB,
        ..Plan::default()
    };
    let asker = Plan {
        wants: WANTS,
        line: 256 * KIB,
        ..plan.clone()
    };
    for meeting in [Meeting::Rpc, Meeting::Introduced, Meeting::Dialled] {
        let mut world = among_friends(asker.clone(), vec![plan.clone()], meeting, 1);
        assert!(
            world.run_until(200.0, |w| w.done(0).is_some()),
            "{meeting:?}"
        );
        let seconds = world.done(0).expect("done");
        // The line alone takes 128 s; three pass before a master counts as short, and a way that is not there takes 45.
        let ways = if meeting == Meeting::Dialled {
            45.0
        } else {
            0.0
        };
        assert!(seconds < 40.0 + ways, "{meeting:?}: {seconds} s");
        let asked = world.slaves[0].noted(|note| matches!(note, FriendsNote::Asked(..)));
        assert_eq!(asked, 1, "{meeting:?}");
    }
}

/// The helper was in the swarm already, and connected to the master: no client connects twice to one address, so the
/// connection that stands is the one to serve.
#[test]
fn a_master_that_was_a_peer_before_the_help_is_its_guest() {
    let mut world = with_friends(1, Meeting::Rpc, 1);
    world.early = true;
    let known = world.known(swarm(0), Origin::User);
    world.slaves[1].known.insert(swarm(0));
    world.feed(1, vec![known]);
    world.run_until(1.0, |_| false);
    world.meet(1, 0, SocketAddr::new(master_addr(0).ip(), 40_000), true);
    let gave = |w: &World| w.slaves[1].gave.get(&0).copied().unwrap_or(0);
    let came = |w: &World| w.slaves[1].noted(|note| matches!(note, FriendsNote::Arrived(..)));
    assert!(
        world.run_until(20.0, |w| came(w) == 1),
        "well before another way has its turn"
    );
    assert!(world.run_until(110.0, |w| w.done(0).is_some()));
    let gave = gave(&world);
    let end = world.t + 40.0;
    world.run_until(end, |_| false);
    let (here, there) = (world.slaves[0].standing(1), world.slaves[1].standing(0));
    assert_eq!(there.given, here.received);
    assert!(there.given.abs_diff(gave) <= PIECE, "{gave}, {there:?}");
}

/// Three helpers, one of which brings nothing: what it has is taken back and reserved elsewhere. The world's shells watch
/// that no piece is in two hands.
//= spec/friends.md#reserve-disjoint
#[test]
fn no_piece_is_reserved_twice_nor_while_we_fetch_it() {
    for (seed, meeting) in [
        (1, Meeting::Rpc),
        (2, Meeting::Rpc),
        (3, Meeting::Introduced),
        (4, Meeting::Relayed),
    ] {
        let asker = Plan {
            wants: WANTS,
            own: 64 * KIB,
            ..slow()
        };
        let liar = Plan {
            conduct: Conduct::ServesNothing,
            ..slow()
        };
        let mut world = among_friends(asker, vec![slow(), slow(), liar], meeting, seed);
        assert!(
            world.run_until(600.0, |w| w.done(0).is_some()),
            "{meeting:?}"
        );
        let (reserved, back) = world.reserved;
        assert!(reserved > 60 && back > 0, "{meeting:?}: {reserved} {back}");
    }
}

#[test]
fn nobody_is_asked_while_the_master_is_not_short() {
    let plan = Plan {
        wants: 8,
        supply: 4 * MIB,
        ..Plan::default()
    };
    let mut world = among_friends(plan.clone(), vec![plan], Meeting::Rpc, 1);
    assert!(world.run_until(30.0, |w| w.done(0).is_some()));
    for slave in &world.slaves {
        assert_eq!(
            slave.noted(|note| matches!(note, FriendsNote::Asked(..))),
            0
        );
    }
}

/// Four lines on either side, in this order: asked, begun, met, over.
#[test]
fn the_story_of_a_help_is_four_notes_on_either_side() {
    for meeting in [Meeting::Rpc, Meeting::Dialled, Meeting::Relayed] {
        let mut world = with_friends(1, meeting, 1);
        assert!(world.run_until(600.0, |w| w.done(0).is_some()));
        let end = world.t + 40.0;
        world.run_until(end, |_| false);
        let story = |i: usize| -> Vec<&str> {
            let notes = world.slaves[i].notes.iter();
            notes.filter_map(|(_, note)| told(note)).collect()
        };
        let met = if meeting == Meeting::Relayed {
            "relayed"
        } else {
            "met"
        };
        assert_eq!(story(0), ["asked", "begun", met, "over"], "{meeting:?}");
        let theirs = story(1);
        let relayed = ["offered", "helping", "helped"];
        let direct = ["offered", "helping", "met", "helped"];
        if meeting == Meeting::Relayed {
            assert_eq!(theirs, relayed);
        } else {
            assert_eq!(theirs, direct, "{meeting:?}");
        }
    }
}

/// What of it is a line of the story.
fn told(note: &FriendsNote) -> Option<&'static str> {
    match note {
        FriendsNote::Asked(..) => Some("asked"),
        FriendsNote::HelpBegins(..) => Some("begun"),
        FriendsNote::HelpEnded(..) => Some("over"),
        FriendsNote::WeOffer(..) => Some("offered"),
        FriendsNote::WeHelp(..) => Some("helping"),
        FriendsNote::WeHelped(..) => Some("helped"),
        FriendsNote::Arrived(..) => Some("met"),
        FriendsNote::Relays(..) => Some("relayed"),
        FriendsNote::Declined(..) | FriendsNote::WeDeclined(..) => Some("declined"),
        FriendsNote::AskDone(_) | FriendsNote::Fired(..) => None,
    }
}

/// A friend that dies again and again is asked anew half a minute after each time, whatever it brought before: it is the
/// same as it was, and refused nothing.
//= spec/friends.md#help-goes-on
#[test]
fn a_friend_that_restarts_is_asked_again_soon_each_time() {
    for brings in [true, false] {
        let mut world = with_friends(1, Meeting::Relayed, 1);
        // Slow enough to last.
        world.slaves[0].plan.supply = 8 * KIB;
        world.slaves[1].plan.line = 256 * KIB;
        let asked = |w: &World| w.slaves[0].noted(|note| matches!(note, FriendsNote::Asked(..)));
        for restarts in 1..=6 {
            let limit = world.t + 50.0;
            assert!(
                world.run_until(limit, |w| asked(w) == restarts),
                "{brings}: not asked after {} restarts",
                restarts - 1
            );
            let end = world.t + if brings { 8.0 } else { 0.5 };
            world.run_until(end, |_| false);
            world.restart(1, &[0]);
        }
    }
}
