use bt_wire::bencode::{Document, Limits};
use proptest::prelude::*;

use super::*;
use crate::identity::{Identity, Zeroizing};

const HASH: InfoHash = InfoHash([0x11; 20]);

fn identity(seed: u64) -> Identity {
    let mut secret = Zeroizing::new([7; 32]);
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Identity::from_secret(&secret)
}

/// `other`, as `me` knows it.
fn known(me: u64, other: u64) -> Known {
    let key = identity(other).public_key();
    let pair = PairKey::derive(&identity(me), &key).expect("two honest keys");
    Known { key, pair }
}

/// What `me` shows, with these friends.
fn shown(me: u64, friends: &[u64], role: Role, open: bool) -> Recognition {
    let friends: Vec<Known> = friends.iter().map(|other| known(me, *other)).collect();
    let padding = vec![0x5a; padding_bytes(friends.len())];
    Recognition::new(&friends, &HASH, role, [9; NONCE_BYTES], &padding, open).expect("few friends")
}

/// As it comes out of an extended handshake.
fn over_the_wire(shown: &Recognition) -> Recognition {
    let bytes = Item::dict([(FIELD, shown.item()), ("v", Item::from("x"))]).encode();
    let document = Document::parse(&bytes, &Limits::default()).expect("ours");
    Recognition::read(document.root().as_dict().expect("a dictionary")).expect("ours")
}

fn meeting(ours: &Recognition, theirs: &Recognition, friends: &[Known]) -> Option<PublicKey> {
    let role = Role::Acceptor;
    match meet(
        ours,
        Some(theirs),
        friends,
        &HASH,
        role,
        &mut Nonces::default(),
    ) {
        Meeting::Friend(friend) => Some(friend.key),
        Meeting::Acquaintance | Meeting::Nobody => None,
    }
}

#[test]
//= spec/friends.md#field-tags
fn a_friend_is_recognised_and_only_as_what_it_is() {
    let ours = shown(1, &[2, 3], Role::Opener, false);
    let theirs = over_the_wire(&shown(3, &[4, 1], Role::Acceptor, false));
    let friends = [known(1, 2), known(1, 3), known(1, 5)];
    assert_eq!(
        meeting(&ours, &theirs, &friends),
        Some(identity(3).public_key())
    );
    // As the other role, or for another torrent, it is nobody.
    assert!(theirs.friend(&friends, &HASH, Role::Opener).is_none());
    let other = InfoHash([0x12; 20]);
    assert!(theirs.friend(&friends, &other, Role::Acceptor).is_none());
}

#[test]
fn a_friendship_of_one_side_is_none() {
    let ours = shown(1, &[2], Role::Opener, false);
    let theirs = shown(2, &[3], Role::Acceptor, false);
    assert_eq!(meeting(&ours, &theirs, &[known(1, 2)]), None);
    let theirs = shown(2, &[1], Role::Acceptor, false);
    assert_eq!(meeting(&ours, &theirs, &[known(1, 3)]), None);
}

#[test]
//= spec/friends.md#meet-nobody
fn p26_a_prober_that_knows_our_key_sees_only_that_we_speak_it() {
    // The prober adds us, and shows the tag that it can make from our public key and its own secret.
    let prober = shown(66, &[1], Role::Acceptor, true);
    let ours = shown(1, &[2, 3], Role::Opener, false);
    let friends = [known(1, 2), known(1, 3)];
    let meets = meet(
        &ours,
        Some(&prober),
        &friends,
        &HASH,
        Role::Acceptor,
        &mut Nonces::default(),
    );
    assert!(matches!(meets, Meeting::Nobody));
    // What we show is the same whatever we are but for noise: no key, and the length of the class.
    let key = *identity(1).public_key().as_bytes();
    let lengths: Vec<usize> = [vec![], vec![2], vec![2, 3]]
        .iter()
        .map(|friends| {
            let bytes = shown(1, friends, Role::Opener, false).item().encode();
            assert!(!bytes.windows(8).any(|part| part == &key[..8]));
            bytes.len()
        })
        .collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]));
}

#[test]
fn p19_a_stranger_that_asks_for_many_torrents_gets_noise() {
    let friends = [known(1, 2)];
    let mut seen = std::collections::BTreeSet::new();
    for probe in 0..10_000_u32 {
        let mut hash = InfoHash([0; 20]);
        hash.0[..4].copy_from_slice(&probe.to_be_bytes());
        let nonce = [0; NONCE_BYTES];
        let padding = vec![0; padding_bytes(1)];
        let shown = Recognition::new(&friends, &hash, Role::Opener, nonce, &padding, false)
            .expect("one friend");
        // Even with one nonce for all, no tag comes twice.
        assert!(
            shown
                .tags
                .iter()
                .filter(|tag| **tag != [0; 8])
                .all(|tag| seen.insert(*tag))
        );
    }
    assert_eq!(seen.len(), 10_000);
}

#[test]
//= spec/friends.md#meet-replay
fn a_played_back_tag_is_not_answered_and_counted() {
    let ours = shown(1, &[2], Role::Opener, false);
    let theirs = shown(2, &[1], Role::Acceptor, false);
    let friends = [known(1, 2)];
    let mut heard = Nonces::default();
    let mut again = || {
        meet(
            &ours,
            Some(&theirs),
            &friends,
            &HASH,
            Role::Acceptor,
            &mut heard,
        )
    };
    assert!(matches!(again(), Meeting::Friend(_)));
    assert!(matches!(again(), Meeting::Nobody));
    assert_eq!(heard.repeated(), 1);
    for nonce in 0..5000_u32 {
        let mut bytes = [0; NONCE_BYTES];
        bytes[..4].copy_from_slice(&nonce.to_be_bytes());
        assert!(heard.is_new(bytes));
    }
    assert_eq!(heard.heard.len(), MAX_NONCES);
}

#[test]
fn acquaintances_meet_when_both_are_open() {
    let table = [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ];
    for (we, they, meets) in table {
        let ours = shown(1, &[], Role::Opener, we);
        let theirs = over_the_wire(&shown(2, &[], Role::Acceptor, they));
        let got = meet(
            &ours,
            Some(&theirs),
            &[],
            &HASH,
            Role::Acceptor,
            &mut Nonces::default(),
        );
        assert_eq!(matches!(got, Meeting::Acquaintance), meets);
    }
    let ours = shown(1, &[], Role::Opener, true);
    let plain = meet(
        &ours,
        None,
        &[],
        &HASH,
        Role::Acceptor,
        &mut Nonces::default(),
    );
    assert!(matches!(plain, Meeting::Nobody));
}

#[test]
//= spec/friends.md#field-size
fn p24_more_friends_than_the_limit_are_refused() {
    let friends = vec![known(1, 2); MAX_FRIENDS + 1];
    let new = |friends: &[Known], padding: &[u8]| {
        Recognition::new(
            friends,
            &HASH,
            Role::Opener,
            [0; NONCE_BYTES],
            padding,
            false,
        )
    };
    let refused = RecognitionError::TooManyFriends(MAX_FRIENDS + 1);
    assert_eq!(new(&friends, &[]), Err(refused));
    assert!(new(&friends[..MAX_FRIENDS], &[]).is_ok());
    let padding = vec![0; padding_bytes(1) - 1];
    let refused = RecognitionError::TooLittlePadding;
    assert_eq!(new(&friends[..1], &padding), Err(refused));
    let sizes = [0, 1, 16, 17, 64, 65, 256, 257].map(padding_bytes);
    assert_eq!(sizes, [128, 120, 0, 376, 0, 1528, 0, 0]);
}

#[test]
//= spec/friends.md#field-bad
fn a_field_that_is_not_sound_is_a_plain_peers() {
    let nonce = || Item::bytes([0; NONCE_BYTES]);
    let tags = |length: usize| Item::bytes(vec![1; length]);
    let table = [
        Item::Int(1),
        Item::dict([("t", tags(128))]),
        Item::dict([("n", nonce())]),
        Item::dict([("n", Item::bytes([0; 15])), ("t", tags(128))]),
        Item::dict([("n", nonce()), ("t", tags(0))]),
        Item::dict([("n", nonce()), ("t", tags(127))]),
        Item::dict([("n", nonce()), ("t", tags(136))]),
        Item::dict([("n", nonce()), ("t", tags(257 * 8))]),
    ];
    for field in table {
        let bytes = Item::dict([(FIELD, field.clone())]).encode();
        let document = Document::parse(&bytes, &Limits::default()).expect("bencode");
        let read = Recognition::read(document.root().as_dict().expect("a dictionary"));
        assert_eq!(read, None, "{field:?}");
    }
}

proptest! {
    #[test]
    fn any_pair_finds_each_other(
        others in prop::collection::btree_set(10_u64..100, 0..40),
        nonce: [u8; NONCE_BYTES],
        padding in prop::collection::vec(any::<u8>(), 64 * TAG_BYTES),
        infohash: [u8; 20],
    ) {
        let mut friends: Vec<Known> = others.iter().map(|other| known(1, *other)).collect();
        friends.push(known(1, 2));
        let infohash = InfoHash(infohash);
        let shown = Recognition::new(&friends, &infohash, Role::Acceptor, nonce, &padding, false).expect("few");
        prop_assert!(shown.tags.is_sorted());
        let read = over_the_wire(&shown);
        prop_assert_eq!(&read, &shown);
        let friends = [known(2, 3), known(2, 1), known(2, 4)];
        let found = read.friend(&friends, &infohash, Role::Acceptor).map(|friend| friend.key);
        prop_assert_eq!(found, Some(identity(1).public_key()));
    }
}

//= spec/friends.md#meet-work
#[test]
fn everybody_is_looked_for_whoever_was_found() {
    let friends: Vec<Known> = (2..10).map(|other| known(1, other)).collect();
    for there in [None, Some(0), Some(3), Some(7)] {
        let key = there.map(|at: usize| friends[at].key);
        let mut looked = 0;
        let found = among(&friends, |friend| {
            looked += 1;
            Some(friend.key) == key
        });
        assert_eq!(
            (found.map(|friend| friend.key), looked),
            (key, friends.len())
        );
    }
}
