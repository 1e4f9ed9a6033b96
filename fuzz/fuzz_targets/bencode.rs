//! Any bytes: no panic; what is read raw reads the same again; what passes the strict rules is its own canonical form.
#![no_main]

use bt_wire::bencode::{Document, Item, Limits, Node, Value};
use libfuzzer_sys::fuzz_target;

fn item(node: Node<'_>) -> Item {
    match node.value() {
        Value::Int(value) => Item::Int(value),
        Value::Bytes(bytes) => Item::bytes(bytes),
        Value::List(list) => Item::List(list.iter().map(item).collect()),
        Value::Dict(dict) => Item::dict(dict.iter().map(|(key, value)| (key, item(value)))),
    }
}

fuzz_target!(|data: &[u8]| {
    let lenient = Document::parse_prefix(data, &Limits::default());
    let Ok((document, rest)) = lenient else {
        assert!(Document::parse(data, &Limits::strict()).is_err(), "strict is no laxer");
        return;
    };
    let raw = document.root().raw();
    assert_eq!(raw.len() + rest.len(), data.len());
    let tree = item(document.root());
    let again = tree.encode();
    let canonical = Document::parse(&again, &Limits::strict()).expect("what we write is canonical");
    assert_eq!(item(canonical.root()), tree);
    if Document::parse(raw, &Limits::strict()).is_ok() {
        assert_eq!(again, raw, "one spelling only");
    }
});
