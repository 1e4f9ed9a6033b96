//! What a friend signs pays for.

use super::*;
use crate::io::friends::{Ask, HelpId};
use crate::io::{Input, Limits};
use crate::params::Params;
use crate::policy::delivery::Delivery;

const BOB: FriendId = FriendId(1);
const WINDOW: u64 = 1000;

/// A helper of one friend, with a help for each of these amounts: bytes that went to the friend's master.
fn helper(delivered: &[u64]) -> Node {
    let limits = Limits {
        upload: Some(1 << 20),
        cache: 64 << 20,
        cache_memory: 64 << 20,
        ..Limits::default()
    };
    let mut params = Params::new(limits, *b"-BS0100-slave--1----");
    params.friends = FriendsLimits {
        mode: FriendsMode::Known,
        window: WINDOW,
        ..FriendsLimits::default()
    };
    let mut node = Node::new(params, 1);
    let now = Timestamp::from_millis(1);
    let standing = Standing::default();
    let ip = IpAddr::from([198, 18, 0, 2]);
    for fact in [
        FriendFact::Known {
            nearness: Nearness::Friend,
            standing,
        },
        FriendFact::Online {
            smaller: true,
            ip,
            network: NetworkTag(1),
            endpoint: None,
        },
        FriendFact::Synced {
            given: 0,
            received: 0,
        },
    ] {
        node.handle(now, Input::Friends(FriendsInput::Friend(BOB, fact)));
    }
    for (nth, bytes) in (0u32..).zip(delivered) {
        let ask = Ask {
            id: HelpId(nth),
            info_hash: [nth as u8; 20],
            size: 64 << 20,
            piece_length: 65_536,
            wanted: 64 << 20,
            master: Vec::new(),
            deliveries: vec![Delivery::Relayed],
            private: false,
        };
        let said = FriendFact::Message(HelpMessage::Ask(ask));
        node.handle(now, Input::Friends(FriendsInput::Friend(BOB, said)));
        let help = node
            .aid
            .helps
            .get_mut(&(BOB, HelpId(nth)))
            .expect("offered");
        help.served.before = *bytes;
        node.count_served((BOB, HelpId(nth)));
    }
    node
}

fn signs(node: &mut Node, total: u64, help: Option<u32>) {
    let iou = FriendFact::Iou(total, help.map(HelpId));
    let input = Input::Friends(FriendsInput::Friend(BOB, iou));
    node.handle(Timestamp::from_millis(2), input);
}

fn unsigned(node: &Node) -> Vec<u64> {
    node.aid
        .helps
        .values()
        .map(|help| help.served.unsigned())
        .collect()
}

//= spec/iou.md#late-payment
#[test]
fn a_signature_pays_for_its_own_help_then_for_the_others_oldest_first() {
    let mut node = helper(&[10, 10, 10]);
    signs(&mut node, 15, Some(2));
    assert_eq!(unsigned(&node), [5, 10, 0]);
    signs(&mut node, 21, None);
    assert_eq!(unsigned(&node), [0, 9, 0]);
}

//= spec/iou.md#late-payment
#[test]
fn then_for_what_is_disputed_and_for_what_is_delivered_next_up_to_a_window() {
    let mut node = helper(&[10]);
    let friend = node.aid.friends.get_mut(&BOB).expect("a friend");
    friend.standing.disputed = 4;
    signs(&mut node, 17, Some(0));
    assert_eq!(unsigned(&node), [0]);
    let friend = node.aid.friends.get(&BOB).expect("a friend");
    assert_eq!(friend.standing.disputed, 0);
    let more = |node: &mut Node, bytes| {
        let help = node.aid.helps.get_mut(&(BOB, HelpId(0))).expect("it runs");
        help.served.before += bytes;
        node.count_served((BOB, HelpId(0)));
    };
    // Three bytes were signed before they were counted.
    more(&mut node, 5);
    assert_eq!(unsigned(&node), [2]);
    // A total from before our store was lost is no leave to take as much again.
    signs(&mut node, 1 << 40, None);
    more(&mut node, WINDOW + 7);
    assert_eq!(unsigned(&node), [7]);
}
