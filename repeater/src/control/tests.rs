//! Against the real listener on loopback: what opens it, what it answers, and the contract. Attacks are in `defences`.

mod command_line;
mod defences;

use std::sync::Arc;
use std::time::Duration;

use control_api::error::ErrorBody;
use control_api::paths;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::server::{Limits, serve};
use super::stub::Stub;
use super::token::Token;
use super::*;

pub(super) const TOKEN: &str = "test-token-0123456789abcdef0123456789abcdef";

/// A served stub. Counters go to a recorder of its own, which the test's only thread uses.
pub(super) struct Served {
    pub(super) addr: SocketAddr,
    pub(super) stub: Arc<Stub>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    _recorder: ::metrics::LocalRecorderGuard<'static>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) async fn served(limits: Limits) -> Served {
    let recorder = Box::leak(Box::new(super::metrics::detached().expect("recorder")));
    let metrics = recorder.handle();
    let guard = ::metrics::set_default_local_recorder(recorder);
    let stub = Arc::new(Stub::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("addr");
    let stop = CancellationToken::new();
    let api = Api::new(
        Arc::clone(&stub) as Arc<dyn Control>,
        Token::parse(TOKEN).expect("token"),
        metrics.clone(),
    );
    tokio::spawn(serve(listener, api, limits, stop.clone()));
    Served {
        addr,
        stub,
        metrics,
        stop,
        _recorder: guard,
    }
}

struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    fn counter(&self, reason: &str) -> u64 {
        let line = format!("btslave_api_refused_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        text.lines()
            .find_map(|l| l.strip_prefix(&line)?.parse().ok())
            .unwrap_or(0)
    }

    /// Sends `raw` and reads until the daemon closes.
    async fn raw(&self, raw: &[u8]) -> Option<Got> {
        let mut stream = TcpStream::connect(self.addr).await.expect("connect");
        // The daemon may close before it has read all of a hostile request.
        let _ = stream.write_all(raw).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8(text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Got {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    async fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut raw = format!(
            "{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(format!("{raw}\r\n{body}").as_bytes())
            .await
            .expect("an answer")
    }

    fn host(&self) -> String {
        self.addr.to_string()
    }
}

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

#[tokio::test]
async fn the_token_opens_and_the_answer_is_the_contract() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let got = daemon
        .request(
            "GET /api/v1/status",
            &[("Host", &host), ("Authorization", &bearer)],
            "",
        )
        .await;
    assert_eq!(got.status, 200);
    let status: serde_json::Value = serde_json::from_str(&got.body).expect("JSON");
    for key in [
        "version",
        "peer_id",
        "listen",
        "uptime_s",
        "uploaded_bytes",
        "downloaded_bytes",
        "session",
        "wasted_bytes",
        "upload_rate_bps",
        "download_rate_bps",
        "cache",
        "swarms",
        "masters",
        "friends",
        "feeds",
    ] {
        assert!(status.get(key).is_some(), "{key}");
    }
    for key in [
        "info_hash",
        "name",
        "state",
        "need",
        "peers",
        "interested_peers",
        "held_pieces",
        "uploaded_bytes",
        "downloaded_bytes",
        "to_master_bytes",
    ] {
        assert!(status["swarms"][0].get(key).is_some(), "{key}");
    }
    for header in [
        "frame-ancestors 'none'",
        "x-frame-options: deny",
        "nosniff",
        "cache-control: no-store",
    ] {
        assert!(got.head.contains(header), "{header}: {}", got.head);
    }
}

#[tokio::test]
async fn healthz_is_open_and_metrics_wants_the_token() {
    let daemon = served(Limits::default()).await;
    let host = daemon.host();
    assert_eq!(
        daemon
            .request("GET /healthz", &[("Host", &host)], "")
            .await
            .body,
        "ok\n"
    );
    assert_eq!(
        daemon
            .request("GET /metrics", &[("Host", &host)], "")
            .await
            .status,
        401
    );
    ::metrics::histogram!("btslave_forward_seconds").record(0.000_11);
    let got = daemon
        .request(
            "GET /metrics",
            &[("Host", &host), ("Authorization", &bearer())],
            "",
        )
        .await;
    assert!(
        got.body
            .contains("btslave_forward_seconds_bucket{le=\"0.000125\"} 1"),
        "{}",
        got.body
    );
    assert!(
        got.body
            .contains("btslave_forward_seconds_bucket{le=\"0.0001\"} 0"),
        "{}",
        got.body
    );
}

#[tokio::test]
async fn refusals_say_what_why_and_what_next() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let json = [
        ("Host", host.as_str()),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    for (line, body, status, what) in [
        (
            "POST /api/v1/feeds/remove",
            "{\"url\":\"http://f/\"}",
            409,
            "feed http://f/",
        ),
        ("POST /api/v1/feeds", "{\"url\":1}", 400, "request"),
        (
            "POST /api/v1/feeds",
            "{\"url\":\"a\",\"path\":\"/etc/passwd\"}",
            400,
            "request",
        ),
        ("POST /api/v1/feeds", "[[[[[[", 400, "request"),
        (
            "POST /api/v1/swarms",
            "{\"source\":\"magnet:\",\"peers\":[\"host:1\"]}",
            400,
            "peer host:1",
        ),
        (
            "POST /api/v1/swarms/ffffffffffffffffffffffffffffffffffffffff/leave",
            "{}",
            404,
            "swarm ffffffffffffffffffffffffffffffffffffffff",
        ),
        ("GET /api/v1/swarms/xyz", "", 404, "swarm xyz"),
        ("GET /api/v2/status", "", 404, "request"),
        ("GET /api/v1/pause", "", 405, "request"),
    ] {
        let got = daemon.request(line, &json, body).await;
        assert_eq!(got.status, status, "{line} {body}: {}", got.body);
        let error: ErrorBody = serde_json::from_str(&got.body).expect("an error body");
        assert_eq!(error.error.what, what);
        assert!(!error.error.why.is_empty() && !error.error.hint.is_empty());
    }
}

#[tokio::test]
async fn a_torrent_is_uploaded_with_peers_and_pin() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let headers = [
        ("Host", host.as_str()),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/x-bittorrent"),
    ];
    let line = format!(
        "POST {}?pin=true&peers=127.0.0.1:1,[::1]:2",
        paths::SWARMS_TORRENT
    );
    let got = daemon.request(&line, &headers, "d4:infod...").await;
    let added: Added = serde_json::from_str(&got.body).expect("added");
    assert!(added.pinned);
    assert_eq!(
        *daemon.stub.changes.lock(),
        ["add_torrent 11 bytes, 2 peers"]
    );
    for query in ["?path=/etc/passwd", "?peers=home:1", "?pin=perhaps"] {
        let line = format!("POST {}{query}", paths::SWARMS_TORRENT);
        assert_eq!(
            daemon.request(&line, &headers, "x").await.status,
            400,
            "{query}"
        );
    }
}

#[test]
fn openapi_lists_every_path_and_is_as_committed() {
    let text = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let described: Vec<&str> = value["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .map(String::as_str)
        .collect();
    for path in [
        paths::HEALTHZ,
        paths::METRICS,
        paths::STATUS,
        paths::SWARMS,
        paths::SWARMS_TORRENT,
        paths::SWARM,
        paths::SWARM_WHY,
        paths::SWARM_LEAVE,
        paths::FEEDS,
        paths::FEEDS_REMOVE,
        paths::FEEDS_POLL,
        paths::MASTERS,
        paths::MASTERS_REMOVE,
        paths::MASTERS_TEST,
        paths::FRIENDS,
        paths::FRIENDS_REMOVE,
        paths::FRIENDS_CODE,
        paths::FRIENDS_LEDGER,
        paths::FRIENDS_VERIFY,
        paths::FRIENDS_EXPORT,
        paths::FRIENDS_IMPORT,
        paths::RENDEZVOUS,
        paths::RENDEZVOUS_HOST,
        paths::RENDEZVOUS_JOIN,
        paths::RENDEZVOUS_LEAVE,
        paths::CACHE,
        paths::PAUSE,
        paths::RESUME,
        paths::RELOAD,
    ] {
        assert!(described.contains(&path), "{path} is not described");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/openapi.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, &text).expect("write");
    }
    let committed = std::fs::read_to_string(file).expect("openapi.json");
    assert!(
        committed == text,
        "the API changed: look at it, then run this test with UPDATE_SNAPSHOTS=1 and commit openapi.json"
    );
}
