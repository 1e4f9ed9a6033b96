//! The timers of help (`spec/friends.md`, section 6): one brain, and what friends say to it and when.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use desk::{Desk, ask, reserve};
use swarm_core::io::Origin;
use swarm_core::io::friends::{
    FriendDefence, FriendId, FriendsOutput, HelpId, HelpMessage, StopReason,
};

fn stops(desk: &Desk) -> usize {
    desk.sent(|message| matches!(message, HelpMessage::Stop { .. }))
}

#[test]
fn an_ask_is_given_up_after_ten_seconds_without_an_answer() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    desk.needy_master(false);
    let asked = |desk: &Desk| desk.sent(|message| matches!(message, HelpMessage::Ask(_)));
    while asked(&desk) == 0 {
        desk.wait(1);
    }
    desk.wait(9);
    assert_eq!(stops(&desk), 0);
    desk.wait(1);
    assert_eq!(stops(&desk), 1);
}

#[test]
fn an_offer_that_is_not_taken_up_is_gone_after_ten_seconds() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    let begun = |desk: &Desk| desk.node.view().aid.helps.len();
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.wait(9);
    assert_eq!(begun(&desk), 1);
    desk.wait(1);
    assert_eq!(begun(&desk), 0);
    desk.says(1, reserve(1, 0..1));
    let (id, why) = (HelpId(1), StopReason::UnknownId);
    let last = FriendsOutput::Send(FriendId(1), HelpMessage::Stop { id, why });
    assert_eq!(desk.out.last(), Some(&last));
}

//= spec/friends.md#progress-send
#[test]
fn a_helper_with_nothing_new_says_so_every_ten_seconds() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    desk.known(Origin::User, false);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..4));
    let said = |desk: &Desk| desk.sent(|message| matches!(message, HelpMessage::Progress { .. }));
    let first = said(&desk);
    desk.wait(60);
    assert_eq!(said(&desk), first + 6);
}

//= spec/friends.md#iou-late
#[test]
fn what_is_unsigned_a_minute_after_the_end_is_disputed() {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..4));
    let (seed, master) = (swarm_core::io::ConnId(9), swarm_core::io::ConnId(3));
    desk.seed(seed);
    let at = ([198, 18, 1, 1], 40_000).into();
    desk.comes(master, at, swarm_core::io::ConnFact::HaveNone);
    desk.wait(2);
    let piece = *desk.told[&master].first().expect("told of one");
    desk.takes(master, piece);
    let (id, why) = (HelpId(1), StopReason::Done);
    desk.says(1, HelpMessage::Stop { id, why });
    let disputed = |desk: &Desk| desk.fired(|why| matches!(why, FriendDefence::Disputed(_)));
    desk.wait(59);
    assert_eq!(disputed(&desk), 0);
    desk.wait(2);
    assert_eq!(disputed(&desk), 1);
}
