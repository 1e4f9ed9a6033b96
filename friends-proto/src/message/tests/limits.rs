//! Every field at the ends of its range, and just past them.

use super::*;

/// Type, field, the last values within its range, the first ones outside.
type Row = (&'static str, &'static str, Vec<Item>, Vec<Item>);

fn ints(values: &[i64]) -> Vec<Item> {
    values.iter().copied().map(Item::Int).collect()
}

/// Byte strings of these lengths.
fn lengths(values: &[usize]) -> Vec<Item> {
    values
        .iter()
        .map(|&length| Item::bytes(vec![1; length]))
        .collect()
}

fn endpoints(count: usize) -> Item {
    Item::List(vec![Item::bytes([198, 51, 100, 1, 0x1a, 0xe1]); count])
}

fn opening() -> Vec<Row> {
    let iou = || (lengths(&[1, 512]), lengths(&[0, 513]));
    let with = |name, field, (good, bad)| (name, field, good, bad);
    vec![
        ("hello", "key", vec![], lengths(&[31, 33])),
        ("hello", "sig", vec![], lengths(&[63, 65])),
        ("hello", "lowest", ints(&[1, 2]), ints(&[0, -1, 3, 256])),
        ("hello", "highest", ints(&[1, 255]), ints(&[0, 256])),
        ("hello", "chosen", ints(&[1, 255]), ints(&[0, 256])),
        with("sync", "credit", iou()),
        with("sync", "debt", iou()),
        with("iou", "iou", iou()),
        ("bye", "why", ints(&[0, 255]), ints(&[-1, 256])),
    ]
}

fn beginning() -> Vec<Row> {
    let (max, ids) = (i64::MAX, 0xffff_ffff);
    let odd = Item::List(lengths(&[7]));
    vec![
        ("ask", "id", ints(&[0, ids]), ints(&[-1, ids + 1])),
        ("ask", "ih", lengths(&[20, 32]), lengths(&[19, 21, 33])),
        ("ask", "size", ints(&[1000, max]), ints(&[0, -1])),
        ("ask", "pl", ints(&[1, 1 << 29]), ints(&[0, (1 << 29) + 1])),
        ("ask", "want", ints(&[1, 1000]), ints(&[0, 1001])),
        (
            "ask",
            "to",
            vec![endpoints(0), endpoints(8)],
            vec![endpoints(9), odd],
        ),
        ("ask", "by", ints(&[0, 255]), ints(&[-1, 256])),
        ("ask", "private", ints(&[0, 1]), ints(&[-1, 2])),
        (
            "offer",
            "rate",
            ints(&[1, 1 << 40]),
            ints(&[0, (1 << 40) + 1]),
        ),
        ("offer", "room", ints(&[1, max]), ints(&[0, -1])),
        (
            "offer",
            "at",
            vec![endpoints(0), endpoints(4)],
            vec![endpoints(5)],
        ),
        ("decline", "why", ints(&[0, 255]), ints(&[-1, 256])),
        (
            "meta-ask",
            "off",
            ints(&[0, 15_360, 16_773_120]),
            ints(&[1, 15_361, 16_788_480, -1]),
        ),
        ("meta", "off", vec![], ints(&[0, 1, 30_720])),
        (
            "meta",
            "size",
            ints(&[15_363]),
            ints(&[0, (16 << 20) + 1, 15_360]),
        ),
        ("meta", "data", lengths(&[3]), lengths(&[2, 4])),
    ]
}

fn course() -> Vec<Row> {
    let mapped = Item::bytes([
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 1, 0x1a, 0xe1,
    ]);
    let no_port = Item::bytes([198, 51, 100, 1, 0, 0]);
    let past_the_last = Item::bytes([0xff, 0xff, 0xff, 0xf9, 1]);
    vec![
        (
            "reserve",
            "pieces",
            lengths(&[5, 4100]),
            lengths(&[4, 4101]),
        ),
        ("progress", "held", lengths(&[5, 4100]), lengths(&[4, 4101])),
        (
            "progress",
            "delivered",
            lengths(&[5, 4100]),
            lengths(&[4, 4101]),
        ),
        ("progress", "bytes", ints(&[0, i64::MAX]), ints(&[-1])),
        ("release", "pieces", lengths(&[5]), vec![past_the_last]),
        ("arrived", "from", lengths(&[6, 18]), vec![mapped, no_port]),
        ("arrived", "from", vec![], lengths(&[5, 7, 17, 19])),
        ("stop", "why", ints(&[0, 255]), ints(&[-1, 256])),
    ]
}

#[test]
//= spec/friends.md#message-field
fn p24_every_limit_is_kept() {
    for (name, field, good, bad) in [opening(), beginning(), course()].concat() {
        let message = example(name);
        for value in good {
            let read = Message::decode(&changed(&message, field, Some(value.clone())));
            assert!(read.is_ok(), "{name}.{field} = {value:?}: {read:?}");
        }
        for value in bad {
            let read = Message::decode(&changed(&message, field, Some(value.clone())));
            let Err(DecodeError::Ignore(MessageError::Field { fault, .. })) = read else {
                panic!("{name}.{field} = {value:?}: {read:?}")
            };
            assert_eq!(fault, Fault::Range, "{name}.{field} = {value:?}");
        }
    }
}
