#![allow(clippy::wildcard_enum_match_arm, clippy::unwrap_used)]

use std::collections::BTreeMap;

use bendy::decoding::{Decoder, Object};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn kind(input: &[u8]) -> Option<ErrorKind> {
    Document::parse(input, &Limits::default())
        .err()
        .map(|error| error.kind)
}

/// The owned form of a node, for comparing.
fn item(node: Node<'_>) -> Item {
    match node.value() {
        Value::Int(value) => Item::Int(value),
        Value::Bytes(bytes) => Item::bytes(bytes),
        Value::List(list) => Item::List(list.iter().map(item).collect()),
        Value::Dict(dict) => Item::Dict(
            dict.iter()
                .map(|(key, value)| (key.to_vec(), item(value)))
                .collect(),
        ),
    }
}

#[test]
fn reads_each_kind_and_keeps_raw_bytes() {
    let input = b"d1:ai-7e1:bl0:3:xyzi0ee1:cd1:zi1e1:yi2eee";
    let document = Document::parse(input, &Limits::default()).expect("sound");
    let root = document.root().as_dict().expect("a dictionary");
    assert_eq!(root.int("a"), Some(-7));
    let list: Vec<_> = root
        .get("b")
        .and_then(Node::as_list)
        .expect("a list")
        .iter()
        .map(Node::raw)
        .collect();
    assert_eq!(list, [&b"0:"[..], b"3:xyz", b"i0e"]);
    assert_eq!(root.get("c").expect("there").raw(), b"d1:zi1e1:yi2ee");
    assert!(root.get("d").is_none());
    assert_eq!(root.raw(), input);
}

#[test]
fn prefix_returns_the_rest() {
    let (document, rest) =
        Document::parse_prefix(b"d1:ai1eeREST", &Limits::default()).expect("sound");
    assert_eq!(
        (document.root().raw(), rest),
        (&b"d1:ai1ee"[..], &b"REST"[..])
    );
    assert_eq!(kind(b"i1ei2e"), Some(ErrorKind::TrailingBytes));
}

#[test]
fn refuses_what_is_not_bencode() {
    use ErrorKind::{KeyNotString, NumberOverflow, NumberSpelling, UnexpectedByte, UnexpectedEnd};
    let table: [(&[u8], ErrorKind); 21] = [
        (b"", UnexpectedEnd),
        (b"i", UnexpectedEnd),
        (b"ie", UnexpectedByte),
        (b"i-e", UnexpectedByte),
        (b"i--1e", UnexpectedByte),
        (b"i+1e", UnexpectedByte),
        (b"i1.5e", UnexpectedByte),
        (b"i-0e", NumberSpelling),
        (b"i00e", NumberSpelling),
        (b"i07e", NumberSpelling),
        (b"i-01e", NumberSpelling),
        (b"i9223372036854775808e", NumberOverflow),
        (b"i-9223372036854775809e", NumberOverflow),
        (b"01:a", NumberSpelling),
        (b"2:a", UnexpectedEnd),
        (b"1", UnexpectedEnd),
        (b"e", UnexpectedByte),
        (b"l", UnexpectedEnd),
        (b"di1ei2ee", KeyNotString),
        (b"d1:ae", UnexpectedByte),
        (b"x", UnexpectedByte),
    ];
    for (input, want) in table {
        assert_eq!(kind(input), Some(want), "{}", input.escape_ascii());
    }
    for edge in [
        "i9223372036854775807e",
        "i-9223372036854775808e",
        "i0e",
        "0:",
        "le",
        "de",
    ] {
        assert_eq!(kind(edge.as_bytes()), None, "{edge}");
    }
}

#[test]
fn a8_deep_recursion_is_an_error() {
    assert_eq!(kind(&b"l".repeat(1024)), Some(ErrorKind::TooDeep));
    assert_eq!(kind(&b"l".repeat(10 << 20)), Some(ErrorKind::TooDeep));
    assert_eq!(kind(&b"d0:".repeat(3 << 20)), Some(ErrorKind::TooDeep));
    let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
    assert_eq!(kind(&nested(64)), None);
    assert_eq!(kind(&nested(65)), Some(ErrorKind::TooDeep));
}

#[test]
fn a9_lying_string_lengths_are_an_error() {
    assert_eq!(kind(b"99999999:x"), Some(ErrorKind::StringTooLong));
    assert_eq!(kind(b"1048576:x"), Some(ErrorKind::UnexpectedEnd));
    assert_eq!(
        kind(b"18446744073709551615:x"),
        Some(ErrorKind::StringTooLong)
    );
    assert_eq!(
        kind(b"18446744073709551616:x"),
        Some(ErrorKind::NumberOverflow)
    );
    assert_eq!(kind(&b"9".repeat(1 << 20)), Some(ErrorKind::NumberOverflow));
}

#[test]
fn a10_a_token_bomb_is_an_error() {
    let bomb = [b"l", &b"0:".repeat(5 << 20)[..], b"e"].concat();
    let error = Document::parse(&bomb, &Limits::default()).expect_err("a bomb");
    assert_eq!(
        (error.kind, error.at),
        (ErrorKind::TooManyTokens, 1 + 2 * 65_535)
    );
}

#[test]
fn a11_duplicate_keys_are_an_error_and_unordered_ones_are_read() {
    assert_eq!(kind(b"d1:ai1e1:ai2ee"), Some(ErrorKind::DuplicateKey));
    assert_eq!(kind(b"d1:bi1e1:ai2e1:bi3ee"), Some(ErrorKind::DuplicateKey));
    assert_eq!(kind(b"d1:ci1e1:ad1:ci2e1:bi0ee1:bi3ee"), None);
    let strict = |input| {
        Document::parse(input, &Limits::strict())
            .err()
            .map(|error| error.kind)
    };
    assert_eq!(strict(b"d1:bi1e1:ai2ee"), Some(ErrorKind::UnsortedKeys));
    assert_eq!(strict(b"d1:ai1e1:ai2ee"), Some(ErrorKind::DuplicateKey));
    assert_eq!(strict(b"d1:ai1e1:bi2ee"), None);
}

/// The same document by bendy, which is always strict. None: refused, or an integer we do not hold.
fn by_bendy(input: &[u8]) -> Option<Item> {
    fn walk(object: Object<'_, '_>) -> Option<Item> {
        match object {
            Object::Integer(text) => text.parse().ok().map(Item::Int),
            Object::Bytes(bytes) => Some(Item::bytes(bytes)),
            Object::List(mut list) => {
                let mut items = Vec::new();
                while let Some(object) = list.next_object().ok()? {
                    items.push(walk(object)?);
                }
                Some(Item::List(items))
            }
            Object::Dict(mut dict) => {
                let mut entries = BTreeMap::new();
                while let Some((key, object)) = dict.next_pair().ok()? {
                    entries.insert(key.to_vec(), walk(object)?);
                }
                Some(Item::Dict(entries))
            }
        }
    }
    let mut decoder = Decoder::new(input).with_max_depth(64);
    let item = walk(decoder.next_object().ok()??)?;
    decoder.next_object().ok()?.is_none().then_some(item)
}

fn by_us(input: &[u8]) -> Option<Item> {
    Document::parse(input, &Limits::strict())
        .ok()
        .map(|document| item(document.root()))
}

fn any_item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Item::Int),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Item::Bytes(Bytes::from(bytes))),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Item::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..4), inner, 0..6)
                .prop_map(Item::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn round_trips_and_bendy_agrees(tree in any_item()) {
        let bytes = tree.encode();
        prop_assert_eq!(by_us(&bytes), Some(tree.clone()));
        prop_assert_eq!(by_bendy(&bytes), Some(tree));
    }

    #[test]
    fn bendy_agrees_on_damaged_documents(tree in any_item(), at: prop::sample::Index, byte in prop::sample::select(&b"0123456789ilde:-a"[..]), cut: bool) {
        let mut bytes = tree.encode();
        let at = at.index(bytes.len());
        if cut { bytes.remove(at); } else { bytes[at] = byte; }
        prop_assert_eq!(by_us(&bytes), by_bendy(&bytes), "{}", bytes.escape_ascii());
    }

    #[test]
    fn bendy_agrees_on_soup(soup in "[0-3ilde:\\-]{0,12}") {
        prop_assert_eq!(by_us(soup.as_bytes()), by_bendy(soup.as_bytes()), "{}", soup);
    }
}
