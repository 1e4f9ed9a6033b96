//! `keys.json`: identities, keys that are refused, signatures, new keys in place of old ones.

use friends_proto::identity::{KeyError, PublicKey, Signature};
use friends_proto::succession::{DOMAIN, Succession, SuccessionError};
use serde::{Deserialize, Serialize};

use crate::curve;
use crate::support::{ALICE, BOB, CAROL, array, hex, identity, key, read, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    identities: Vec<Pair>,
    refused_keys: Vec<RefusedKey>,
    signatures: Vec<Signed>,
    successions: Vec<Replaced>,
}

/// A statement about a new key. `error` is empty where it is sound.
#[derive(Serialize, Deserialize)]
struct Replaced {
    name: String,
    old: String,
    new: String,
    statement: String,
    error: String,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    name: String,
    secret: String,
    public: String,
}

#[derive(Serialize, Deserialize)]
struct RefusedKey {
    name: String,
    public: String,
    error: String,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    name: String,
    public: String,
    message: String,
    signature: String,
    valid: bool,
}

pub(crate) fn generate() -> String {
    let people = [
        ("alice", ALICE),
        ("bob", BOB),
        ("carol", CAROL),
        (
            "RFC 8032, 7.1, test 2",
            array("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
        ),
    ];
    text(&File {
        subject:
            "identities, public keys that are refused, signatures, and statements about new keys"
                .into(),
        spec: "identity.md".into(),
        identities: people
            .iter()
            .map(|(name, secret)| Pair {
                name: (*name).into(),
                secret: hex(secret),
                public: hex(key(secret).as_bytes()),
            })
            .collect(),
        refused_keys: refused_keys(),
        signatures: signatures(),
        successions: successions(),
    })
}

fn refused_keys() -> Vec<RefusedKey> {
    let ff = |last: &str, first: &str| format!("{first}{}{last}", "ff".repeat(30));
    let zero = |first: &str| format!("{first}{}", "00".repeat(31));
    [
        ("order 1", zero("01"), "weak"),
        ("order 2", ff("7f", "ec"), "weak"),
        ("order 4", zero("00"), "weak"),
        (
            "order 8",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05".into(),
            "weak",
        ),
        ("y = p + 3, not canonical", ff("7f", "f0"), "not_a_key"),
        ("y = 2, no point", zero("02"), "not_a_key"),
    ]
    .into_iter()
    .map(|(name, public, error)| RefusedKey {
        name: name.into(),
        public,
        error: error.into(),
    })
    .collect()
}

fn signatures() -> Vec<Signed> {
    let (public, message) = (*key(&ALICE).as_bytes(), b"bs_friends");
    let good = identity(&ALICE).sign(message).0;
    let mut flipped = good;
    flipped[0] ^= 1;
    let (mixed, cofactored) = curve::with_torsion(&ALICE, message);
    let (neutral, by_neutral) = curve::by_neutral_key();
    [
        ("good", public, good, true),
        ("a flipped bit", public, flipped, false),
        ("S + L", public, curve::with_s_above_order(good), false),
        (
            "R of small order, S = k a",
            public,
            curve::with_small_order_r(&ALICE, message),
            false,
        ),
        (
            "holds only with the cofactor; the key has a torsion component and is accepted",
            mixed,
            cofactored,
            false,
        ),
        ("the key is of small order", neutral, by_neutral, false),
        ("another's key", *key(&BOB).as_bytes(), good, false),
    ]
    .into_iter()
    .map(|(name, public, signature, valid)| Signed {
        name: name.into(),
        public: hex(public),
        message: hex(message),
        signature: hex(signature),
        valid,
    })
    .collect()
}

/// A statement of this payload.
fn statement(payload: &[u8]) -> String {
    let hrp = bech32::Hrp::parse("bss").expect("sound");
    bech32::encode::<bech32::Bech32m>(hrp, payload).expect("short")
}

fn successions() -> Vec<Replaced> {
    let (old, new) = (key(&ALICE), key(&CAROL));
    let bytes = [DOMAIN, old.as_bytes(), new.as_bytes()].concat();
    let by = |secret: &[u8; 32]| identity(secret).sign(&bytes).0;
    let payload = |version: u8, new: &[u8; 32], by_old: [u8; 64], by_new: [u8; 64]| {
        [&[version][..], old.as_bytes(), new, &by_old, &by_new].concat()
    };
    let good = payload(1, new.as_bytes(), by(&ALICE), by(&CAROL));
    let mut damaged = statement(&good).into_bytes();
    damaged[100] = if damaged[100] == b'q' { b'p' } else { b'q' };
    let zero = [0; 32];
    [
        ("good", statement(&good), ""),
        (
            "by another than the old key",
            statement(&payload(1, new.as_bytes(), by(&BOB), by(&CAROL))),
            "forged",
        ),
        (
            "not by the new key",
            statement(&payload(1, new.as_bytes(), by(&ALICE), by(&ALICE))),
            "forged",
        ),
        (
            "another new key",
            statement(&payload(1, key(&BOB).as_bytes(), by(&ALICE), by(&CAROL))),
            "forged",
        ),
        (
            "a new key of small order",
            statement(&payload(1, &zero, by(&ALICE), by(&CAROL))),
            "key",
        ),
        (
            "a key by itself",
            statement(&payload(1, old.as_bytes(), by(&ALICE), by(&ALICE))),
            "same_key",
        ),
        (
            "version 2",
            statement(&payload(2, new.as_bytes(), by(&ALICE), by(&CAROL))),
            "version",
        ),
        ("a byte short", statement(&good[..192]), "length"),
        (
            "a changed character",
            String::from_utf8(damaged).expect("ASCII"),
            "damaged",
        ),
        (
            "a friend code",
            friends_proto::friend_code::FriendCode::new(new, vec![])
                .expect("no hints")
                .to_string(),
            "not_succession",
        ),
    ]
    .into_iter()
    .map(|(name, statement, error)| Replaced {
        name: name.into(),
        old: hex(old.as_bytes()),
        new: hex(new.as_bytes()),
        statement,
        error: error.into(),
    })
    .collect()
}

fn error_name(error: SuccessionError) -> &'static str {
    match error {
        SuccessionError::NotSuccession => "not_succession",
        SuccessionError::Damaged => "damaged",
        SuccessionError::Version(_) => "version",
        SuccessionError::Length => "length",
        SuccessionError::Key(_) => "key",
        SuccessionError::SameKey => "same_key",
        SuccessionError::Forged => "forged",
    }
}

//= spec/identity.md#succession
//= spec/identity.md#succession-refuse
fn check_successions(cases: &[Replaced]) {
    for case in cases {
        let read: Result<Succession, _> = case.statement.parse();
        let error = read.as_ref().err().copied().map_or("", error_name);
        assert_eq!(error, case.error, "{}", case.name);
        if let Ok(read) = read {
            assert_eq!(hex(read.old().as_bytes()), case.old);
            assert_eq!(hex(read.new_key().as_bytes()), case.new);
            assert_eq!(read.to_string(), case.statement);
        }
    }
}

//= spec/identity.md#key-accept
//= spec/identity.md#signature-strict
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.identities {
        assert_eq!(
            hex(key(&array(&case.secret)).as_bytes()),
            case.public,
            "{}",
            case.name
        );
    }
    check_successions(&file.successions);
    for case in &file.refused_keys {
        let error = match PublicKey::from_bytes(&array(&case.public)) {
            Ok(_) => "accepted",
            Err(KeyError::NotAKey) => "not_a_key",
            Err(KeyError::Weak) => "weak",
        };
        assert_eq!(error, case.error, "{}", case.name);
    }
    for case in &file.signatures {
        let valid = PublicKey::from_bytes(&array(&case.public)).is_ok_and(|key| {
            let signature = Signature(array(&case.signature));
            key.verify(&unhex(&case.message), &signature).is_ok()
        });
        assert_eq!(valid, case.valid, "{}", case.name);
    }
}
