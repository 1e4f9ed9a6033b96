//! Attacks on one brain by what friends say to it. Rows P… are those of the project's list of attacks.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::net::SocketAddr;

use desk::{Desk, HASH, PIECE, SWARM, ask, reserve};
use proptest::prelude::*;
use swarm_core::io::friends::{
    Ask, FriendDefence, FriendFact, FriendId, FriendsInput, FriendsOutput, HelpId, HelpMessage,
    MasterPeer, StopReason,
};
use swarm_core::io::{ConnFact, ConnId, Input, MasterId, Origin, PeerSource, SwarmFact};
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::friend_dial::NoDial;
use swarm_core::policy::help::Decline;
use swarm_core::policy::tit_for_tat::Standing;

/// Fifty friends name one victim; `named`: a tracker names it, too.
fn fifty(victim: &str, named: bool) -> Desk {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    if named {
        let addr = victim.parse().expect("an address");
        desk.feed(Input::Swarm(
            SWARM,
            SwarmFact::Peers(vec![addr], PeerSource::Tracker),
        ));
        // As a peer it is dialled by the rules for peers: that is not what is tested here.
        desk.wait(1);
        desk.dials.clear();
    }
    for friend in 1..=50 {
        desk.synced(friend, 0, 0);
    }
    for round in 0..20 {
        for friend in 1..=50 {
            desk.says(friend, ask(2 * round, victim));
            desk.says(friend, reserve(2 * round, 0..4));
        }
        desk.wait(60);
        for friend in 1..=50 {
            let why = StopReason::Done;
            desk.says(
                friend,
                HelpMessage::Stop {
                    id: HelpId(2 * round),
                    why,
                },
            );
        }
    }
    desk
}

#[test]
fn p16_fifty_friends_aim_at_nobody() {
    for victim in [
        "203.0.113.7:80",
        "203.0.113.7:6881",
        "198.18.9.9:8080",
        "127.0.0.1:6881",
        "192.168.1.1:6881",
    ] {
        let desk = fifty(victim, false);
        assert_eq!(desk.dials, [], "{victim}");
        assert!(
            desk.fired(|why| matches!(why, FriendDefence::NoDial(_))) >= 20,
            "{victim}"
        );
    }
}

//= spec/friends.md#dial-known
//= spec/friends.md#dial-pace
#[test]
fn p16_what_a_tracker_names_too_is_tried_once_in_ten_minutes_over_all_friends() {
    let desk = fifty("198.18.9.9:8080", true);
    let victim: SocketAddr = "198.18.9.9:8080".parse().expect("an address");
    // In 1,200 s: by the friends' rule at 0 and 600 s, and by the swarm's own back-off for peers, which is not theirs.
    let peers = fifty_nobody_asks("198.18.9.9:8080");
    let tries = desk.dials.iter().filter(|addr| **addr == victim).count();
    assert!(
        tries > peers && tries <= peers + 2,
        "{tries}, {peers} as a peer"
    );
    assert!(desk.fired(|why| matches!(why, FriendDefence::NoDial(NoDial::TooSoon))) > 0);
}

fn fifty_nobody_asks(victim: &str) -> usize {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    let addr = victim.parse().expect("an address");
    desk.feed(Input::Swarm(
        SWARM,
        SwarmFact::Peers(vec![addr], PeerSource::Tracker),
    ));
    desk.wait(1);
    desk.dials.clear();
    desk.wait(1200);
    desk.dials.len()
}

//= spec/friends.md#ask-own-need
#[test]
fn p17_one_need_asks_at_most_sixteen_and_an_ask_is_not_passed_on() {
    let mut desk = Desk::new();
    for friend in 1..=40 {
        desk.synced(friend, 0, 0);
    }
    desk.says(40, ask(0, "198.18.1.40:51413"));
    desk.wait(60);
    assert_eq!(desk.sent(|m| matches!(m, HelpMessage::Ask(_))), 0);
    desk.needy_master(false);
    // Three seconds until the need counts, and less than the ten in which an answer may come.
    desk.wait(12);
    assert_eq!(desk.sent(|m| matches!(m, HelpMessage::Ask(_))), 16);
}

//= spec/friends.md#ask-private
//= spec/friends.md#offer-private
#[test]
fn p18_nothing_of_a_private_torrent_goes_to_friends() {
    let mut desk = Desk::new();
    for friend in 1..=3 {
        desk.synced(friend, 0, 0);
    }
    desk.needy_master(true);
    desk.wait(120);
    desk.feed(Input::Friends(FriendsInput::Ask(HASH, None)));
    desk.wait(5);
    assert_eq!(desk.out, []);
    assert!(desk.fired(|why| *why == FriendDefence::Private) > 0);
    let HelpMessage::Ask(theirs) = ask(1, "198.18.1.1:51413") else {
        unreachable!("an ask")
    };
    let hidden = Ask {
        private: false,
        ..theirs.clone()
    };
    for (id, theirs) in [
        (
            1,
            Ask {
                private: true,
                info_hash: [8; 20],
                ..theirs
            },
        ),
        (3, hidden),
    ] {
        desk.says(
            1,
            HelpMessage::Ask(Ask {
                id: HelpId(id),
                ..theirs
            }),
        );
        let why = Decline::Private;
        assert_eq!(
            desk.out.pop(),
            Some(FriendsOutput::Send(
                FriendId(1),
                HelpMessage::Decline {
                    id: HelpId(id),
                    why
                }
            ))
        );
    }
}

//= spec/friends.md#help-again
#[test]
fn an_ask_with_the_id_of_a_live_help_begins_it_anew() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    let offers = |desk: &Desk| desk.sent(|m| matches!(m, HelpMessage::Offer { .. }));
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..2));
    assert_eq!((offers(&desk), desk.node.view().aid.helps.len()), (1, 1));
    let running = desk.node.view().aid.helps[0].state;
    desk.says(1, ask(1, "198.18.1.1:51413"));
    let helps = desk.node.view().aid.helps;
    assert_eq!((offers(&desk), helps.len()), (2, 1));
    assert_ne!(helps[0].state, running, "nothing is reserved in it");
}

//= spec/friends.md#help-unknown-id
#[test]
fn who_speaks_of_an_unknown_help_is_told_so_once_a_second() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    let told = |desk: &Desk| desk.sent(|m| matches!(m, HelpMessage::Stop { .. }));
    for id in 0..50 {
        desk.says(1, reserve(id * 2, 0..1));
    }
    let fired = desk.fired(|why| *why == FriendDefence::OutOfTurn);
    assert_eq!((told(&desk), fired), (1, 50));
    desk.wait(1);
    desk.says(1, reserve(2, 0..1));
    assert_eq!(told(&desk), 2);
}

//= spec/friends.md#reserve-room
#[test]
fn p24_reservations_beyond_the_room_and_pieces_that_do_not_exist_are_sent_back() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    let room = desk.out.iter().find_map(|out| {
        if let FriendsOutput::Send(_, HelpMessage::Offer { room, .. }) = out {
            Some(*room)
        } else {
            None
        }
    });
    let room = u32::try_from(room.expect("an offer")).expect("small") / PIECE;
    desk.says(1, reserve(1, 0..room + 10_000));
    let back = desk.out.iter().find_map(|out| {
        if let FriendsOutput::Send(_, HelpMessage::Release { pieces, .. }) = out {
            Some(pieces.len())
        } else {
            None
        }
    });
    assert!(back >= Some(10_000), "{back:?}");
    assert_eq!(desk.fired(|why| *why == FriendDefence::OverRoom), 1);
    desk.says(1, reserve(77, 0..4));
    assert_eq!(desk.fired(|why| *why == FriendDefence::OutOfTurn), 1);
}

/// Runs a help in which the master's RPC sees `bytes` from the helper for pieces that the master has by then.
fn helped(desk: &mut Desk, bytes: u64) {
    desk.needy_master(false);
    desk.wait(12);
    let id = desk.out.iter().find_map(|out| {
        if let FriendsOutput::Send(_, HelpMessage::Ask(ask)) = out {
            Some(ask.id)
        } else {
            None
        }
    });
    let id = id.expect("asked");
    let at = SocketAddr::from(([198, 18, 1, 1], 6881));
    let offer = HelpMessage::Offer {
        id,
        rate: 1 << 20,
        room: 1 << 30,
        deliveries: vec![Delivery::Rpc],
        at: vec![at],
    };
    desk.says(1, offer);
    let look = |value| {
        let peers = vec![MasterPeer { addr: at, value }];
        Input::Friends(FriendsInput::MasterPeers(SWARM, MasterId(1), peers))
    };
    desk.feed(look(0));
    let lent: Vec<u32> = desk
        .out
        .iter()
        .flat_map(|out| {
            if let FriendsOutput::Send(_, HelpMessage::Reserve { pieces, .. }) = out {
                pieces.clone()
            } else {
                Vec::new()
            }
        })
        .collect();
    let haves = lent.iter().map(|piece| ConnFact::Have(*piece)).collect();
    desk.feed(Input::Conn(ConnId(1), haves));
    desk.feed(look(bytes));
    desk.wait(3);
}

fn signatures(desk: &Desk) -> Vec<u64> {
    let signs = desk.out.iter().filter_map(|out| {
        if let FriendsOutput::Sign(_, total, _) = out {
            Some(*total)
        } else {
            None
        }
    });
    signs.collect()
}

//= spec/friends.md#sync-sign
#[test]
fn p7_after_a_restore_the_larger_signature_is_adopted_before_anything_is_signed() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 1_000_000_000);
    helped(&mut desk, 100_000);
    assert_eq!(signatures(&desk), [1_000_100_000]);
    // Not synced: nothing is even asked for, and nothing signed.
    let mut unsynced = Desk::new();
    unsynced.friend(1, Standing::default());
    unsynced.needy_master(false);
    unsynced.wait(60);
    assert_eq!(unsynced.out, []);
}

#[test]
fn p8_a_friend_that_lost_its_ledger_owes_what_it_signed() {
    let mut desk = Desk::new();
    desk.friend(
        1,
        Standing {
            given: 5000,
            ..Standing::default()
        },
    );
    desk.fact(
        1,
        FriendFact::Synced {
            given: 0,
            received: 0,
        },
    );
    desk.fact(1, FriendFact::Iou(10, None));
    assert_eq!(desk.node.view().aid.friends[0].standing.given, 5000);
    assert_eq!(desk.fired(|why| *why == FriendDefence::StaleIou), 1);
}

#[test]
fn p10_a_total_that_cannot_grow_is_not_signed() {
    let mut desk = Desk::new();
    desk.synced(1, 0, i64::MAX.unsigned_abs() - 10);
    helped(&mut desk, 100_000);
    assert_eq!(signatures(&desk), Vec::<u64>::new());
    assert_eq!(desk.fired(|why| *why == FriendDefence::TotalFull), 1);
}

/// A helper that names the address of a busy seed as its own is not credited with what comes from there.
#[test]
fn an_address_that_a_helper_only_names_is_no_evidence() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    helped(&mut desk, 0);
    let seed = SocketAddr::from(([198, 19, 0, 1], 6881));
    for value in [0, 1 << 20, 2 << 20] {
        let peers = vec![MasterPeer { addr: seed, value }];
        desk.feed(Input::Friends(FriendsInput::MasterPeers(
            SWARM,
            MasterId(1),
            peers,
        )));
        desk.wait(2);
    }
    assert_eq!(signatures(&desk), Vec::<u64>::new());
}

fn message() -> impl Strategy<Value = HelpMessage> {
    let id = || (0u32..6).prop_map(HelpId);
    let pieces = || prop::collection::vec(prop_oneof![0u32..80, any::<u32>()], 0..40);
    let addr = || any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    prop_oneof![
        (
            0u32..6,
            any::<u64>(),
            any::<u32>(),
            any::<u64>(),
            any::<bool>()
        )
            .prop_map(|(id, size, piece_length, wanted, plain)| {
                let HelpMessage::Ask(plainly) = ask(id, "198.18.1.1:51413") else {
                    unreachable!("an ask")
                };
                HelpMessage::Ask(if plain {
                    plainly
                } else {
                    Ask {
                        size,
                        piece_length,
                        wanted,
                        ..plainly
                    }
                })
            }),
        (id(), any::<u64>(), any::<u64>(), addr()).prop_map(|(id, rate, room, at)| {
            HelpMessage::Offer {
                id,
                rate,
                room,
                deliveries: vec![Delivery::Rpc, Delivery::Relayed],
                at: vec![at],
            }
        }),
        id().prop_map(|id| HelpMessage::Decline {
            id,
            why: Decline::Busy
        }),
        (id(), pieces()).prop_map(|(id, pieces)| HelpMessage::Reserve { id, pieces }),
        (id(), pieces(), pieces()).prop_map(|(id, now, next)| HelpMessage::Fetching {
            id,
            now,
            next
        }),
        (id(), pieces(), any::<u64>()).prop_map(|(id, held, bytes)| HelpMessage::Progress {
            id,
            delivered: held.clone(),
            held,
            bytes
        }),
        (id(), pieces()).prop_map(|(id, pieces)| HelpMessage::Release { id, pieces }),
        (id(), addr()).prop_map(|(id, from)| HelpMessage::Arrived { id, from }),
        id().prop_map(|id| HelpMessage::Stop {
            id,
            why: StopReason::Done
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever friends say, in whatever order: no panic, no total that falls, nothing signed without evidence, and the
    /// same again for the same words.
    #[test]
    fn any_words_in_any_order(words in prop::collection::vec((1u32..4, message(), 0u64..12, any::<u64>()), 0..60)) {
        let run = || {
            let mut desk = Desk::new();
            for friend in 1..4 {
                desk.synced(friend, 0, 0);
            }
            desk.needy_master(false);
            let mut given = [0u64; 4];
            for (friend, message, wait, total) in &words {
                desk.says(*friend, message.clone());
                desk.fact(*friend, FriendFact::Iou(total >> 1, None));
                desk.wait(*wait);
                for view in &desk.node.view().aid.friends {
                    let before = &mut given[view.id.0 as usize];
                    assert!(view.standing.given >= *before);
                    *before = view.standing.given;
                }
            }
            assert_eq!(signatures(&desk), Vec::<u64>::new());
            (desk.out, desk.notes)
        };
        prop_assert_eq!(run(), run());
    }
}
