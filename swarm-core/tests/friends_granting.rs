//! What an asker grants of what a helper says that it could bring (`spec/friends.md`, section 6.4).
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use std::collections::{BTreeMap, BTreeSet};

use desk::{Desk, PIECE, PIECES};
use proptest::prelude::*;
use swarm_core::io::friends::{FriendsOutput, HelpId, HelpMessage};
use swarm_core::io::{ConnFact, ConnId, Input};
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
    asker.desk.chokes(seed, &ours);
    asker.fetching(1, &[], &ours[..1]);
    assert_eq!(asker.follow().1, BTreeSet::from([(1, ours[0])]));
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
