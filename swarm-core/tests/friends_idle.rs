//! What idle peers offer a helper goes to it before what it only has reserved (`spec/friends.md`, section 6.4).
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::collections::{BTreeMap, BTreeSet};

use desk::{Desk, PIECE, PIECES, ask, reserve};
use proptest::prelude::*;
use swarm_core::io::friends::{FriendsOutput, HelpId, HelpMessage};
use swarm_core::io::{ConnFact, ConnId, Input, Limits, Origin};
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
    let said = |desk: &Desk| {
        let fetching = |out: &FriendsOutput| {
            let FriendsOutput::Send(_, HelpMessage::Fetching { now, next, .. }) = out else {
                return None;
            };
            Some((now.clone(), next.clone()))
        };
        desk.out.iter().filter_map(fetching).collect::<Vec<_>>()
    };
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
