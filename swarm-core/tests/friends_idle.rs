//! What idle peers offer a helper goes to it before what it only has reserved (`spec/friends.md`, section 6.4).
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::collections::{BTreeMap, BTreeSet};

use desk::{Desk, PIECE, PIECES, ask, reserve};
use proptest::prelude::*;
use swarm_core::io::friends::{FriendsOutput, HelpId, HelpMessage};
use swarm_core::io::{ConnFact, ConnId, Input, LeaseEnd, Limits, Origin};
use swarm_core::policy::delivery::Delivery;

/// Pieces that a helper has room for.
const ROOM: usize = 8;

/// Pieces, and whose they were or are.
type Moved = BTreeSet<(u32, u32)>;

/// An asker and its helpers, each with its room full of reservations.
struct Asker {
    desk: Desk,
    helps: BTreeMap<u32, HelpId>,
    /// What is reserved with each, by the messages.
    reserved: BTreeMap<u32, BTreeSet<u32>>,
    room: usize,
    read: usize,
}

impl Asker {
    fn new(helpers: u32, room: usize) -> Self {
        let mut desk = Desk::new();
        (1..=helpers).for_each(|friend| desk.synced(friend, 0, 0));
        desk.needy_master(false);
        let asks = |desk: &Desk| desk.sent(|message| matches!(message, HelpMessage::Ask(_)));
        while asks(&desk) < helpers as usize {
            desk.wait(1);
        }
        let asked = |out: &FriendsOutput| {
            let FriendsOutput::Send(friend, HelpMessage::Ask(ask)) = out else {
                return None;
            };
            Some((friend.0, ask.id))
        };
        let helps: BTreeMap<u32, HelpId> = desk.out.iter().filter_map(asked).collect();
        for (friend, id) in &helps {
            let offer = HelpMessage::Offer {
                id: *id,
                rate: 1 << 20,
                room: room as u64 * u64::from(PIECE),
                deliveries: vec![Delivery::Rpc],
                at: vec![([198, 18, 1, *friend as u8], 6881).into()],
            };
            desk.says(*friend, offer);
        }
        let reserved = helps
            .keys()
            .map(|friend| (*friend, BTreeSet::new()))
            .collect();
        let mut asker = Self {
            desk,
            helps,
            reserved,
            room,
            read: 0,
        };
        asker.follow();
        asker
    }

    /// Reads what was sent: what was taken from whom, and given to whom.
    fn follow(&mut self) -> (Moved, Moved) {
        let (mut taken, mut given) = (Moved::new(), Moved::new());
        for out in &self.desk.out[self.read..] {
            let FriendsOutput::Send(friend, message) = out else {
                continue;
            };
            let pairs = |pieces: &[u32]| pieces.iter().map(|p| (friend.0, *p)).collect::<Moved>();
            let stands = self.reserved.get_mut(&friend.0).expect("asked");
            if let HelpMessage::Reserve { pieces, .. } = message {
                stands.extend(pieces);
                given.extend(pairs(pieces));
            } else if let HelpMessage::Release { pieces, .. } = message {
                stands.retain(|p| !pieces.contains(p));
                taken.extend(pairs(pieces));
            }
        }
        self.read = self.desk.out.len();
        //= spec/friends.md#reserve-disjoint
        let all: BTreeSet<u32> = self.reserved.values().flatten().copied().collect();
        assert_eq!(
            all.len(),
            self.reserved.values().map(BTreeSet::len).sum::<usize>()
        );
        //= spec/friends.md#reserve-room
        assert!(
            self.reserved
                .values()
                .all(|pieces| pieces.len() <= self.room)
        );
        (taken, given)
    }

    fn fetching(&mut self, friend: u32, now: &[u32], next: &[u32]) {
        let id = self.helps[&friend];
        let (now, next) = (now.to_vec(), next.to_vec());
        self.desk
            .says(friend, HelpMessage::Fetching { id, now, next });
    }

    fn holds(&mut self, friend: u32, piece: u32) {
        let id = self.helps[&friend];
        let (held, delivered) = (vec![piece], Vec::new());
        self.desk.says(
            friend,
            HelpMessage::Progress {
                id,
                held,
                delivered,
                bytes: 0,
            },
        );
    }

    fn nobodys(&self) -> u32 {
        let ours = self.desk.asked_of(ConnId(2));
        let lent: BTreeSet<u32> = self.reserved.values().flatten().copied().collect();
        (0..PIECES)
            .find(|p| !lent.contains(p) && !ours.contains(p))
            .expect("a free piece")
    }
}

//= spec/friends.md#grant-untouched
#[test]
fn a_helper_gets_what_it_could_begin_from_nobody_and_from_whoever_has_not_begun_it() {
    let mut asker = Asker::new(2, ROOM);
    let theirs: Vec<u32> = asker.reserved[&2].iter().copied().collect();
    let [at, held, open, ..] = theirs[..] else {
        panic!("{theirs:?}");
    };
    let mine = *asker.reserved[&1].first().expect("lent");
    let free = asker.nobodys();
    asker.fetching(2, &[at], &[]);
    asker.holds(2, held);
    asker.follow();
    asker.fetching(1, &[mine], &[at, held, open, free]);
    let (taken, given) = asker.follow();
    assert_eq!(given, BTreeSet::from([(1, open), (1, free)]));
    let from_2: BTreeSet<_> = taken.iter().filter(|(friend, _)| *friend == 2).collect();
    assert_eq!(from_2, BTreeSet::from([&(2, open)]));
    assert!(!taken.contains(&(1, mine)), "what it is fetching stays");

    // What it no longer fetches may be taken.
    asker.fetching(2, &[], &[]);
    asker.fetching(1, &[mine], &[at]);
    let (taken, given) = asker.follow();
    assert!(taken.contains(&(2, at)) && given.contains(&(1, at)));
}

#[test]
fn of_one_word_the_first_pieces_count() {
    let mut asker = Asker::new(4, PIECES as usize);
    let all: Vec<u32> = (0..PIECES).collect();
    asker.fetching(1, &[], &all);
    let (_, given) = asker.follow();
    let last = given.iter().map(|(_, piece)| *piece).max();
    assert!(
        last.is_some_and(|piece| (20..32).contains(&piece)),
        "{last:?}"
    );
}

#[test]
fn a_word_about_no_help_is_answered() {
    let mut desk = Desk::new();
    desk.synced(1, 0, 0);
    let (id, now, next) = (HelpId(8), Vec::new(), vec![1]);
    desk.says(1, HelpMessage::Fetching { id, now, next });
    assert_eq!(
        desk.sent(|message| matches!(message, HelpMessage::Stop { .. })),
        1
    );
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
    let mut desk = Desk::new();
    desk.known(Origin::User, false);
    desk.synced(1, 0, 0);
    desk.says(1, ask(1, "198.18.1.1:51413"));
    desk.says(1, reserve(1, 0..4));
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

/// What a connection was fetching is over: it chokes us.
fn choked(desk: &mut Desk, conn: ConnId, pieces: &[u32]) {
    let lost = |piece: &u32| ConnFact::LeaseLost {
        piece: *piece,
        why: LeaseEnd::Choked,
    };
    let mut facts = vec![ConnFact::Received {
        piece: pieces[0],
        bytes: 16_384,
        redundant: 0,
    }];
    facts.extend(pieces.iter().map(lost));
    facts.push(ConnFact::Choking(true));
    desk.feed(Input::Conn(conn, facts));
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
    choked(&mut desk, one, &[0]);
    desk.wait(2);
    assert!(!desk.asked_of(other).contains(&0), "it is busy");
    assert!(
        last(&desk).is_some_and(|(now, _)| now.contains(&0)),
        "and will go on with it"
    );
    choked(&mut desk, other, &others);
    desk.wait(2);
    assert_eq!(last(&desk), Some((vec![], vec![])), "nobody gives it");
}

//= spec/friends.md#grant-untouched
#[test]
fn what_the_asker_cannot_go_on_with_goes_to_a_helper_that_can() {
    let mut asker = Asker::new(1, ROOM);
    let seed = ConnId(7);
    let addr = ([198, 19, 0, 7], 40_000).into();
    asker.desk.comes(seed, addr, ConnFact::HaveAll);
    let unchoke = ConnFact::Choking(false);
    asker.desk.feed(Input::Conn(seed, vec![unchoke]));
    let ours = asker.desk.asked_of(seed);
    asker.follow();
    asker.fetching(1, &[], &ours[..1]);
    assert!(asker.follow().1.is_empty(), "we are at it");
    choked(&mut asker.desk, seed, &ours);
    asker.fetching(1, &[], &ours[..1]);
    assert_eq!(asker.follow().1, BTreeSet::from([(1, ours[0])]));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever helpers say: no piece is with two, nobody has more than its room, nobody loses what it is fetching.
    #[test]
    fn no_word_breaks_the_reservations(
        words in prop::collection::vec((1u32..4, prop::collection::vec(0u32..PIECES + 9, 0..5), prop::collection::vec(0u32..PIECES + 9, 0..40)), 1..30),
    ) {
        let mut asker = Asker::new(3, ROOM);
        let mut now: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (friend, at, next) in words {
            now.insert(friend, at.iter().copied().collect());
            asker.fetching(friend, &at, &next);
            let (taken, _) = asker.follow();
            for (other, piece) in taken {
                let fetched = now.get(&other).is_some_and(|at| at.contains(&piece));
                prop_assert!(!fetched, "{piece} was taken from {other}");
            }
        }
    }
}
