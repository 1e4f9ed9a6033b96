//! Friends' messages, and the field that friends recognise each other by: no panic, limits hold, and what is read is
//! written and read back the same.
#![no_main]

use bt_wire::bencode::{Document, Item, Limits};
use friends_proto::message::{MAX_MESSAGE, Message, PieceSet};
use friends_proto::recognition::{FIELD, Recognition};
use libfuzzer_sys::fuzz_target;

fn message(data: &[u8]) {
    let Ok(read) = Message::decode(data) else { return };
    let bytes = read.encode();
    assert!(bytes.len() <= MAX_MESSAGE);
    if let Message::Reserve(reserve) = &read {
        let sets = PieceSet::cover(reserve.pieces.pieces());
        assert!(sets.iter().flat_map(PieceSet::pieces).eq(reserve.pieces.pieces()));
    }
    assert_eq!(Message::decode(&bytes), Ok(read));
}

fn recognition(data: &[u8]) {
    let Ok(document) = Document::parse(data, &Limits::default()) else { return };
    let Some(read) = document.root().as_dict().and_then(Recognition::read) else { return };
    let bytes = Item::dict([(FIELD, read.item())]).encode();
    let again = Document::parse(&bytes, &Limits::strict()).expect("ours");
    assert_eq!(again.root().as_dict().and_then(Recognition::read), Some(read));
}

fuzz_target!(|data: &[u8]| {
    message(data);
    recognition(data);
});
