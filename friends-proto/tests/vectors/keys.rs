//! `keys.json`: identities, keys that are refused, signatures.

use friends_proto::identity::{KeyError, PublicKey, Signature};
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
        subject: "identities, public keys that are refused, and signatures".into(),
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
