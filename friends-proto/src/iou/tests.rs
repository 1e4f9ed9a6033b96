use proptest::prelude::*;

use super::*;
use crate::identity::Zeroizing;

fn identity(seed: u8) -> Identity {
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

fn iou(total: u64) -> Iou {
    Iou::new(identity(1).public_key(), identity(2).public_key(), total).expect("terms")
}

fn signed(total: u64) -> SignedIou {
    iou(total).sign(&identity(2)).expect("debtor")
}

#[test]
fn the_bytes_are_as_the_specification_says() {
    let (c, d) = (identity(1).public_key(), identity(2).public_key());
    let expected = [
        b"d1:c32:".as_slice(),
        c.as_bytes(),
        b"1:d32:",
        d.as_bytes(),
        b"1:ti4194304e1:vi1ee",
    ]
    .concat();
    assert_eq!(iou(4 << 20).encode(), expected);
    assert_eq!(iou(MAX_TOTAL).encode().len(), MAX_IOU_BYTES);
    assert_eq!(signed(MAX_TOTAL).encode().len(), MAX_SIGNED_BYTES);
}

#[test]
fn impossible_terms_are_refused() {
    let (c, d) = (identity(1).public_key(), identity(2).public_key());
    assert_eq!(Iou::new(c, c, 1), Err(TermsError::SameParty));
    let over = MAX_TOTAL + 1;
    assert_eq!(Iou::new(c, d, over), Err(TermsError::TooLarge(over)));
    assert_eq!(iou(1).sign(&identity(1)), Err(NotDebtor));
}

/// The canonical bytes with one change.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let bytes = iou(7).encode();
    let at = bytes
        .windows(from.len())
        .rposition(|window| window == from.as_bytes())
        .expect("is there");
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn other_spellings_and_versions_are_refused() {
    for (from, to) in [
        ("i7e", "i07e"),
        ("i7e", "i-7e"),
        ("i7e", "i-0e"),
        ("i7e", "1:7"),
        ("i7e", "i9223372036854775808e"),
        ("1:vi1ee", "1:vi1e1:xi0ee"),
        ("1:vi1ee", "1:v1:1e"),
        ("1:vi1ee", "e"),
        ("1:vi1ee", "1:vi1eex"),
        ("1:ti7e1:vi1ee", "1:vi1e1:ti7ee"),
        ("1:ti7e", "1:ti7e1:ti7e"),
        ("1:d32:", "1:d032:"),
        ("1:d32:", "1:d31:"),
    ] {
        assert_eq!(
            Iou::decode(&changed(from, to)),
            Err(IouError::Malformed),
            "{from} -> {to}"
        );
    }
    for other in [0, 2, -1] {
        let bytes = changed("1:vi1ee", &format!("1:vi{other}ee"));
        assert_eq!(Iou::decode(&bytes), Err(IouError::Version(other)));
    }
}

#[test]
fn p6_another_context_or_party_is_forged() {
    let good = signed(7);
    let bytes = good.iou().encode();
    // The same bytes signed by the debtor without the domain, in another domain, and by another key.
    for signature in [
        identity(2).sign(&bytes),
        identity(2).sign(&[b"bs_friends session 1\0".as_slice(), &bytes].concat()),
        identity(3).sign(&signed_bytes(&bytes)),
    ] {
        let forged = UnverifiedIou::from_parts(&bytes, &signature.0).expect("canonical");
        assert_eq!(forged.verify(), Err(BadSignature));
    }
    let to_another = Iou::new(identity(3).public_key(), identity(2).public_key(), 7);
    let shown =
        UnverifiedIou::from_parts(&to_another.expect("terms").encode(), &good.signature().0);
    assert_eq!(shown.expect("canonical").verify(), Err(BadSignature));
}

#[test]
fn p1_any_flipped_bit_is_refused() {
    let bytes = signed(123_456_789).encode();
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(SignedIou::decode(&flipped).is_err(), "bit {at}");
    }
    for end in 0..bytes.len() {
        assert_eq!(
            SignedIou::decode(&bytes[..end]),
            Err(IouError::Malformed),
            "cut at {end}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(total in 0..=MAX_TOTAL) {
        let written = signed(total);
        prop_assert_eq!(SignedIou::decode(&written.encode()), Ok(written));
        prop_assert_eq!(Iou::decode(&written.iou().encode()), Ok(*written.iou()));
    }

    #[test]
    fn p1_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(SignedIou::decode(&bytes).is_err());
    }
}
