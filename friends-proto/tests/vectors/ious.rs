//! `ious.json`: canonical bytes and signatures, and what is refused.

use friends_proto::identity::Signature;
use friends_proto::iou::{DOMAIN, Iou, IouError, MAX_TOTAL, SignedIou, TermsError};
use serde::{Deserialize, Serialize};

use crate::curve;
use crate::support::{ALICE, BOB, CAROL, hex, identity, key, read, signed, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    ious: Vec<Good>,
    /// IOU bytes and a signature.
    refused: Vec<Refused>,
    /// Both as one value.
    refused_signed: Vec<RefusedSigned>,
}

#[derive(Serialize, Deserialize)]
struct Good {
    name: String,
    secret_creditor: String,
    secret_debtor: String,
    creditor: String,
    debtor: String,
    total: String,
    iou: String,
    signature: String,
    signed: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    iou: String,
    signature: String,
    error: String,
}

#[derive(Serialize, Deserialize)]
struct RefusedSigned {
    name: String,
    signed: String,
    error: String,
}

pub(crate) fn generate() -> String {
    let goods = [
        ("alice helped bob with 4 MiB", ALICE, BOB, 4 << 20),
        ("the other direction", BOB, ALICE, 1),
        ("nothing yet", ALICE, BOB, 0),
        ("the largest total", ALICE, CAROL, MAX_TOTAL),
    ];
    text(&File {
        subject: "canonical IOUs, their signatures, and what is refused".into(),
        spec: "iou.md".into(),
        ious: goods
            .iter()
            .map(|(name, creditor, debtor, total)| {
                let signed = signed(creditor, debtor, *total);
                Good {
                    name: (*name).into(),
                    secret_creditor: hex(creditor),
                    secret_debtor: hex(debtor),
                    creditor: hex(signed.iou().creditor().as_bytes()),
                    debtor: hex(signed.iou().debtor().as_bytes()),
                    total: total.to_string(),
                    iou: hex(signed.iou().encode()),
                    signature: hex(signed.signature().0),
                    signed: hex(signed.encode()),
                }
            })
            .collect(),
        refused: refused(),
        refused_signed: refused_signed(),
    })
}

/// Bob's IOU to Alice over 7 bytes, and what becomes of its bytes by replacing the last `from`.
fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
    replaced(&signed(&ALICE, &BOB, 7).iou().encode(), from, to)
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .rposition(|window| window == from)
        .expect("is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn other_bytes() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut cases: Vec<(&str, Vec<u8>, &str)> = [
        ("a leading zero", "i7e", "i07e"),
        ("a negative total", "i7e", "i-7e"),
        ("minus zero", "i7e", "i-0e"),
        ("a plus sign", "i7e", "i+7e"),
        ("the total as a string", "i7e", "1:7"),
        ("total 2^63", "i7e", "i9223372036854775808e"),
        ("a key more", "1:vi1ee", "1:vi1e1:xi0ee"),
        ("no version", "1:vi1ee", "e"),
        ("keys out of order", "1:ti7e1:vi1ee", "1:vi1e1:ti7ee"),
        ("a key twice", "1:ti7e", "1:ti7e1:ti7e"),
        ("a byte after it", "1:vi1ee", "1:vi1eex"),
        ("a byte missing", "1:vi1ee", "1:vi1e"),
        ("a length with a leading zero", "1:d32:", "1:d032:"),
    ]
    .into_iter()
    .map(|(name, from, to)| (name, changed(from.as_bytes(), to.as_bytes()), "malformed"))
    .collect();
    let bob = *key(&BOB).as_bytes();
    let field = |bytes: &[u8]| {
        let length = bytes.len().to_string();
        [b"1:d".as_slice(), length.as_bytes(), b":", bytes].concat()
    };
    let debtor = |bytes: &[u8]| changed(&field(&bob), &field(bytes));
    let mut no_point = [0; 32];
    no_point[0] = 2;
    cases.extend([
        ("a key of 31 bytes", debtor(&bob[..31]), "malformed"),
        ("no debtor", changed(&field(&bob), b""), "malformed"),
        (
            "the debtor's key is of small order",
            debtor(&[0; 32]),
            "key",
        ),
        ("the debtor's key is no point", debtor(&no_point), "key"),
        (
            "the debtor is the creditor",
            debtor(key(&ALICE).as_bytes()),
            "same_party",
        ),
        ("version 2", changed(b"1:vi1ee", b"1:vi2ee"), "version"),
        ("version 0", changed(b"1:vi1ee", b"1:vi0ee"), "version"),
        (
            "version 2 with other keys",
            b"d1:vi2e1:zi0ee".to_vec(),
            "version",
        ),
        ("a list", b"l1:ve".to_vec(), "malformed"),
        ("nothing", Vec::new(), "malformed"),
    ]);
    cases
}

fn refused() -> Vec<Refused> {
    // Bob signed whatever it is: only the bytes are at fault.
    let by_bob = |bytes: &[u8]| identity(&BOB).sign(&[DOMAIN, bytes].concat()).0;
    let mut cases: Vec<_> = other_bytes()
        .into_iter()
        .map(|(name, iou, error)| {
            let signature = by_bob(&iou).to_vec();
            (name, iou, signature, error)
        })
        .collect();
    let iou = signed(&ALICE, &BOB, 7).iou().encode();
    let message = [DOMAIN, &iou].concat();
    let good = by_bob(&iou);
    let mut flipped = good;
    flipped[63] ^= 1;
    let alice_by_bob = signed(&CAROL, &BOB, 7).signature().0;
    for (name, signature, error) in [
        ("a flipped bit", flipped.to_vec(), "forged"),
        ("S + L", curve::with_s_above_order(good).to_vec(), "forged"),
        (
            "R of small order",
            curve::with_small_order_r(&BOB, &message).to_vec(),
            "forged",
        ),
        (
            "without the domain",
            identity(&BOB).sign(&iou).0.to_vec(),
            "forged",
        ),
        (
            "in another domain",
            identity(&BOB)
                .sign(&[b"bs_friends session 1\0", iou.as_slice()].concat())
                .0
                .to_vec(),
            "forged",
        ),
        (
            "signed by the creditor",
            identity(&ALICE).sign(&message).0.to_vec(),
            "forged",
        ),
        (
            "signed for another creditor",
            alice_by_bob.to_vec(),
            "forged",
        ),
        ("a signature of 63 bytes", good[..63].to_vec(), "malformed"),
    ] {
        cases.push((name, iou.clone(), signature, error));
    }
    cases
        .into_iter()
        .map(|(name, iou, signature, error)| Refused {
            name: name.into(),
            iou: hex(iou),
            signature: hex(signature),
            error: error.into(),
        })
        .collect()
}

fn refused_signed() -> Vec<RefusedSigned> {
    let bytes = signed(&ALICE, &BOB, 7).encode();
    let Some(value) = bytes.strip_prefix(b"d") else {
        panic!("a dictionary");
    };
    let split = value.len() - 71;
    let (iou, rest) = value.split_at(split);
    let (signature, _) = rest.split_at(70);
    [
        (
            "a key more",
            replaced(&bytes, b"e", b"1:xi0ee"),
            "malformed",
        ),
        (
            "a byte after it",
            [bytes.as_slice(), b"e"].concat(),
            "malformed",
        ),
        (
            "keys out of order",
            [b"d", signature, iou, b"e"].concat(),
            "malformed",
        ),
        ("no signature", [b"d", iou, b"e"].concat(), "malformed"),
        ("no IOU", [b"d", signature, b"e"].concat(), "malformed"),
        ("forged", forged(bytes.clone()), "forged"),
    ]
    .into_iter()
    .map(|(name, signed, error)| RefusedSigned {
        name: name.into(),
        signed: hex(signed),
        error: error.into(),
    })
    .collect()
}

/// With the signature's first byte changed.
fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - 65;
    bytes[at] ^= 1;
    bytes
}

fn name(error: &IouError) -> &'static str {
    match error {
        IouError::Malformed => "malformed",
        IouError::Version(_) => "version",
        IouError::Key(_) => "key",
        IouError::Terms(TermsError::SameParty) => "same_party",
        IouError::Terms(TermsError::TooLarge(_)) => "too_large",
        IouError::Forged(_) => "forged",
    }
}

//= spec/iou.md#iou-canonical
//= spec/iou.md#iou-version
//= spec/iou.md#iou-total
//= spec/iou.md#iou-parties
//= spec/iou.md#signing
//= spec/iou.md#verifying
//= spec/iou.md#signed-encoding
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.ious {
        let (iou, signature) = (unhex(&case.iou), unhex(&case.signature));
        let read = SignedIou::from_parts(&iou, &signature).expect(&case.name);
        assert_eq!(
            SignedIou::decode(&unhex(&case.signed)),
            Ok(read),
            "{}",
            case.name
        );
        assert_eq!(hex(read.encode()), case.signed, "{}", case.name);
        assert_eq!(read.iou().total_bytes().to_string(), case.total);
        let (creditor, debtor) = (unhex(&case.secret_creditor), unhex(&case.secret_debtor));
        let (creditor, debtor) = (
            creditor.try_into().expect("32"),
            debtor.try_into().expect("32"),
        );
        let terms = Iou::new(key(&creditor), key(&debtor), read.iou().total_bytes());
        assert_eq!(
            terms.as_ref().map(Iou::encode),
            Ok(iou.clone()),
            "{}",
            case.name
        );
        let made = identity(&debtor).sign(&[DOMAIN, &iou].concat());
        assert_eq!(
            made,
            Signature(signature.try_into().expect("64")),
            "{}",
            case.name
        );
        assert_eq!(hex(key(&creditor).as_bytes()), case.creditor);
        assert_eq!(hex(key(&debtor).as_bytes()), case.debtor);
    }
    for case in &file.refused {
        let read = SignedIou::from_parts(&unhex(&case.iou), &unhex(&case.signature));
        assert_eq!(
            name(&read.expect_err(&case.name)),
            case.error,
            "{}",
            case.name
        );
    }
    for case in &file.refused_signed {
        let error = SignedIou::decode(&unhex(&case.signed)).expect_err(&case.name);
        assert_eq!(name(&error), case.error, "{}", case.name);
    }
}
