//! What a helper tells of what it fetches and could bring (`spec/friends.md`, section 6.4), and what it leaves for that.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use desk::{Desk, PIECES, ask, reserve};
use swarm_core::io::friends::{FriendsOutput, HelpId, HelpMessage};
use swarm_core::io::{ConnFact, ConnId, Input, Limits, Origin};

/// With four pieces reserved.
fn helper() -> Desk {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..4));
    desk
}

/// What it said of its fetching so far.
fn said(desk: &Desk) -> Vec<(Vec<u32>, Vec<u32>)> {
    let fetching = |out: &FriendsOutput| {
        let FriendsOutput::Send(_, HelpMessage::Fetching { now, next, .. }) = out else {
            return None;
        };
        Some((now.clone(), next.clone()))
    };
    desk.out.iter().filter_map(fetching).collect()
}

//= spec/friends.md#fetching-send
#[test]
fn a_helper_names_what_idle_peers_offer_and_then_what_it_fetches() {
    let mut desk = helper();
    let peer = ConnId(9);
    let mut has = vec![0; PIECES as usize / 8];
    // Pieces 40 and 50.
    (has[5], has[6]) = (0x80, 0x20);
    desk.comes(
        peer,
        ([198, 19, 0, 7], 40_000).into(),
        ConnFact::Bitfield(has),
    );
    desk.wait(3);
    assert_eq!(said(&desk), [], "choked, it offers nothing");
    desk.feed(Input::Conn(peer, vec![ConnFact::Choking(false)]));
    desk.wait(1);
    assert_eq!(said(&desk), [(vec![], vec![40, 50])]);
    desk.says(1, reserve(1, 40..41));
    assert_eq!(desk.asked_of(peer), [40]);
    desk.wait(3);
    assert_eq!(
        said(&desk)[1..],
        [(vec![40], vec![])],
        "once, and nothing more while it is busy"
    );
}

//= spec/friends.md#fetching-send
#[test]
fn what_was_begun_is_under_way_while_somebody_lets_it_go_on() {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..8));
    // The first piece, and all eight, which are more than it is asked for at once.
    let (one, other) = (ConnId(9), ConnId(10));
    for (conn, host, first) in [(one, 7, 0x80), (other, 8, 0xff)] {
        let mut has = vec![0; PIECES as usize / 8];
        has[0] = first;
        let addr = ([198, 19, 0, host], 40_000).into();
        desk.comes(conn, addr, ConnFact::Bitfield(has));
    }
    desk.feed(Input::Conn(one, vec![ConnFact::Choking(false)]));
    desk.wait(2);
    let last = |desk: &Desk| said(desk).last().cloned();
    assert_eq!(desk.asked_of(one), [0]);
    assert_eq!(last(&desk), Some((vec![0], vec![])));
    desk.feed(Input::Conn(other, vec![ConnFact::Choking(false)]));
    let others = desk.asked_of(other);
    desk.chokes(one, &[0]);
    desk.wait(2);
    assert!(!desk.asked_of(other).contains(&0), "it is busy");
    assert!(
        last(&desk).is_some_and(|(now, _)| now.contains(&0)),
        "and will go on with it"
    );
    desk.chokes(other, &others);
    desk.wait(2);
    assert_eq!(last(&desk), Some((vec![], vec![])), "nobody gives it");
}

/// What it fetched for strangers, or another had reserved, is as good as brought.
//= spec/friends.md#fetching-send
#[test]
fn what_it_holds_and_the_guest_lacks_is_named_until_it_is_reserved() {
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.synced(2, 0, 0);
    let guests = ["198.18.1.1:51413", "198.18.1.2:51413"];
    for (friend, guest) in [(1, guests[0]), (2, guests[1])] {
        desk.says(friend, ask(1, guest));
        desk.says(friend, reserve(1, friend * 8..friend * 8 + 3));
    }
    desk.wait(1);
    desk.seed(ConnId(9));
    desk.wait(2);
    assert!((8..11).chain(16..19).all(|piece| desk.holds(piece)));
    let to_first = |desk: &Desk| {
        let next = |out: &FriendsOutput| {
            let FriendsOutput::Send(friend, HelpMessage::Fetching { next, .. }) = out else {
                return None;
            };
            (friend.0 == 1).then(|| next.clone())
        };
        let held = |next: Vec<u32>| next.into_iter().filter(|p| desk.holds(*p)).collect();
        desk.out.iter().filter_map(next).next_back().map(held)
    };
    assert_eq!(
        to_first(&desk).unwrap_or_default(),
        [],
        "nobody came for them"
    );
    let from = guests[0].parse().expect("an address");
    let mut has = vec![0; PIECES as usize / 8];
    // Piece 18.
    has[2] = 0x20;
    desk.comes(ConnId(11), from, ConnFact::Bitfield(has));
    let id = HelpId(1);
    desk.says(1, HelpMessage::Arrived { id, from });
    desk.wait(1);
    assert_eq!(to_first(&desk), Some(vec![16, 17]));
    desk.says(1, reserve(1, 16..17));
    desk.wait(1);
    assert_eq!(to_first(&desk), Some(vec![17]));
    assert!(desk.told[&ConnId(11)].contains(&16));
}

/// Half of what it names is what it holds, at most.
#[test]
fn what_idle_peers_offer_has_its_place_beside_what_is_held() {
    let mut desk = helper();
    desk.synced(2, 0, 0);
    desk.says(2, ask(1, "198.18.1.2:51413"));
    desk.says(2, reserve(1, 16..56));
    desk.wait(1);
    desk.seed(ConnId(9));
    desk.wait(2);
    assert!((16..56).all(|piece| desk.holds(piece)));
    desk.feed(Input::Conn(ConnId(9), vec![ConnFact::Choking(true)]));
    let from = "198.18.1.1:51413".parse().expect("an address");
    desk.comes(ConnId(11), from, ConnFact::HaveNone);
    let mut has = vec![0; PIECES as usize / 8];
    // Piece 60.
    has[7] = 0x08;
    let addr = ([198, 19, 0, 8], 40_000).into();
    desk.comes(ConnId(10), addr, ConnFact::Bitfield(has));
    desk.feed(Input::Conn(ConnId(10), vec![ConnFact::Choking(false)]));
    desk.wait(1);
    let next = said(&desk).pop().expect("said").1;
    assert_eq!(next.len(), 17);
    assert!(next.contains(&60), "{next:?}");
}

/// Its slot is for what the asker grants in a moment.
#[test]
fn nothing_is_fetched_for_strangers_while_a_friend_waits() {
    let mut desk = Desk::new();
    let limits = Limits {
        upload: Some(1 << 20),
        connections: 100,
        cache: 64 << 20,
        cache_memory: 64 << 20,
        repeat: true,
        ..Limits::default()
    };
    desk.feed(Input::Limits(limits));
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..4));
    for conn in 20..30 {
        let host = u8::try_from(conn).expect("few");
        let addr = ([198, 19, 1, host], 40_000).into();
        desk.comes(ConnId(conn), addr, ConnFact::HaveNone);
    }
    desk.wait(3);
    let peer = ConnId(9);
    let mut has = vec![0; PIECES as usize / 8];
    has[5] = 0x80;
    desk.comes(
        peer,
        ([198, 19, 0, 7], 40_000).into(),
        ConnFact::Bitfield(has),
    );
    desk.feed(Input::Conn(peer, vec![ConnFact::Choking(false)]));
    desk.wait(5);
    assert_eq!(desk.asked_of(peer), []);
    let (id, pieces) = (HelpId(1), (0..4).collect());
    desk.says(1, HelpMessage::Release { id, pieces });
    desk.wait(5);
    assert!(desk.asked_of(peer).contains(&40), "strangers want it");
}
