#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::time::Duration;

use bt_wire::address::{AddressSource, Scope};
use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::sync::mpsc;
use wiremock::matchers::{header, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::discover::http::{Http, HttpOptions};

fn torrent(name: &str, private: bool) -> Vec<u8> {
    MetainfoBuilder::single(name, 16384, 16384)
        .pieces([[1; 20]])
        .private(private)
        .build()
        .unwrap()
}

fn spec(url: &str) -> FeedSpec {
    FeedSpec::new(
        url,
        Duration::from_secs(3600),
        &[],
        &["unwanted".to_owned()],
        Some(1 << 40),
    )
    .unwrap()
}

fn rss(items: &[(String, String)]) -> String {
    let mut out = String::from(
        r#"<rss version="2.0"><channel><title>t</title><link>l</link><description>d</description>"#,
    );
    for (title, url) in items {
        let url = url.replace('&', "&amp;");
        write!(out, r#"<item><title>{title}</title><enclosure url="{url}" length="1" type="application/x-bittorrent"/></item>"#).unwrap();
    }
    out + "</channel></rss>"
}

async fn serve(server: &MockServer, at: &str, body: impl Into<Vec<u8>>) {
    let reply = ResponseTemplate::new(200)
        .set_body_bytes(body)
        .insert_header("etag", "\"v1\"");
    Mock::given(path(at))
        .respond_with(reply)
        .mount(server)
        .await;
}

struct Setup {
    http: Http,
    server: MockServer,
    events: mpsc::Sender<FeedEvent>,
    inbox: mpsc::Receiver<FeedEvent>,
    recorder: &'static PrometheusRecorder,
    // The recorder's guard, whose type metrics does not export.
    _guard: Box<dyn std::any::Any>,
}

async fn setup() -> Setup {
    let recorder: &'static PrometheusRecorder =
        Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let guard = Box::new(metrics::set_default_local_recorder(recorder));
    let (events, inbox) = mpsc::channel(1000);
    let http = Http::new(&HttpOptions::default()).unwrap();
    Setup {
        http,
        server: MockServer::start().await,
        events,
        inbox,
        recorder,
        _guard: guard,
    }
}

impl Setup {
    async fn poll(&self, url: &str, ledger: &mut FeedLedger) -> Result<Polled, PollError> {
        poll_feed(&self.http, &spec(url), (None, None), ledger, &self.events).await
    }

    fn names(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Ok(event) = self.inbox.try_recv() {
            match event {
                FeedEvent::Torrent(t) => {
                    assert_eq!(
                        t.named_by,
                        AddressSource::Named {
                            by: Scope::Loopback
                        }
                    );
                    assert_eq!(Metainfo::from_torrent(t.bytes.clone()).unwrap(), t.metainfo);
                    out.push(format!("{}: {}", t.title, t.metainfo.name));
                }
                FeedEvent::Magnet(m) => out.push(format!("{}: {}", m.title, m.link)),
            }
        }
        out
    }

    fn assert_refused(&self, reason: &str, count: usize) {
        let text = self.recorder.handle().render();
        let line = format!("btslave_feed_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
    }
}

#[tokio::test]
async fn an_rss_feed_brings_its_torrents_once() {
    let mut s = setup().await;
    let uri = s.server.uri();
    let items = [
        ("one".to_owned(), format!("{uri}/1")),
        ("unwanted".to_owned(), format!("{uri}/2")),
        ("secret".to_owned(), format!("{uri}/3")),
        ("again".to_owned(), format!("{uri}/1?again")),
        ("junk".to_owned(), format!("{uri}/4")),
        (
            "m".to_owned(),
            "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567".to_owned(),
        ),
    ];
    serve(&s.server, "/feed", rss(&items)).await;
    serve(&s.server, "/1", torrent("first", false)).await;
    serve(&s.server, "/3", torrent("private", true)).await;
    serve(&s.server, "/4", "<html>").await;
    let mut ledger = FeedLedger::default();
    let polled = s.poll(&format!("{uri}/feed"), &mut ledger).await.unwrap();
    assert_eq!(
        (polled.items, polled.etag.as_deref(), polled.more),
        (Some(6), Some("\"v1\""), false)
    );
    assert_eq!(
        s.names(),
        [
            "one: first",
            "m: magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567"
        ]
    );
    for (reason, count) in [
        ("private", 1),
        ("bad_torrent", 1),
        ("repeated_or_unwanted", 1),
    ] {
        s.assert_refused(reason, count);
    }
    s.poll(&format!("{uri}/feed"), &mut ledger).await.unwrap();
    assert_eq!(s.names(), Vec::<String>::new());
    let fetched = s.server.received_requests().await.unwrap().len();
    assert_eq!(fetched, 2 + 4, "the feed twice, each link once");
}

#[tokio::test]
async fn an_unchanged_feed_costs_one_small_question() {
    let s = setup().await;
    let unchanged = ResponseTemplate::new(304);
    Mock::given(header("if-none-match", "\"v1\""))
        .respond_with(unchanged)
        .mount(&s.server)
        .await;
    let feed = spec(&s.server.uri());
    let polled = poll_feed(
        &s.http,
        &feed,
        (Some("\"v1\""), None),
        &mut FeedLedger::default(),
        &s.events,
    )
    .await;
    assert_eq!(polled.unwrap(), Polled::default());
}

#[tokio::test]
async fn a_torrent_url_and_a_listing_are_feeds_too() {
    let mut s = setup().await;
    let uri = s.server.uri();
    serve(&s.server, "/x.torrent", torrent("single", false)).await;
    serve(
        &s.server,
        "/dir/",
        "<html><a href=\"/x.torrent\">x</a> <a href=\"y.txt\">y</a>",
    )
    .await;
    s.poll(&format!("{uri}/x.torrent"), &mut FeedLedger::default())
        .await
        .unwrap();
    assert_eq!(s.names(), ["single: single"]);
    let polled = s
        .poll(&format!("{uri}/dir/"), &mut FeedLedger::default())
        .await
        .unwrap();
    assert_eq!(
        (polled.items, s.names()),
        (Some(1), vec!["x: single".to_owned()])
    );
}

#[tokio::test]
async fn a_local_folder_is_a_feed_on_the_operators_word() {
    let mut s = setup().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.torrent"), torrent("local", false)).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "no").unwrap();
    std::fs::create_dir(dir.path().join("dir.torrent")).unwrap();
    let mut ledger = FeedLedger::default();
    let url = url::Url::from_directory_path(dir.path()).unwrap();
    s.poll(url.as_str(), &mut ledger).await.unwrap();
    assert_eq!(s.names(), ["a: local"]);
    std::fs::write(dir.path().join("b.torrent"), torrent("later", false)).unwrap();
    s.poll(dir.path().to_str().unwrap(), &mut ledger)
        .await
        .unwrap();
    assert_eq!(s.names(), ["b: later"]);
    let error = s
        .poll("/nonexistent/folder", &mut ledger)
        .await
        .unwrap_err();
    assert!(error.reason.contains("/nonexistent/folder"), "{error}");
}

#[tokio::test]
async fn e2_a_feed_cannot_reach_local_files_directly_or_by_redirect() {
    let mut s = setup().await;
    let uri = s.server.uri();
    let file = tempfile::Builder::new()
        .suffix(".torrent")
        .tempfile()
        .unwrap();
    std::fs::write(file.path(), torrent("local", false)).unwrap();
    let local = url::Url::from_file_path(file.path()).unwrap().to_string();
    let items = [
        ("direct".to_owned(), local.clone()),
        ("hop".to_owned(), format!("{uri}/hop")),
    ];
    serve(&s.server, "/feed", rss(&items)).await;
    let hop = ResponseTemplate::new(302).insert_header("location", &*local);
    Mock::given(path("/hop"))
        .respond_with(hop)
        .mount(&s.server)
        .await;
    s.poll(&format!("{uri}/feed"), &mut FeedLedger::default())
        .await
        .unwrap();
    assert_eq!(s.names(), Vec::<String>::new());
    s.assert_refused("scheme", 1);
    assert!(
        s.recorder
            .handle()
            .render()
            .contains("btslave_http_refused_total{reason=\"scheme\"} 1")
    );
}

#[tokio::test]
async fn e3_a_doctype_fails_the_poll_and_is_counted() {
    let s = setup().await;
    serve(&s.server, "/feed", "<!DOCTYPE rss [<!ENTITY a 'b'>]><rss/>").await;
    let error = s
        .poll(
            &format!("{}/feed", s.server.uri()),
            &mut FeedLedger::default(),
        )
        .await
        .unwrap_err();
    assert!(error.reason.contains("DOCTYPE"), "{error}");
    s.assert_refused("doctype", 1);
}

#[tokio::test]
async fn e4_a_poisoned_feed_keeps_to_its_quota_and_others_are_polled() {
    let mut s = setup().await;
    let uri = s.server.uri();
    let poison: Vec<_> = (0..20_000)
        .map(|n| (format!("p{n}"), format!("{uri}/same?{n}")))
        .collect();
    serve(&s.server, "/poison", rss(&poison)).await;
    serve(
        &s.server,
        "/good",
        rss(&[("g".to_owned(), format!("{uri}/good.torrent"))]),
    )
    .await;
    let petabyte = MetainfoBuilder::single("huge", 1 << 42, 1 << 26)
        .pieces(vec![[1; 20]; 1 << 16])
        .build()
        .unwrap();
    serve(&s.server, "/huge", petabyte).await;
    serve(
        &s.server,
        "/hugefeed",
        rss(&[("h".to_owned(), format!("{uri}/huge"))]),
    )
    .await;
    serve(&s.server, "/same", torrent("same", false)).await;
    serve(&s.server, "/good.torrent", torrent("good", false)).await;
    let poller = FeedPoller::start(s.http.clone(), s.events.clone());
    for feed in ["poison", "hugefeed", "good"] {
        poller.add(spec(&format!("{uri}/{feed}"))).await.unwrap();
    }
    let mut names = Vec::new();
    while names.len() < 2 {
        names.push(s.inbox.recv().await.map(|e| format!("{e:?}")).unwrap());
    }
    assert!(names.iter().any(|n| n.contains("\"good\"")), "{names:?}");
    while poller.status().iter().any(|f| f.last_ok.is_none()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        s.names(),
        Vec::<String>::new(),
        "the repeated torrent came once, the huge one never"
    );
    s.assert_refused("torrent_size", 1);
    s.assert_refused("repeated_or_unwanted", FETCHES_PER_POLL - 1);
    s.assert_refused("quota", 1);
    let requests = s.server.received_requests().await.unwrap();
    assert_eq!(
        requests.iter().filter(|r| r.url.path() == "/same").count(),
        FETCHES_PER_POLL
    );
}

#[tokio::test]
async fn the_poller_adds_removes_polls_and_tells() {
    let mut s = setup().await;
    let uri = s.server.uri();
    serve(
        &s.server,
        "/feed",
        rss(&[("g".to_owned(), format!("{uri}/g"))]),
    )
    .await;
    serve(&s.server, "/g", torrent("good", false)).await;
    let poller = FeedPoller::start(s.http.clone(), s.events.clone());
    let (good, bad) = (format!("{uri}/feed"), format!("{uri}/missing"));
    poller.add(spec(&good)).await.unwrap();
    poller.add(spec(&bad)).await.unwrap();
    while poller
        .status()
        .iter()
        .filter(|f| f.standing != FeedStanding::New)
        .count()
        < 2
    {
        tokio::task::yield_now().await;
    }
    let status = poller.status();
    assert_eq!(
        (status[0].standing, status[0].items, &status[0].url),
        (FeedStanding::Ok, 1, &good)
    );
    assert_eq!(
        (status[1].standing, status[1].last_ok),
        (FeedStanding::Failing, None)
    );
    assert!(
        status[1].error.as_deref().unwrap().contains("404"),
        "{status:?}"
    );
    assert_eq!(s.names(), ["g: good"]);
    assert!(poller.poll_now(Some(&good)).await);
    assert!(!poller.poll_now(Some("http://nobody/")).await);
    while s
        .server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .filter(|r| r.url.path() == "/feed")
        .count()
        < 2
    {
        tokio::task::yield_now().await;
    }
    assert!(poller.remove(&bad).await);
    assert!(!poller.remove(&bad).await);
    assert!(!poller.poll_now(Some(&bad)).await);
}

#[test]
fn a_folder_is_shown_as_it_is_and_a_url_without_its_secrets() {
    assert_eq!(shown("/srv/torrents"), "/srv/torrents");
    let url = shown("https://u:p@feed.example/0123456789abcdef/rss?key=secret");
    assert_eq!(url, "https://feed.example/…/rss?key=…");
    assert_eq!(shown("secret"), "(6 characters)");
}
