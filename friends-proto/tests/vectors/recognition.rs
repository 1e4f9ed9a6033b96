//! `recognition.json`: fields of the extended handshake as made, who recognises whom, and fields that count as none.

use bt_wire::bencode::{Document, Item, Limits};
use bt_wire::ids::InfoHash;
use friends_proto::pair::{PairKey, Role};
use friends_proto::recognition::{FIELD, Known, Recognition, padding_bytes};
use serde::{Deserialize, Serialize};

use crate::support::{ALICE, BOB, CAROL, array, hex, identity, key, read, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    /// The sender's field, from the secrets of its friends.
    made: Vec<Made>,
    /// Who finds whom in which of the fields above; `found` is empty for nobody.
    met: Vec<Met>,
    /// Values of `bs_friends` with which a peer is one without it.
    refused: Vec<Refused>,
}

#[derive(Serialize, Deserialize)]
struct Made {
    name: String,
    sender_secret: String,
    sender: String,
    friends_public: Vec<String>,
    infohash: String,
    nonce: String,
    random_tags: String,
    open: bool,
    field: String,
}

#[derive(Serialize, Deserialize)]
struct Met {
    name: String,
    made: String,
    receiver_secret: String,
    friends_public: Vec<String>,
    infohash: String,
    sender: String,
    found: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    field: String,
}

const INFOHASH: [u8; 20] = [0x5a; 20];
const NONCE: [u8; 16] = [0xa5; 16];

fn role(name: &str) -> Role {
    match name {
        "opener" => Role::Opener,
        "acceptor" => Role::Acceptor,
        _ => panic!("{name} is no role"),
    }
}

fn publics(secrets: &[[u8; 32]]) -> Vec<String> {
    secrets
        .iter()
        .map(|secret| hex(key(secret).as_bytes()))
        .collect()
}

fn known(secret: &str, friends: &[String]) -> Vec<Known> {
    let me = identity(&array(secret));
    let one = |public: &String| {
        let key = friends_proto::identity::PublicKey::from_bytes(&array(public)).expect("a key");
        let pair = PairKey::derive(&me, &key).expect("two keys");
        Known { key, pair }
    };
    friends.iter().map(one).collect()
}

fn make(case: &Made) -> Recognition {
    let infohash = InfoHash(array(&case.infohash));
    let friends = known(&case.sender_secret, &case.friends_public);
    let (nonce, random) = (array(&case.nonce), unhex(&case.random_tags));
    Recognition::new(
        &friends,
        &infohash,
        role(&case.sender),
        nonce,
        &random,
        case.open,
    )
    .expect("few friends")
}

fn parse(field: &str) -> Option<Recognition> {
    let bytes = Item::dict([(FIELD, Item::Raw(unhex(field).into()))]).encode();
    let document = Document::parse(&bytes, &Limits::default()).expect("bencode");
    Recognition::read(document.root().as_dict().expect("a dictionary"))
}

fn made(name: &str, sender: &str, friends: &[[u8; 32]], open: bool) -> Made {
    // Any bytes do: these are 1, 2, 3, …, so that some come before the tags and some behind.
    let random = (1..=255_u8).cycle().map(|at| at.wrapping_mul(0x9d));
    let mut case = Made {
        name: name.into(),
        sender_secret: hex(ALICE),
        sender: sender.into(),
        friends_public: publics(friends),
        infohash: hex(INFOHASH),
        nonce: hex(NONCE),
        random_tags: hex(random
            .take(padding_bytes(friends.len()))
            .collect::<Vec<_>>()),
        open,
        field: String::new(),
    };
    case.field = hex(make(&case).item().encode());
    case
}

fn met(name: &str, made: &str, receiver: &[u8; 32], friends: &[[u8; 32]], found: &str) -> Met {
    Met {
        name: name.into(),
        made: made.into(),
        receiver_secret: hex(receiver),
        friends_public: publics(friends),
        infohash: hex(INFOHASH),
        sender: "opener".into(),
        found: found.into(),
    }
}

fn refused() -> Vec<Refused> {
    let field = |nonce: usize, tags: usize| {
        let (nonce, tags) = (Item::bytes(vec![1; nonce]), Item::bytes(vec![2; tags]));
        Item::dict([("n", nonce), ("t", tags)])
    };
    let without = |name| Item::dict([(name, Item::bytes([1; 16]))]);
    [
        ("an integer", Item::Int(1)),
        ("no tags", without("n")),
        ("no nonce", without("t")),
        ("a nonce of 15 bytes", field(15, 128)),
        ("a nonce of 17 bytes", field(17, 128)),
        ("an empty list of tags", field(16, 0)),
        ("fifteen tags", field(16, 120)),
        ("seventeen tags", field(16, 136)),
        ("sixteen tags and a byte", field(16, 129)),
        ("257 tags", field(16, 257 * 8)),
    ]
    .into_iter()
    .map(|(name, item)| Refused {
        name: name.into(),
        field: hex(item.encode()),
    })
    .collect()
}

pub(crate) fn generate() -> String {
    let many: Vec<[u8; 32]> = (0x10..0x21).map(|seed| [seed; 32]).collect();
    let alice = hex(key(&ALICE).as_bytes());
    let both = "friends bob and carol";
    let other_role = Met {
        sender: "acceptor".into(),
        ..met("as the other role", both, &BOB, &[ALICE], "")
    };
    let other_torrent = Met {
        infohash: hex([0x5b; 20]),
        ..met("for another torrent", both, &BOB, &[ALICE], "")
    };
    text(&File {
        subject: "recognition".into(),
        spec: "friends.md".into(),
        made: vec![
            made("no friends, open mode", "opener", &[], true),
            made(both, "opener", &[BOB, CAROL], false),
            made("the same as acceptor", "acceptor", &[BOB, CAROL], false),
            made("seventeen friends", "opener", &many, false),
        ],
        met: vec![
            met("bob finds alice", both, &BOB, &[CAROL, ALICE], &alice),
            met("carol finds alice", both, &CAROL, &[ALICE], &alice),
            met("bob did not add alice", both, &BOB, &[CAROL], ""),
            met(
                "alice did not add bob",
                "no friends, open mode",
                &BOB,
                &[ALICE],
                "",
            ),
            other_role,
            other_torrent,
            met(
                "one of seventeen",
                "seventeen friends",
                &[0x20; 32],
                &[ALICE],
                &alice,
            ),
        ],
        refused: refused(),
    })
}

//= spec/friends.md#field-size
//= spec/friends.md#field-tags
//= spec/friends.md#field-bad
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.made {
        assert_eq!(hex(make(case).item().encode()), case.field, "{}", case.name);
        assert_eq!(parse(&case.field), Some(make(case)), "{}", case.name);
    }
    for case in &file.met {
        let made = file.made.iter().find(|made| made.name == case.made);
        let field = parse(&made.expect("a field of that name").field).expect("sound");
        let friends = known(&case.receiver_secret, &case.friends_public);
        let infohash = InfoHash(array(&case.infohash));
        let found = field.friend(&friends, &infohash, role(&case.sender));
        let found = found.map(|friend| hex(friend.key.as_bytes()));
        assert_eq!(found.unwrap_or_default(), case.found, "{}", case.name);
    }
    for case in &file.refused {
        assert_eq!(parse(&case.field), None, "{}", case.name);
    }
}
