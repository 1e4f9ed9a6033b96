#![allow(clippy::unwrap_used)]

use bt_wire::address::{Scope, encode_compact};
use bt_wire::bencode::Item;
use bt_wire::ids::PeerId;
use bt_wire::tracker::{Event, MAX_INTERVAL, Retry};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::discover::http::HttpOptions;

const GLOBAL: AddressSource = AddressSource::Named { by: Scope::Global };
const LOOPBACK: AddressSource = AddressSource::Named {
    by: Scope::Loopback,
};

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\x00\xff hash & more ???&="),
        peer_id: PeerId(*b"-BS0100-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::Started,
        numwant: Some(80),
        key: None,
        tracker_id: None,
        ipv6: None,
    }
}

fn recorder() -> &'static PrometheusRecorder {
    Box::leak(Box::new(PrometheusBuilder::new().build_recorder()))
}

fn assert_counted(recorder: &PrometheusRecorder, name: &str, reason: &str, count: usize) {
    let text = recorder.handle().render();
    let line = format!("{name}{{reason=\"{reason}\"}} {count}");
    assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
}

async fn ask(reply: ResponseTemplate) -> (Result<Announced, AskError>, MockServer) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(reply).mount(&server).await;
    let client = TrackerClient::new(Http::new(&HttpOptions::default()).unwrap());
    let url = format!("{}/announce?passkey=1", server.uri())
        .parse()
        .unwrap();
    (
        client.announce(&url, LOOPBACK, &request(), DEADLINE).await,
        server,
    )
}

fn body(peers: &[&str], entries: &[(&'static str, Item)]) -> ResponseTemplate {
    let mut compact = Vec::new();
    peers
        .iter()
        .for_each(|p| encode_compact(p.parse().unwrap(), &mut compact));
    let entries = entries
        .iter()
        .cloned()
        .chain([("peers", Item::bytes(&compact))]);
    ResponseTemplate::new(200).set_body_bytes(Item::dict(entries).encode())
}

#[tokio::test]
async fn an_announce_says_the_truth_and_brings_peers() {
    let (answer, server) = ask(body(&["127.0.0.1:7000"], &[("interval", Item::Int(900))])).await;
    let answer = answer.unwrap();
    assert_eq!(answer.peers, ["127.0.0.1:7000".parse().unwrap()]);
    assert_eq!(answer.response.interval, Duration::from_secs(900));
    let asked = server.received_requests().await.unwrap();
    let query = asked[0].url.query().unwrap();
    assert!(query.starts_with("passkey=1&info_hash=%00%FF"), "{query}");
    assert!(
        query.contains("&uploaded=1&downloaded=2&left=3&")
            && query.contains("&event=started&numwant=80"),
        "{query}"
    );
}

#[tokio::test]
async fn c3_evil_peer_lists_reach_nobody() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let list: Vec<TrackerPeer> = [
        "127.0.0.1:22",
        "127.0.0.1:7000",
        "10.0.0.1:7000",
        "169.254.1.1:7000",
        "8.8.8.8:0",
        "8.8.8.8:25",
        "0.0.0.0:7000",
        "224.0.0.1:7000",
        "255.255.255.255:7000",
        "[::1]:7000",
        "[fe80::1]:7000",
        "[::ffff:127.0.0.1]:7000",
    ]
    .iter()
    .chain(std::iter::repeat_n(&"8.8.8.8:7000", 1000))
    .map(|a| TrackerPeer {
        addr: a.parse().unwrap(),
        peer_id: None,
    })
    .collect();
    assert_eq!(filter(&list, GLOBAL), ["8.8.8.8:7000".parse().unwrap()]);
    let name = "btslave_tracker_refused_total";
    for (reason, count) in [
        ("peer_repeated", 999),
        ("peer_port_zero", 1),
        ("peer_privileged_port", 2),
        ("peer_not_a_host", 3),
        ("peer_scope", 6),
    ] {
        assert_counted(recorder, name, reason, count);
    }
    // Over the wire: a loopback tracker may name loopback peers, but no privileged ports.
    let (answer, _server) = ask(body(
        &["127.0.0.1:22", "127.0.0.1:7000", "127.0.0.1:7000"],
        &[],
    ))
    .await;
    assert_eq!(answer.unwrap().peers, ["127.0.0.1:7000".parse().unwrap()]);
}

#[tokio::test]
async fn c4_two_megabytes_and_more_are_cut_off() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let (answer, _server) =
        ask(ResponseTemplate::new(200).set_body_bytes(vec![b'd'; MAX_RESPONSE + 1])).await;
    let error = answer.unwrap_err();
    assert!(
        matches!(error, AskError::Http(HttpError::TooLarge { .. })),
        "{error}"
    );
    assert_eq!(error.failed(), Failed::Later);
    assert_counted(recorder, "btslave_http_refused_total", "too_large", 1);
}

#[tokio::test]
async fn c4_twenty_redirects_are_not_followed() {
    let (answer, server) =
        ask(ResponseTemplate::new(302).insert_header("location", "/announce?again")).await;
    assert!(matches!(
        answer,
        Err(AskError::Http(HttpError::Redirects { .. }))
    ));
    assert_eq!(server.received_requests().await.unwrap().len(), 11);
}

#[tokio::test]
async fn c4_intervals_are_clamped_and_counted() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    for (count, (seconds, expected)) in (1..).zip([
        (0, Duration::from_secs(1800)),
        (-1, Duration::from_secs(1800)),
        (1 << 31, MAX_INTERVAL),
    ]) {
        let (answer, _server) = ask(body(&[], &[("interval", Item::Int(seconds))])).await;
        assert_eq!(answer.unwrap().response.interval, expected, "{seconds}");
        assert_counted(
            recorder,
            "btslave_tracker_refused_total",
            "interval_clamped",
            count,
        );
    }
}

#[tokio::test]
async fn c4_410_and_never_mean_gone_and_retry_after_is_heard() {
    let (answer, _server) = ask(ResponseTemplate::new(410)).await;
    assert_eq!(answer.unwrap_err().failed(), Failed::Gone);
    let (answer, _server) =
        ask(ResponseTemplate::new(503).insert_header("retry-after", "77")).await;
    assert_eq!(
        answer.unwrap_err().failed(),
        Failed::After(Duration::from_secs(77))
    );
    let never = Item::dict([
        ("failure reason", Item::from("no")),
        ("retry in", Item::from("never")),
    ])
    .encode();
    let (answer, _server) = ask(ResponseTemplate::new(200).set_body_bytes(never)).await;
    let error = answer.unwrap_err();
    assert!(matches!(
        &error,
        AskError::Tracker {
            source: TrackerError::Failure {
                retry: Retry::Never,
                ..
            },
            ..
        }
    ));
    assert_eq!(error.failed(), Failed::Gone);
    assert!(!error.to_string().contains("passkey=1"), "{error}");
}

#[tokio::test]
async fn a_public_torrent_cannot_aim_announces_at_this_machine() {
    let server = MockServer::start().await;
    let client = TrackerClient::new(Http::new(&HttpOptions::default()).unwrap());
    let url = format!("{}/announce", server.uri()).parse().unwrap();
    let answer = client.announce(&url, GLOBAL, &request(), DEADLINE).await;
    assert!(matches!(
        answer,
        Err(AskError::Http(HttpError::Forbidden { .. }))
    ));
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_scrape_asks_for_several_at_once() {
    let server = MockServer::start().await;
    let entry = Item::dict([
        ("complete", Item::Int(3)),
        ("downloaders", Item::Int(2)),
        ("incomplete", Item::Int(5)),
    ]);
    let files = Item::dict([(&[1u8; 20][..], entry)]);
    let reply = ResponseTemplate::new(200).set_body_bytes(Item::dict([("files", files)]).encode());
    Mock::given(wiremock::matchers::path("/x/scrape"))
        .respond_with(reply)
        .mount(&server)
        .await;
    let client = TrackerClient::new(Http::new(&HttpOptions::default()).unwrap());
    let url = format!("{}/x/announce", server.uri()).parse().unwrap();
    let hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
    let answer = client.scrape(&url, LOOPBACK, &hashes).await.unwrap();
    assert_eq!(answer.get(hashes[0]).unwrap().downloaders, Some(2));
    assert_eq!(answer.get(hashes[1]), None);
    let asked = server.received_requests().await.unwrap();
    assert_eq!(
        asked[0].url.query().unwrap().matches("info_hash=").count(),
        2
    );
    let odd = format!("{}/x/other", server.uri()).parse().unwrap();
    assert!(matches!(
        client.scrape(&odd, LOOPBACK, &hashes).await,
        Err(AskError::NoScrape { .. })
    ));
}
