//! An announce URL, asked and attacked.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bt_wire::ids::{InfoHash, PeerId};
use bt_wire::tracker::{AnnounceRequest, AnnounceResponse, Event, TrackerError};
use swarm_core::policy::quota::FAREWELL;
use tokio::sync::mpsc;

use super::{AnnounceUrl, Announcement, Made, make};
use crate::allowance::Allowance;
use crate::control::server::{Ends, Site as _};
use crate::driver::tests::counter;

/// The host's own peer port.
const PORT: u16 = 6881;

struct Host {
    url: AnnounceUrl,
    made: Made,
    inbox: mpsc::Receiver<Announcement>,
}

fn host() -> Host {
    host_with(None)
}

fn host_with(month: Option<u64>) -> Host {
    counter("");
    let trackers = ["http://198.18.0.1:6969/announce".to_owned()];
    let made = make("our place", 7, &trackers).expect("made");
    let (announcements, inbox) = mpsc::channel(4);
    let url = AnnounceUrl::new(&made, PORT, announcements, Arc::new(Allowance::new(month)));
    Host { url, made, inbox }
}

fn ends(remote: &str) -> Ends {
    Ends {
        remote: remote.parse().expect("an address"),
        local: "198.18.0.1".parse().expect("an address"),
    }
}

fn query(info_hash: InfoHash, port: u16, event: Event) -> String {
    AnnounceRequest {
        info_hash,
        peer_id: PeerId(*b"-XX0000-somebody0000"),
        port,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event,
        numwant: None,
        key: None,
        tracker_id: None,
        ipv6: None,
    }
    .query()
}

async fn ask(host: &Host, from: &str, path: &str) -> Response {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    host.url.answer(request, ends(from)).await
}

async fn body(response: Response) -> Vec<u8> {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    body.expect("whole").to_vec()
}

async fn announce(host: &Host, from: &str, query: &str) -> Result<AnnounceResponse, TrackerError> {
    let answer = ask(host, from, &format!("/announce?{query}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    AnnounceResponse::parse(&body(answer).await)
}

fn refusals(reason: &str) -> u64 {
    counter(&format!(
        "btslave_rendezvous_refused_total{{reason=\"{reason}\"}}"
    ))
}

//= spec/rendezvous.md#rv-torrent
#[test]
fn the_torrent_is_an_ordinary_one_of_a_page_and_no_two_are_the_same() {
    let made = make("Café 2", 1, &["http://a.example/announce".to_owned()]).expect("made");
    let meta = &made.metainfo;
    assert!(!meta.private && meta.total == made.page.len() as u64 && meta.total < 16_384);
    assert_eq!(meta.name, "Café 2.html");
    assert_eq!(meta.trackers, [["http://a.example/announce"]]);
    let again = make("Café 2", 2, &[]).expect("made");
    assert_ne!(again.metainfo.info_hash(), meta.info_hash());
}

#[test]
fn d4_a_name_can_break_neither_page_nor_path() {
    for bad in [
        "",
        " a",
        "<b>",
        "a/b",
        "../a",
        ".a",
        "a\u{202e}b",
        "a&b",
        "a\nb",
        &"a".repeat(65),
    ] {
        assert!(super::check_name(bad).is_err(), "{bad:?}");
    }
    assert_eq!(super::check_name("Our place-2_b.c"), Ok(()));
}

//= spec/rendezvous.md#rv-announce-hash
#[tokio::test]
async fn it_answers_for_its_own_torrent_alone() {
    let mut host = host();
    let before = (refusals("infohash"), refusals("query"));
    let other = query(InfoHash([1; 20]), PORT, Event::Started);
    let answer = announce(&host, "198.18.0.2", &other).await;
    assert!(matches!(answer, Err(TrackerError::Failure { .. })));
    let answer = announce(&host, "198.18.0.2", "port=1").await;
    assert!(matches!(answer, Err(TrackerError::Failure { .. })));
    assert_eq!(
        (refusals("infohash"), refusals("query")),
        (before.0 + 1, before.1 + 1)
    );
    assert!(
        host.inbox.try_recv().is_err(),
        "nobody is dialled for these"
    );
}

//= spec/rendezvous.md#rv-answer
#[tokio::test]
async fn an_answer_holds_us_and_at_most_fifty_at_random_but_not_the_asker() {
    let host = host();
    let hash = host.made.metainfo.info_hash();
    for n in 0..200 {
        host.url
            .list(SocketAddr::new([198, 18, 1, n].into(), PORT), true);
    }
    host.url
        .list(SocketAddr::new([198, 18, 1, 0].into(), PORT), false);
    let six: SocketAddr = "[2606:4700::1]:6881".parse().expect("an address");
    host.url.list(six, true);
    let ask = query(hash, PORT, Event::Started);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let answer = announce(&host, "198.18.1.9", &ask).await.expect("answered");
        assert_eq!(answer.peers.len(), 50);
        assert_eq!(answer.interval.as_secs(), 1800);
        seen.extend(answer.peers.iter().map(|peer| peer.addr));
    }
    let addr = |n: u8| SocketAddr::new([198, 18, 1, n].into(), PORT);
    assert!(
        seen.contains(&SocketAddr::new([198, 18, 0, 1].into(), PORT)),
        "ourselves"
    );
    assert!(seen.contains(&six) && seen.contains(&addr(1)) && seen.contains(&addr(199)));
    assert!(!seen.contains(&addr(9)) && !seen.contains(&addr(0)));
    let leaving = query(hash, PORT, Event::Stopped);
    let answer = announce(&host, "198.18.1.9", &leaving)
        .await
        .expect("answered");
    assert!(answer.peers.is_empty());
}

//= spec/rendezvous.md#rv-dial-back
#[tokio::test]
async fn p16_only_the_requests_own_address_is_handed_on_to_be_dialled() {
    let mut host = host();
    let hash = host.made.metainfo.info_hash();
    let ask = query(hash, 7000, Event::Started);
    let lies = format!("{ask}&ip=203.0.113.7&ipv4=203.0.113.7:80&ipv6=%5b%3a%3a1%5d%3a80");
    let request = Request::get(format!("/announce?{lies}"))
        .header("X-Forwarded-For", "203.0.113.7")
        .header("Forwarded", "for=203.0.113.7")
        .body(Body::empty())
        .expect("a request");
    host.url.answer(request, ends("::ffff:198.18.0.9")).await;
    let handed = Announcement {
        from: "198.18.0.9:7000".parse().expect("an address"),
        at: "198.18.0.1".parse().expect("an address"),
        stopped: false,
    };
    assert_eq!(host.inbox.try_recv(), Ok(handed));
    assert!(host.inbox.try_recv().is_err());
}

#[tokio::test]
async fn d6_a_flood_of_one_network_is_refused_and_others_are_answered() {
    let host = host();
    let before = (refusals("network"), refusals("busy"));
    let ask = query(host.made.metainfo.info_hash(), PORT, Event::Started);
    let mut answered = 0;
    for n in 0..300 {
        let from = format!("198.18.7.{}", n % 250);
        answered += u32::from(announce(&host, &from, &ask).await.is_ok());
    }
    assert_eq!(answered, 120);
    assert_eq!(refusals("network"), before.0 + 180);
    // Four wait for the brain. Other tests move this counter, too.
    assert!(refusals("busy") >= before.1 + 116);
    assert!(announce(&host, "198.18.8.1", &ask).await.is_ok());
}

#[test]
fn b6_one_network_cannot_take_all_seats() {
    let host = host();
    let before = refusals("seats");
    let ip = |n: u8| [198, 18, 7, n].into();
    let seats: Vec<_> = (0..50).filter_map(|n| host.url.seat(ip(n))).collect();
    assert_eq!((seats.len(), refusals("seats")), (8, before + 42));
    assert!(host.url.seat([198, 18, 8, 1].into()).is_some());
}

#[tokio::test]
async fn c4_an_answer_is_small_and_nothing_but_three_things_is_served() {
    let host = host();
    for n in 0..250 {
        host.url
            .list(SocketAddr::new([198, 18, 1, n].into(), PORT), true);
        let six = [0x2606, 0x4700, 0, 0, 0, 0, 0, u16::from(n)];
        host.url.list(SocketAddr::new(six.into(), PORT), true);
    }
    let ask_it = query(host.made.metainfo.info_hash(), PORT, Event::Started);
    let answer = ask(&host, "198.18.2.1", &format!("/announce?{ask_it}")).await;
    assert!(body(answer).await.len() < 1024);
    let torrent = body(ask(&host, "198.18.2.1", "/rendezvous.torrent").await).await;
    assert_eq!(torrent, host.made.torrent);
    let page = ask(&host, "198.18.2.1", "/").await;
    let policy = page.headers().get("content-security-policy").cloned();
    assert!(policy.is_some_and(|value| value == "default-src 'none'; frame-ancestors 'none'"));
    assert_eq!(body(page).await, host.made.page);
    let before = (refusals("path"), refusals("method"));
    for path in [
        "/scrape",
        "/api/v1/status",
        "/..%2f..%2fetc/passwd",
        "/metrics",
    ] {
        assert_eq!(
            ask(&host, "198.18.2.1", path).await.status(),
            StatusCode::NOT_FOUND
        );
    }
    let post = Request::post("/announce")
        .body(Body::empty())
        .expect("a request");
    let answer = host.url.answer(post, ends("198.18.2.1")).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        (refusals("path"), refusals("method")),
        (before.0 + 4, before.1 + 1)
    );
}

#[tokio::test]
async fn r7_what_is_answered_counts_against_the_months_quota() {
    let host = host_with(Some(FAREWELL + 2000));
    let ask_it = query(host.made.metainfo.info_hash(), PORT, Event::Started);
    let path = format!("/announce?{ask_it}");
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask(&host, "198.18.2.1", &path).await.status());
    }
    assert_eq!(statuses.first(), Some(&StatusCode::OK));
    assert_eq!(statuses.last(), Some(&StatusCode::SERVICE_UNAVAILABLE));
}
