use std::collections::BTreeMap;
use std::net::SocketAddr;

use bt_wire::bencode::Value;
use proptest::prelude::*;

use super::*;
use crate::identity::Signature;

mod limits;

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), 1_u16..).prop_map(SocketAddr::from);
    let v6 = (any::<[u8; 16]>(), 1_u16..)
        .prop_map(SocketAddr::from)
        .prop_filter("no IPv4 in disguise", |addr| {
            addr.ip().to_canonical().is_ipv6()
        });
    prop_oneof![v4, v6]
}

fn id() -> impl Strategy<Value = HelpId> {
    any::<u32>().prop_map(HelpId)
}

fn torrent() -> impl Strategy<Value = TorrentHash> {
    prop_oneof![
        any::<[u8; 20]>().prop_map(TorrentHash::V1),
        any::<[u8; 32]>().prop_map(TorrentHash::V2),
    ]
}

fn pieces() -> impl Strategy<Value = PieceSet> {
    (
        0..u32::MAX - 8 * 4096,
        prop::collection::vec(any::<u8>(), 1..=MAX_BITMAP),
    )
        .prop_map(|(start, bitmap)| PieceSet::new(start, bitmap).expect("within limits"))
}

fn signed_iou() -> impl Strategy<Value = IouBytes> {
    prop::collection::vec(any::<u8>(), 1..=MAX_IOU_FIELD)
        .prop_map(|bytes| IouBytes::new(bytes).expect("within limits"))
}

fn hello() -> impl Strategy<Value = Message> {
    let signature = (any::<[u8; 32]>(), any::<[u8; 32]>());
    let versions = (1_u8..=255, 1_u8..=255, prop::option::of(1_u8..=255));
    (any::<[u8; 32]>(), signature, versions).prop_map(|(key, (r, s), (a, b, chosen))| {
        let mut signature = Signature([0; 64]);
        signature.0[..32].copy_from_slice(&r);
        signature.0[32..].copy_from_slice(&s);
        Message::Hello(Hello {
            key,
            signature,
            lowest: a.min(b),
            highest: a.max(b),
            chosen,
        })
    })
}

fn ask() -> impl Strategy<Value = Message> {
    let bytes = (1..=MAX_TOTAL, any::<u64>(), 1..=MAX_PIECE_LENGTH);
    let master = prop::collection::vec(endpoint(), 0..=MAX_MASTER_ENDPOINTS);
    let url = proptest::string::string_regex("[!-~]{1,512}").expect("a pattern");
    let url = url.prop_map(|url| AnnounceUrl::new(&url).expect("printable"));
    let trackers = prop::collection::vec(url, 0..=MAX_TRACKERS);
    let flags = (any::<u8>(), any::<bool>());
    (id(), torrent(), bytes, master, flags, trackers).prop_map(
        |(id, torrent, (size, want, piece_length), master, (by, private), trackers)| {
            Message::Ask(Ask {
                id,
                torrent,
                size,
                piece_length,
                want: want % size + 1,
                master,
                deliveries: Deliveries(by),
                private,
                trackers,
            })
        },
    )
}

fn offer() -> impl Strategy<Value = Message> {
    let at = prop::collection::vec(endpoint(), 0..=MAX_HELPER_ENDPOINTS);
    (id(), 1..=MAX_RATE, 1..=MAX_TOTAL, any::<u8>(), at).prop_map(|(id, rate, room, by, at)| {
        Message::Offer(Offer {
            id,
            rate,
            room,
            deliveries: Deliveries(by),
            at,
        })
    })
}

fn meta() -> impl Strategy<Value = Message> {
    (torrent(), 1..=MAX_META, any::<u32>()).prop_map(|(torrent, size, part)| {
        let offset = part % size.div_ceil(META_PART) * META_PART;
        let length = (size - offset).min(META_PART);
        Message::Meta(Meta {
            torrent,
            offset,
            size,
            data: vec![0xa5; length as usize],
        })
    })
}

fn progress() -> impl Strategy<Value = Message> {
    let sets = (prop::option::of(pieces()), prop::option::of(pieces()));
    (id(), sets, 0..=MAX_TOTAL).prop_map(|(id, (held, delivered), bytes)| {
        Message::Progress(Progress {
            id,
            held,
            delivered,
            bytes,
        })
    })
}

fn fetching() -> impl Strategy<Value = Message> {
    let sets = (prop::option::of(pieces()), prop::option::of(pieces()));
    (id(), sets).prop_map(|(id, (now, next))| Message::Fetching(Fetching { id, now, next }))
}

fn short() -> impl Strategy<Value = Message> {
    use {ByeReason as B, DeclineReason as D, StopReason as S};
    let declines = [
        D::Busy,
        D::NoRoom,
        D::Private,
        D::NoDelivery,
        D::Credit,
        D::Refused,
    ];
    let stops = [
        S::Done,
        S::UnknownId,
        S::Unpaid,
        S::NoDelivery,
        S::Leaving,
        S::Refused,
    ];
    let byes = [
        B::Leaving,
        B::Duplicate,
        B::NotAFriend,
        B::Exhausted,
        B::Other,
    ];
    prop_oneof![
        (id(), prop::sample::select(declines.to_vec()))
            .prop_map(|(id, why)| Message::Decline(Decline { id, why })),
        (id(), prop::sample::select(stops.to_vec()))
            .prop_map(|(id, why)| Message::Stop(Stop { id, why })),
        prop::sample::select(byes.to_vec()).prop_map(|why| Message::Bye(Bye { why })),
        (torrent(), 0..MAX_META / META_PART).prop_map(|(torrent, part)| {
            let offset = part * META_PART;
            Message::MetaAsk(MetaAsk { torrent, offset })
        }),
        torrent().prop_map(|torrent| Message::MetaNone(MetaNone { torrent })),
        (id(), endpoint()).prop_map(|(id, from)| Message::Arrived(Arrived { id, from })),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let ious = (
        prop::option::of(signed_iou()),
        prop::option::of(signed_iou()),
    );
    prop_oneof![
        hello(),
        ious.prop_map(|(credit, debt)| Message::Sync(Sync { credit, debt })),
        ask(),
        offer(),
        meta(),
        progress(),
        fetching(),
        (signed_iou(), prop::option::of(id()))
            .prop_map(|(iou, help)| Message::Iou(NewIou { iou, help })),
        (id(), pieces()).prop_map(|(id, pieces)| Message::Reserve(Reserve { id, pieces })),
        (id(), pieces()).prop_map(|(id, pieces)| Message::Release(Release { id, pieces })),
        short(),
    ]
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= MAX_MESSAGE, "{} bytes", bytes.len());
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn a_cut_or_longer_message_ends_the_session(message in message(), cut: prop::sample::Index) {
        let mut bytes = message.encode();
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(matches!(Message::decode(cut), Err(DecodeError::End(_))));
        bytes.push(b'e');
        prop_assert!(matches!(Message::decode(&bytes), Err(DecodeError::End(_))));
    }

    #[test]
    fn what_is_read_of_a_flipped_message_is_written_the_same(message in message(), at: prop::sample::Index, to: u8) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&read.encode()), Ok(read));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Message::decode(&bytes);
    }
}

/// The dictionary of `message` with `field` set to `value`, or taken out.
fn changed(message: &Message, field: &str, value: Option<Item>) -> Vec<u8> {
    let bytes = message.encode();
    let document = Document::parse(&bytes, &Limits::strict()).expect("ours");
    let Value::Dict(dict) = document.root().value() else {
        panic!("a dictionary")
    };
    let mut entries: BTreeMap<Vec<u8>, Item> = dict
        .iter()
        .map(|(key, node)| (key.to_vec(), Item::Raw(node.raw().to_vec().into())))
        .collect();
    entries.remove(field.as_bytes());
    entries.extend(value.map(|value| (field.as_bytes().to_vec(), value)));
    Item::Dict(entries).encode()
}

fn examples() -> Vec<Message> {
    let mut all = examples_before_pieces();
    all.extend(examples_of_pieces());
    all
}

fn examples_before_pieces() -> Vec<Message> {
    let (id, torrent) = (HelpId(7), TorrentHash::V1([0x11; 20]));
    let from = SocketAddr::from(([198, 51, 100, 1], 6881));
    let iou = IouBytes::new(vec![0xab; 130]).expect("within limits");
    vec![
        Message::Hello(Hello {
            key: [1; 32],
            signature: Signature([2; 64]),
            lowest: 1,
            highest: 2,
            chosen: Some(1),
        }),
        Message::Sync(Sync {
            credit: Some(iou.clone()),
            debt: Some(iou),
        }),
        Message::Ask(Ask {
            id,
            torrent,
            size: 1000,
            piece_length: 100,
            want: 1000,
            master: vec![from],
            deliveries: Deliveries::RPC.or(Deliveries::RELAYED),
            private: true,
            trackers: vec![AnnounceUrl::new("http://t/announce").expect("printable")],
        }),
        Message::Offer(Offer {
            id,
            rate: 1,
            room: 1,
            deliveries: Deliveries::DIALLED,
            at: vec![from],
        }),
        Message::Decline(Decline {
            id,
            why: DeclineReason::Busy,
        }),
        Message::MetaAsk(MetaAsk { torrent, offset: 0 }),
        Message::Meta(Meta {
            torrent,
            offset: META_PART,
            size: META_PART + 3,
            data: b"abc".to_vec(),
        }),
        Message::MetaNone(MetaNone { torrent }),
    ]
}

fn examples_of_pieces() -> Vec<Message> {
    let id = HelpId(7);
    let from = SocketAddr::from(([198, 51, 100, 1], 6881));
    let iou = IouBytes::new(vec![0xab; 130]).expect("within limits");
    let pieces = PieceSet::new(0, vec![0x80]).expect("piece 0");
    vec![
        Message::Reserve(Reserve {
            id,
            pieces: pieces.clone(),
        }),
        Message::Progress(Progress {
            id,
            held: Some(pieces.clone()),
            delivered: Some(pieces.clone()),
            bytes: 0,
        }),
        Message::Fetching(Fetching {
            id,
            now: Some(pieces.clone()),
            next: Some(pieces.clone()),
        }),
        Message::Iou(NewIou {
            iou,
            help: Some(id),
        }),
        Message::Release(Release { id, pieces }),
        Message::Arrived(Arrived { id, from }),
        Message::Stop(Stop {
            id,
            why: StopReason::Done,
        }),
        Message::Bye(Bye {
            why: ByeReason::Duplicate,
        }),
    ]
}

fn example(name: &str) -> Message {
    examples()
        .into_iter()
        .find(|message| message.name() == name)
        .expect("an example of every type")
}

/// The fields of each type that may be absent.
const OPTIONAL: &[(&str, &[&str])] = &[
    ("hello", &["chosen"]),
    ("sync", &["credit", "debt"]),
    ("ask", &["to", "private", "tr"]),
    ("offer", &["at"]),
    ("iou", &["id"]),
    ("progress", &["held", "delivered"]),
    ("fetching", &["now", "next"]),
];

#[test]
//= spec/friends.md#message-field
fn every_field_is_there_and_of_its_type() {
    for message in examples() {
        let bytes = message.encode();
        let document = Document::parse(&bytes, &Limits::strict()).expect("ours");
        let dict = document.root().as_dict().expect("a dictionary");
        for (field, node) in dict.iter().filter(|(field, _)| *field != b"m") {
            let field = std::str::from_utf8(field).expect("ASCII");
            let other = match node.value() {
                Value::Int(_) => Item::bytes("x"),
                Value::Bytes(_) | Value::List(_) | Value::Dict(_) => Item::Int(1),
            };
            assert_fault(&message, field, Some(other), Fault::Type);
            let name = message.name();
            let optional = OPTIONAL
                .iter()
                .any(|(of, fields)| *of == name && fields.contains(&field));
            if optional {
                let read = Message::decode(&changed(&message, field, None));
                assert!(read.is_ok(), "{name}.{field}: {read:?}");
            } else {
                assert_fault(&message, field, None, Fault::Missing);
            }
        }
    }
}

fn assert_fault(message: &Message, field: &str, value: Option<Item>, expected: Fault) {
    let read = Message::decode(&changed(message, field, value.clone()));
    let Err(DecodeError::Ignore(MessageError::Field {
        field: named,
        fault,
        ..
    })) = read
    else {
        panic!("{}.{field} = {value:?}: {read:?}", message.name())
    };
    assert_eq!((named, fault), (field, expected), "{}", message.name());
}

#[test]
//= spec/friends.md#message-unknown
fn unknown_types_and_keys_mean_nothing() {
    assert_eq!(
        Message::decode(b"d1:m7:novelty1:xi1ee"),
        Err(MessageError::UnknownType.into())
    );
    for message in examples() {
        let more = changed(&message, "zz", Some(Item::List(vec![Item::Int(1)])));
        assert_eq!(Message::decode(&more), Ok(message));
    }
}

#[test]
fn unknown_reasons_read_as_refused() {
    assert_eq!(
        Message::decode(b"d2:idi1e1:m7:decline3:whyi99ee"),
        Ok(Message::Decline(Decline {
            id: HelpId(1),
            why: DeclineReason::Refused
        }))
    );
    assert_eq!(
        Message::decode(b"d1:m3:bye3:whyi99ee"),
        Ok(Message::Bye(Bye {
            why: ByeReason::Other
        }))
    );
}

#[test]
//= spec/friends.md#message-canonical
fn what_is_no_canonical_dictionary_ends_the_session() {
    let long = vec![b'd'; MAX_MESSAGE + 1];
    let deep = b"d1:m4:sync1:xllllllllleeeeeeeeee";
    let crowd = Item::dict([
        ("m", Item::from("sync")),
        ("x", Item::List(vec![Item::Int(0); 1024])),
    ]);
    let crowd = crowd.encode();
    let table: [&[u8]; 12] = [
        b"",
        &long,
        b"le",
        b"i1e",
        b"de",
        b"d1:mi1ee",
        b"d1:xi1ee",
        b"d3:whyi0e1:m3:byee",
        b"d1:m3:bye1:m3:byee",
        b"d1:m3:bye3:whyi00ee",
        deep,
        &crowd,
    ];
    for bytes in table {
        let read = Message::decode(bytes);
        assert!(
            matches!(read, Err(DecodeError::End(_))),
            "{}: {read:?}",
            bytes.escape_ascii()
        );
    }
}

#[test]
//= spec/friends.md#help-id
fn a_help_id_tells_whose_ask_it_is() {
    assert!(HelpId(4).belongs_to_asker(true) && !HelpId(4).belongs_to_asker(false));
    assert!(HelpId(5).belongs_to_asker(false) && !HelpId(5).belongs_to_asker(true));
}
