//! `pairs.json`: pair keys, recognition tags, homes.

use bt_wire::ids::InfoHash;
use friends_proto::pair::{PairError, PairKey, Role};
use serde::{Deserialize, Serialize};

use crate::curve;
use crate::support::{ALICE, BOB, CAROL, array, hex, identity, key, read, text};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    pairs: Vec<Pair>,
    refused: Vec<Refused>,
    tags: Vec<Tag>,
    homes: Vec<Home>,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    name: String,
    secret_a: String,
    secret_b: String,
    public_a: String,
    public_b: String,
    x25519: String,
    k: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    secret: String,
    public: String,
    error: String,
}

#[derive(Serialize, Deserialize)]
struct Tag {
    secret_a: String,
    secret_b: String,
    nonce: String,
    infohash: String,
    sender: String,
    tag: String,
}

#[derive(Serialize, Deserialize)]
struct Home {
    secret_a: String,
    secret_b: String,
    date: String,
    day: u64,
    home: String,
}

fn pair(a: &[u8; 32], b: &[u8; 32]) -> PairKey {
    PairKey::derive(&identity(a), &key(b)).expect("two keys")
}

fn role(name: &str) -> Role {
    match name {
        "opener" => Role::Opener,
        "acceptor" => Role::Acceptor,
        _ => panic!("{name} is no role"),
    }
}

const PAIRS: [(&str, [u8; 32], [u8; 32]); 3] = [
    ("alice and bob", ALICE, BOB),
    ("alice and carol", ALICE, CAROL),
    ("bob and carol", BOB, CAROL),
];

pub(crate) fn generate() -> String {
    let (nonce, infohash) = ([0xa5; 16], InfoHash([0x5a; 20]));
    let ab = pair(&ALICE, &BOB);
    text(&File {
        subject: "pair keys, recognition tags and homes".into(),
        spec: "identity.md".into(),
        pairs: PAIRS
            .iter()
            .map(|(name, a, b)| Pair {
                name: (*name).into(),
                secret_a: hex(a),
                secret_b: hex(b),
                public_a: hex(key(a).as_bytes()),
                public_b: hex(key(b).as_bytes()),
                x25519: hex(curve::x25519(a, key(b).as_bytes())),
                k: hex(pair(a, b).as_bytes()),
            })
            .collect(),
        refused: vec![Refused {
            name: "one's own key".into(),
            secret: hex(ALICE),
            public: hex(key(&ALICE).as_bytes()),
            error: "own_key".into(),
        }],
        tags: ["opener", "acceptor"]
            .iter()
            .map(|sender| Tag {
                secret_a: hex(ALICE),
                secret_b: hex(BOB),
                nonce: hex(nonce),
                infohash: hex(infohash.as_bytes()),
                sender: (*sender).into(),
                tag: hex(ab.tag(&nonce, &infohash, role(sender)).0),
            })
            .collect(),
        homes: [
            ("1970-01-01", 0),
            ("2026-11-28", 20_785),
            ("2026-11-29", 20_786),
        ]
        .iter()
        .map(|(date, day)| Home {
            secret_a: hex(ALICE),
            secret_b: hex(BOB),
            date: (*date).into(),
            day: *day,
            home: hex(ab.home(*day).as_bytes()),
        })
        .collect(),
    })
}

//= spec/identity.md#pair-key
//= spec/identity.md#pair-own
//= spec/identity.md#tag
//= spec/identity.md#tag-compare
//= spec/identity.md#home
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.pairs {
        let (a, b) = (array(&case.secret_a), array(&case.secret_b));
        assert_eq!(hex(pair(&a, &b).as_bytes()), case.k, "{}", case.name);
        assert_eq!(hex(pair(&b, &a).as_bytes()), case.k, "{}", case.name);
        let z = curve::x25519(&b, &array(&case.public_a));
        assert_eq!(hex(z), case.x25519, "{}", case.name);
    }
    for case in &file.refused {
        let public = friends_proto::identity::PublicKey::from_bytes(&array(&case.public));
        let refused = PairKey::derive(&identity(&array(&case.secret)), &public.expect("a key"));
        let error = match refused {
            Ok(_) => "accepted",
            Err(PairError::OwnKey) => "own_key",
            Err(PairError::NoSecret) => "no_secret",
        };
        assert_eq!(error, case.error, "{}", case.name);
    }
    for case in &file.tags {
        let k = pair(&array(&case.secret_a), &array(&case.secret_b));
        let (nonce, infohash) = (array(&case.nonce), InfoHash(array(&case.infohash)));
        let tag = friends_proto::pair::Tag(array(&case.tag));
        for sender in ["opener", "acceptor"] {
            let recognised = k.recognises(&[tag], &nonce, &infohash, role(sender));
            assert_eq!(recognised, sender == case.sender);
        }
    }
    for case in &file.homes {
        let k = pair(&array(&case.secret_b), &array(&case.secret_a));
        assert_eq!(hex(k.home(case.day).as_bytes()), case.home, "{}", case.date);
    }
}
