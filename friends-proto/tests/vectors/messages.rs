//! `messages.json`: one message of every type, the ends of their ranges, and bytes that are ignored or end a session.

use std::net::SocketAddr;

use bt_wire::bencode::{Document, Item, Limits, Value};
use friends_proto::identity::Signature;
use friends_proto::message::{
    AnnounceUrl, Arrived, Ask, Bye, ByeReason, Decline, DeclineReason, DecodeError, Deliveries,
    Fetching, Hello, HelpId, IouBytes, Message, Meta, MetaAsk, MetaNone, NewIou, Offer, PieceSet,
    Progress, Release, Reserve, Stop, StopReason, Sync, TorrentHash,
};
use serde::{Deserialize, Serialize};

use crate::support::{ALICE, BOB, hex, key, read, signed, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    /// Read and written.
    messages: Vec<Case>,
    /// `then` says what the receiver does: `ignore` the message, or `end` the session.
    refused: Vec<Refused>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    fields: Vec<Field>,
    bytes: String,
}

/// A key of the dictionary, `m` included. Integers are decimal, byte strings hex.
#[derive(Serialize, Deserialize)]
struct Field {
    key: String,
    #[serde(flatten)]
    value: Shown,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shown {
    Integer(String),
    Bytes(String),
    List(Vec<String>),
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    bytes: String,
    then: String,
}

fn url(text: &str) -> AnnounceUrl {
    AnnounceUrl::new(text).expect("printable")
}

fn endpoint(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

fn pieces(start: u32, bitmap: &[u8]) -> PieceSet {
    PieceSet::new(start, bitmap.to_vec()).expect("within limits")
}

fn iou(creditor: &[u8; 32], debtor: &[u8; 32], total: u64) -> IouBytes {
    IouBytes::new(signed(creditor, debtor, total).encode()).expect("short")
}

fn opening() -> Vec<(&'static str, Message)> {
    let mut signature = Signature([0x5a; 64]);
    signature.0[63] = 0;
    let hello = |chosen, highest| {
        Message::Hello(Hello {
            key: *key(&ALICE).as_bytes(),
            signature,
            lowest: 1,
            highest,
            chosen,
        })
    };
    let sync = |credit, debt| Message::Sync(Sync { credit, debt });
    let new = |total, help| {
        let iou = iou(&BOB, &ALICE, total);
        Message::Iou(NewIou { iou, help })
    };
    let bye = |why| Message::Bye(Bye { why });
    vec![
        ("hello of an opener", hello(None, 1)),
        ("hello of an acceptor", hello(Some(1), 255)),
        ("sync of strangers to each other", sync(None, None)),
        (
            "sync with both",
            sync(
                Some(iou(&ALICE, &BOB, 1_048_576)),
                Some(iou(&BOB, &ALICE, 0)),
            ),
        ),
        (
            "sync with a debt alone",
            sync(None, Some(iou(&BOB, &ALICE, 7))),
        ),
        ("iou for a help", new(4_194_304, Some(HelpId(8)))),
        (
            "iou for none, with the largest total",
            new(i64::MAX.unsigned_abs(), None),
        ),
        ("bye, leaving", bye(ByeReason::Leaving)),
        ("bye, another session stays", bye(ByeReason::Duplicate)),
        ("bye, other", bye(ByeReason::Other)),
    ]
}

fn asks() -> Vec<(&'static str, Message)> {
    let (id, v1) = (HelpId(8), TorrentHash::V1([0x11; 20]));
    let (v4, v6) = (
        endpoint("198.51.100.1:6881"),
        endpoint("[2001:db8::7]:51413"),
    );
    let ask = Ask {
        id,
        torrent: v1,
        size: 134_217_728,
        piece_length: 262_144,
        want: 100_000_000,
        master: vec![v4, v6],
        deliveries: Deliveries(0x0f),
        private: false,
        trackers: vec![],
    };
    let announced = Ask {
        trackers: vec![
            url("http://tracker.example:6969/announce"),
            url("udp://[2001:db8::7]:1337"),
        ],
        ..ask.clone()
    };
    let longest = Ask {
        trackers: vec![url(&"u".repeat(512)); 4],
        ..ask.clone()
    };
    let largest = Ask {
        id: HelpId(u32::MAX),
        torrent: TorrentHash::V2([0x22; 32]),
        size: i64::MAX.unsigned_abs(),
        piece_length: 1 << 29,
        want: i64::MAX.unsigned_abs(),
        master: vec![v6; 8],
        deliveries: Deliveries::RPC.or(Deliveries::RELAYED),
        private: true,
        trackers: vec![],
    };
    vec![
        ("ask", Message::Ask(ask)),
        ("ask with trackers", Message::Ask(announced)),
        ("ask with the longest trackers", Message::Ask(longest)),
        (
            "ask, at the largest, of a private v2 torrent",
            Message::Ask(largest),
        ),
    ]
}

fn beginning() -> Vec<(&'static str, Message)> {
    let (id, v1) = (HelpId(8), TorrentHash::V1([0x11; 20]));
    let (v4, v6) = (
        endpoint("198.51.100.1:6881"),
        endpoint("[2001:db8::7]:51413"),
    );
    let offer = |rate, room, at: &[SocketAddr]| {
        Message::Offer(Offer {
            id,
            rate,
            room,
            deliveries: Deliveries(0x0a),
            at: at.to_vec(),
        })
    };
    let decline = |why| Message::Decline(Decline { id, why });
    vec![
        ("offer of a helper that cannot be reached", offer(1, 1, &[])),
        ("offer", offer(1 << 40, 67_108_864, &[v4, v6])),
        ("decline, busy", decline(DeclineReason::Busy)),
        ("decline, refused", decline(DeclineReason::Refused)),
        (
            "meta-ask",
            Message::MetaAsk(MetaAsk {
                torrent: v1,
                offset: 15_360,
            }),
        ),
        (
            "meta, the last part",
            Message::Meta(Meta {
                torrent: v1,
                offset: 15_360,
                size: 15_363,
                data: b"end".to_vec(),
            }),
        ),
        ("meta-none", Message::MetaNone(MetaNone { torrent: v1 })),
    ]
}

fn course() -> Vec<(&'static str, Message)> {
    let id = HelpId(8);
    let progress = |held, delivered, bytes| {
        Message::Progress(Progress {
            id,
            held,
            delivered,
            bytes,
        })
    };
    let fetching = |now, next| Message::Fetching(Fetching { id, now, next });
    let arrived = |from: &str| {
        Message::Arrived(Arrived {
            id,
            from: endpoint(from),
        })
    };
    let stop = |why| Message::Stop(Stop { id, why });
    vec![
        (
            "reserve of piece 0",
            Message::Reserve(Reserve {
                id,
                pieces: pieces(0, &[0x80]),
            }),
        ),
        (
            "reserve of pieces 8, 9 and 23",
            Message::Reserve(Reserve {
                id,
                pieces: pieces(8, &[0xc0, 0x01]),
            }),
        ),
        (
            "release of the last piece there can be",
            Message::Release(Release {
                id,
                pieces: pieces(u32::MAX - 7, &[0x01]),
            }),
        ),
        ("progress without news", progress(None, None, 0)),
        (
            "progress",
            progress(Some(pieces(8, &[0x80])), Some(pieces(0, &[0x80])), 262_144),
        ),
        (
            "fetching, and nothing to begin",
            fetching(Some(pieces(8, &[0x40])), None),
        ),
        (
            "fetching",
            fetching(Some(pieces(8, &[0x40])), Some(pieces(16, &[0x88]))),
        ),
        ("arrived, IPv4", arrived("198.51.100.1:40000")),
        ("arrived, IPv6", arrived("[2001:db8::7]:40000")),
        ("stop, done", stop(StopReason::Done)),
        ("stop, no help of this id", stop(StopReason::UnknownId)),
        ("stop, refused", stop(StopReason::Refused)),
    ]
}

fn shown(bytes: &[u8]) -> Vec<Field> {
    let document = Document::parse(bytes, &Limits::strict()).expect("canonical");
    let dict = document.root().as_dict().expect("a dictionary");
    dict.iter()
        .map(|(name, node)| Field {
            key: String::from_utf8(name.to_vec()).expect("ASCII"),
            value: match node.value() {
                Value::Int(value) => Shown::Integer(value.to_string()),
                Value::Bytes(bytes) => Shown::Bytes(hex(bytes)),
                Value::List(list) => Shown::List(
                    list.iter()
                        .map(|entry| hex(entry.as_bytes().expect("byte strings")))
                        .collect(),
                ),
                Value::Dict(_) => panic!("no message nests dictionaries"),
            },
        })
        .collect()
}

fn item(value: &Shown) -> Item {
    match value {
        Shown::Integer(text) => Item::Int(text.parse().expect("a decimal")),
        Shown::Bytes(text) => Item::bytes(unhex(text)),
        Shown::List(list) => Item::List(list.iter().map(|text| Item::bytes(unhex(text))).collect()),
    }
}

/// Dictionaries that are canonical and yet not as their type demands.
fn ignored() -> Vec<(&'static str, Vec<u8>)> {
    let int = Item::Int;
    let stop = |id, why| Item::dict([("m", Item::from("stop")), ("id", id), ("why", why)]).encode();
    let arrived = |from: &[u8]| {
        let from = Item::bytes(from);
        Item::dict([("m", Item::from("arrived")), ("id", int(8)), ("from", from)]).encode()
    };
    let reserve = |set: &[u8]| {
        let set = Item::bytes(set);
        Item::dict([
            ("m", Item::from("reserve")),
            ("id", int(8)),
            ("pieces", set),
        ])
        .encode()
    };
    let meta = |off, size, data: &[u8]| {
        Item::dict([
            ("m", Item::from("meta")),
            ("ih", Item::bytes([0x11; 20])),
            ("off", int(off)),
            ("size", int(size)),
            ("data", Item::bytes(data)),
        ])
        .encode()
    };
    let iou = |length| {
        Item::dict([
            ("m", Item::from("iou")),
            ("iou", Item::bytes(vec![1; length])),
        ])
        .encode()
    };
    let mapped = unhex("00000000000000000000ffffc63364011ae1");
    vec![
        ("an unknown type", b"d1:m7:novelty1:xi1ee".to_vec()),
        ("a field missing", b"d2:idi8e1:m4:stope".to_vec()),
        ("a field of another type", stop(Item::from("8"), int(0))),
        ("an id below 0", stop(int(-1), int(0))),
        ("an id of 2^32", stop(int(1 << 32), int(0))),
        ("a reason over 255", stop(int(8), int(256))),
        ("an endpoint of 7 bytes", arrived(&[1; 7])),
        ("an endpoint with port 0", arrived(&[198, 51, 100, 1, 0, 0])),
        ("an IPv4 endpoint written as IPv6", arrived(&mapped)),
        ("a set of pieces without a bitmap", reserve(&[0; 4])),
        (
            "a set of pieces with 4,097 bytes of bitmap",
            reserve(&[0; 4 + 4097]),
        ),
        (
            "a set that ends past piece 2^32 - 1",
            reserve(&[0xff, 0xff, 0xff, 0xf9, 1]),
        ),
        ("an offset between two parts", meta(1, 15_363, &[0; 15_360])),
        ("an offset at the end", meta(15_360, 15_360, b"")),
        ("too little data", meta(15_360, 15_363, b"en")),
        ("too much data", meta(15_360, 15_363, b"end!")),
        (
            "an info dictionary over 2^24 bytes",
            meta(15_360, (1 << 24) + 1, &[0; 15_360]),
        ),
        ("an empty IOU", iou(0)),
        ("an IOU of 513 bytes", iou(513)),
    ]
}

fn ignored_asks() -> Vec<(&'static str, Vec<u8>)> {
    let int = Item::Int;
    let ask = |urls: &[&str]| {
        Item::dict([
            ("m", Item::from("ask")),
            ("id", int(8)),
            ("ih", Item::bytes([0x11; 20])),
            ("size", int(1000)),
            ("pl", int(100)),
            ("want", int(1000)),
            ("by", int(8)),
            ("tr", Item::List(urls.iter().map(Item::bytes).collect())),
        ])
        .encode()
    };
    vec![
        ("five trackers", ask(&["http://t/announce"; 5])),
        ("an empty tracker", ask(&[""])),
        ("a tracker of 513 bytes", ask(&[&"u".repeat(513)])),
        ("a tracker with a space", ask(&["http://t/ announce"])),
        (
            "a tracker that is not ASCII",
            ask(&["http://t\u{e4}/announce"]),
        ),
    ]
}

/// A dictionary with this many values and keys in all, `m` included.
fn crowd(tokens: usize) -> Vec<u8> {
    // The dictionary, `m`, its value, `x`, its list.
    let list = Item::List(vec![Item::Int(0); tokens - 5]);
    Item::dict([("m", Item::from("novelty")), ("x", list)]).encode()
}

/// A dictionary with lists in it, `depth` levels in all.
fn deep(depth: usize) -> Vec<u8> {
    let (open, close) = ("l".repeat(depth - 1), "e".repeat(depth - 1));
    format!("d1:m7:novelty1:x{open}{close}e").into_bytes()
}

/// A dictionary of this many bytes in all.
fn long(bytes: usize) -> Vec<u8> {
    let mut text = b"d1:m7:novelty1:x".to_vec();
    let rest = bytes - text.len() - 1;
    let digits = (rest - 6).to_string();
    text.extend(format!("{digits}:").bytes());
    text.resize(bytes - 1, b'x');
    text.push(b'e');
    text
}

fn ending() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", vec![]),
        ("a list", b"le".to_vec()),
        ("no type", b"d1:xi1ee".to_vec()),
        ("a type that is no byte string", b"d1:mi1ee".to_vec()),
        ("keys not rising", b"d3:whyi0e1:m3:byee".to_vec()),
        ("a key twice", b"d1:m3:bye1:m3:byee".to_vec()),
        (
            "an integer with a needless zero",
            b"d1:m3:bye3:whyi00ee".to_vec(),
        ),
        ("minus zero", b"d1:m3:bye3:whyi-0ee".to_vec()),
        (
            "a length with a needless zero",
            b"d1:m03:bye3:whyi0ee".to_vec(),
        ),
        (
            "an integer of 2^63",
            b"d1:m3:bye3:whyi9223372036854775808ee".to_vec(),
        ),
        ("bytes behind it", b"d1:m3:bye3:whyi0eee".to_vec()),
        ("an end too soon", b"d1:m3:bye3:whyi0e".to_vec()),
        ("a length past the end", b"d1:m3:bye3:why99:xe".to_vec()),
        ("nine levels", deep(9)),
        ("1,025 values and keys", crowd(1025)),
        ("16,385 bytes", long(16_385)),
    ]
}

/// What is just within, and of an unknown type: ignored.
fn just_within() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("eight levels", deep(8)),
        ("1,024 values and keys", crowd(1024)),
        ("16,384 bytes", long(16_384)),
    ]
}

pub(crate) fn generate() -> String {
    let refused = |cases: Vec<(&str, Vec<u8>)>, then: &str| {
        let case = |(name, bytes): (&str, Vec<u8>)| Refused {
            name: name.into(),
            bytes: hex(bytes),
            then: then.into(),
        };
        cases.into_iter().map(case).collect::<Vec<_>>()
    };
    text(&File {
        subject: "messages".into(),
        spec: "friends.md".into(),
        messages: [opening(), asks(), beginning(), course()]
            .concat()
            .into_iter()
            .map(|(name, message)| Case {
                name: name.into(),
                fields: shown(&message.encode()),
                bytes: hex(message.encode()),
            })
            .collect(),
        refused: [
            refused(ignored(), "ignore"),
            refused(ignored_asks(), "ignore"),
            refused(just_within(), "ignore"),
            refused(ending(), "end"),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

//= spec/friends.md#message-canonical
//= spec/friends.md#message-unknown
//= spec/friends.md#message-field
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.messages {
        let bytes = unhex(&case.bytes);
        let fields = case
            .fields
            .iter()
            .map(|field| (&field.key, item(&field.value)));
        assert_eq!(Item::dict(fields).encode(), bytes, "{}", case.name);
        let message = Message::decode(&bytes).expect(&case.name);
        assert_eq!(message.encode(), bytes, "{}", case.name);
    }
    for case in &file.refused {
        let then = match Message::decode(&unhex(&case.bytes)) {
            Ok(_) => "take",
            Err(DecodeError::Ignore(_)) => "ignore",
            Err(DecodeError::End(_)) => "end",
        };
        assert_eq!(then, case.then, "{}", case.name);
    }
}
