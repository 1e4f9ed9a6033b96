use proptest::prelude::*;

use super::*;
use crate::address::{AddressSource, Scope, dialable, encode_compact};
use crate::bencode::Item;
use crate::tracker::{check_announce_url, with_query};

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0; 20]),
        peer_id: PeerId(*b"-BS0100-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::None,
        numwant: None,
        key: None,
        tracker_id: None,
        ipv6: None,
    }
}

fn reply(entries: impl IntoIterator<Item = (&'static str, Item)>) -> AnnounceResponse {
    AnnounceResponse::parse(&Item::dict(entries).encode()).expect("readable")
}

#[test]
fn query_spells_every_field() {
    let mut ours = request();
    assert_eq!(
        ours.query(),
        format!(
            "info_hash={}&peer_id=-BS0100-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&compact=1",
            "%00".repeat(20)
        )
    );
    ours.event = Event::Stopped;
    ours.numwant = Some(0);
    ours.key = Some(0xbeef);
    ours.tracker_id = Some(b"a&b=\xff".to_vec());
    ours.ipv6 = Some(Ipv6Addr::LOCALHOST);
    assert!(
        ours.query()
            .ends_with("&event=stopped&numwant=0&key=0000BEEF&trackerid=a%26b%3D%FF&ipv6=%3A%3A1")
    );
}

#[test]
fn the_query_joins_one_that_is_there() {
    let join =
        |text: &str| with_query(&check_announce_url(text).expect("sound"), "a=%FF").to_string();
    assert_eq!(join("http://x/announce"), "http://x/announce?a=%FF");
    assert_eq!(join("http://x/announce?"), "http://x/announce?a=%FF");
    assert_eq!(
        join("http://x/announce?passkey=1#f"),
        "http://x/announce?passkey=1&a=%FF"
    );
}

#[test]
fn reads_a_full_reply() {
    let response = reply([
        ("interval", Item::Int(1800)),
        ("min interval", Item::Int(60)),
        ("peers", Item::bytes(b"\x01\x02\x03\x04\x1a\xe1")),
        (
            "peers6",
            Item::bytes(b"\x20\x01\x48\x60\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe2"),
        ),
        ("complete", Item::Int(5)),
        ("incomplete", Item::Int(6)),
        ("downloaded", Item::Int(7)),
        ("external ip", Item::bytes([9, 8, 7, 6])),
        ("tracker id", Item::from("id")),
        ("warning message", Item::from("careful")),
    ]);
    let peer = |addr: &str| TrackerPeer {
        addr: addr.parse().expect("sound"),
        peer_id: None,
    };
    assert_eq!(
        response,
        AnnounceResponse {
            interval: Duration::from_secs(1800),
            min_interval: Some(Duration::from_secs(60)),
            peers: vec![peer("1.2.3.4:6881"), peer("[2001:4860::1]:6882")],
            peers_ignored: 0,
            complete: Some(5),
            incomplete: Some(6),
            downloaded: Some(7),
            external_ip: Some(IpAddr::from([9, 8, 7, 6])),
            tracker_id: Some(b"id".to_vec()),
            warning: Some("careful".to_owned()),
            clamped: false,
        }
    );
}

#[test]
fn reads_peers_in_dictionaries_and_resolves_no_names() {
    let peer = |ip: &str, port: i64| {
        Item::dict([
            ("ip", Item::from(ip)),
            ("port", Item::Int(port)),
            ("peer id", Item::bytes([65; 20])),
        ])
    };
    let list = vec![
        peer("1.2.3.4", 6881),
        peer("localhost", 80),
        peer("::ffff:5.6.7.8", 1),
        peer("9.9.9.9", 65_536),
        Item::Int(1),
    ];
    let response = reply([("peers", Item::List(list))]);
    let kept: Vec<String> = response
        .peers
        .iter()
        .map(|peer| peer.addr.to_string())
        .collect();
    assert_eq!(kept, ["1.2.3.4:6881", "5.6.7.8:1"]);
    assert_eq!(response.peers[0].peer_id, Some(PeerId([65; 20])));
    assert_eq!(response.peers_ignored, 3);
}

#[test]
fn c3_an_evil_peer_list_leaves_nothing_to_dial() {
    let evil = [
        "127.0.0.1:22",
        "0.0.0.0:6881",
        "224.0.0.1:6881",
        "1.1.1.1:0",
        "1.1.1.1:443",
        "10.0.0.1:6881",
        "192.0.2.1:6881",
    ];
    let mut compact = Vec::new();
    for addr in evil {
        encode_compact(addr.parse().expect("sound"), &mut compact);
    }
    let response = reply([("peers", Item::bytes(&compact))]);
    assert_eq!(response.peers.len(), evil.len());
    let named = AddressSource::Named { by: Scope::Global };
    assert!(
        response
            .peers
            .iter()
            .all(|peer| dialable(peer.addr, named).is_err())
    );
}

#[test]
fn c4_intervals_are_clamped_and_said_to_be() {
    let read = |seconds: i64| {
        let response = reply([
            ("interval", Item::Int(seconds)),
            ("min interval", Item::Int(seconds)),
        ]);
        (
            response.interval.as_secs(),
            response.min_interval.map(|min| min.as_secs()),
            response.clamped,
        )
    };
    assert_eq!(read(0), (1800, None, true));
    assert_eq!(read(-1), (1800, None, true));
    assert_eq!(read(1), (5, Some(5), true));
    assert_eq!(read(1 << 31), (86_400, Some(86_400), true));
    assert_eq!(read(i64::MAX), (86_400, Some(86_400), true));
    assert_eq!(read(900), (900, Some(900), false));
    assert_eq!(reply([]).interval, Duration::from_secs(1800));
}

#[test]
fn c4_too_many_peers_are_cut_and_counted() {
    let response = reply([("peers", Item::bytes(vec![9; 6 * 100_000]))]);
    assert_eq!(
        (response.peers.len(), response.peers_ignored),
        (200, 99_800)
    );
}

#[test]
fn failures_say_when_to_come_back() {
    let read = |retry: Option<Item>| {
        let reason = Item::from("x".repeat(10_000).as_str());
        let entries = [("failure reason", Some(reason)), ("retry in", retry)];
        let body = Item::dict(
            entries
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .encode();
        let Err(TrackerError::Failure { reason, retry }) = AnnounceResponse::parse(&body) else {
            panic!("a failure")
        };
        assert_eq!(reason.len(), 512);
        retry
    };
    assert_eq!(read(None), Retry::Unsaid);
    assert_eq!(read(Some(Item::from("never"))), Retry::Never);
    assert_eq!(
        read(Some(Item::Int(5))),
        Retry::After(Duration::from_secs(300))
    );
    assert_eq!(
        read(Some(Item::from("5"))),
        Retry::After(Duration::from_secs(300))
    );
    assert_eq!(read(Some(Item::Int(i64::MAX))), Retry::After(MAX_INTERVAL));
    assert_eq!(read(Some(Item::Int(-5))), Retry::Unsaid);
}

#[test]
fn a_web_page_is_no_reply() {
    assert!(matches!(
        AnnounceResponse::parse(b"<html>"),
        Err(TrackerError::Bencode(_))
    ));
    assert_eq!(AnnounceResponse::parse(b"le"), Err(TrackerError::NotADict));
    assert!(AnnounceResponse::parse(b"d8:intervali9ee\r\n").is_ok());
}

proptest! {
    #[test]
    fn a_url_carries_any_infohash(info_hash: [u8; 20], peer_id: [u8; 20]) {
        let ours = AnnounceRequest { info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), ..request() };
        let url = with_query(&check_announce_url("http://x/announce").expect("sound"), &ours.query());
        let sent = url.query().expect("a query").split('&').next().and_then(|pair| pair.strip_prefix("info_hash=")).expect("first");
        prop_assert_eq!(percent_encoding::percent_decode_str(sent).collect::<Vec<_>>(), info_hash);
    }
}
