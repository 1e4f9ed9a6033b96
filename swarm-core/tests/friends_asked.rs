//! Friends are asked only for what they would be lent.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use desk::{Desk, PIECE};
use swarm_core::io::friends::{
    FriendFact, FriendsInput, FriendsOutput, HelpMessage, RpcPowers, WitnessKind,
};
use swarm_core::io::{ConnId, Input, MasterId};
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::tit_for_tat::Standing;

const MASTER: ConnId = ConnId(1);
/// Before that a friend is asked for nothing.
const SYNCED: FriendFact = FriendFact::Synced {
    given: 0,
    received: 0,
};

/// We hold all that the master lacks, and it takes a piece a second: over half a minute's worth is left, and our line
/// carries all of it in that time.
fn carried_by_ourselves() -> Desk {
    let mut desk = Desk::new();
    desk.needy_master(false);
    desk.seed(ConnId(3));
    desk.friend(1, Standing::default());
    for _ in 0..20 {
        takes_one(&mut desk);
    }
    desk
}

/// A second goes by, and the master takes a piece.
fn takes_one(desk: &mut Desk) {
    desk.wait(1);
    let told = desk.told[&MASTER].clone();
    let took = desk.took.get(&MASTER).cloned().unwrap_or_default();
    let next = told.difference(&took).next().copied();
    desk.takes(MASTER, next.expect("something for it"));
}

fn asks(desk: &Desk) -> usize {
    desk.sent(|message| matches!(message, HelpMessage::Ask(_)))
}

fn reserves(desk: &Desk) -> usize {
    desk.sent(|message| matches!(message, HelpMessage::Reserve { .. }))
}

#[test]
fn what_our_own_line_carries_is_asked_of_nobody_and_whoever_is_asked_is_lent_something() {
    let mut desk = carried_by_ourselves();
    desk.fact(1, SYNCED);
    takes_one(&mut desk);
    takes_one(&mut desk);
    assert_eq!(asks(&desk), 0, "there is nothing to lend");

    // The master takes no more: our line carries nothing.
    let mut waited = 0;
    while asks(&desk) == 0 {
        desk.wait(1);
        waited += 1;
        assert!(waited < 60, "nobody is asked");
    }
    let id = desk.out.iter().find_map(|out| {
        if let FriendsOutput::Send(_, HelpMessage::Ask(ask)) = out {
            Some(ask.id)
        } else {
            None
        }
    });
    let offer = HelpMessage::Offer {
        id: id.expect("one was sent"),
        rate: 1 << 20,
        room: u64::from(PIECE) * 64,
        deliveries: vec![Delivery::Rpc],
        at: vec![],
    };
    desk.says(1, offer);
    assert_eq!((asks(&desk), reserves(&desk)), (1, 1));
}

#[test]
fn what_we_hold_already_is_asked_of_nobody_who_could_only_relay_it() {
    let mut desk = carried_by_ourselves();
    let powers = RpcPowers {
        dials: false,
        witness: WitnessKind::None,
    };
    desk.feed(Input::Friends(FriendsInput::Rpc(MasterId(1), powers)));
    desk.fact(1, SYNCED);
    desk.wait(60);
    assert_eq!(asks(&desk), 0);
}
