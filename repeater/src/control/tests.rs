//! The attack rows D1 to D7 against the real listener on loopback; each defence moves its counter.

mod command_line;

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
async fn d1_a_foreign_host_is_403_before_routing_even_with_the_token() {
    let daemon = served(Limits::default()).await;
    let bearer = bearer();
    for (n, host) in [
        "evil.example",
        "evil.example:8470",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "a@127.0.0.1",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        for path in ["GET /api/v1/status", "GET /nowhere", "GET /healthz"] {
            let got = daemon
                .request(path, &[("Host", host), ("Authorization", &bearer)], "")
                .await;
            assert_eq!(got.status, 403, "{host} {path}");
        }
        assert_eq!(daemon.counter("host"), 3 * (n as u64 + 1));
    }
    for host in [
        daemon.host().as_str(),
        "localhost",
        "LOCALHOST:1",
        "127.9.9.9",
        "[::1]:8470",
    ] {
        assert_eq!(
            daemon
                .request(
                    "GET /api/v1/status",
                    &[("Host", host), ("Authorization", &bearer)],
                    ""
                )
                .await
                .status,
            200,
            "{host}"
        );
    }
    let absolute = daemon
        .request(
            "GET http://evil.example/api/v1/status",
            &[("Host", "localhost"), ("Authorization", &bearer)],
            "",
        )
        .await;
    assert_eq!(absolute.status, 403);
    let twice = daemon
        .request(
            "GET /healthz",
            &[("Host", "localhost"), ("Host", "evil.example")],
            "",
        )
        .await;
    assert!(twice.status == 403 || twice.status == 400);
}

#[tokio::test]
async fn d2_another_page_may_nothing() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let base = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    for origin in [
        "http://evil.example",
        "null",
        "https://127.0.0.1",
        "http://localhost:3000",
        "",
    ] {
        let headers = [
            base[0],
            base[1],
            ("Origin", origin),
            ("Content-Type", "text/plain"),
        ];
        assert_eq!(
            daemon
                .request("POST /api/v1/pause", &headers, "{}")
                .await
                .status,
            403,
            "{origin}"
        );
        assert_eq!(
            daemon
                .request("GET /api/v1/status", &headers[..3], "")
                .await
                .status,
            403,
            "{origin}"
        );
    }
    assert_eq!(daemon.counter("origin"), 10);
    let cross = [
        base[0],
        base[1],
        ("Sec-Fetch-Site", "cross-site"),
        ("Content-Type", "application/json"),
    ];
    assert_eq!(
        daemon
            .request("POST /api/v1/pause", &cross, "{}")
            .await
            .status,
        403
    );
    assert!(daemon.stub.changes.lock().is_empty());
}

#[tokio::test]
async fn d2_what_a_form_can_send_is_refused_and_the_own_page_may() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let base = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ] {
        let headers = [base[0], base[1], ("Content-Type", kind)];
        assert_eq!(
            daemon
                .request("POST /api/v1/pause", &headers, "{}")
                .await
                .status,
            415,
            "{kind}"
        );
    }
    assert_eq!(daemon.counter("content_type"), 4);
    assert!(daemon.stub.changes.lock().is_empty());
    let own = format!("http://{host}");
    let same = [
        base[0],
        base[1],
        ("Origin", own.as_str()),
        ("Content-Type", "application/json; charset=utf-8"),
    ];
    assert_eq!(
        daemon
            .request("POST /api/v1/pause", &same, "{}")
            .await
            .status,
        200
    );
    assert_eq!(*daemon.stub.changes.lock(), ["pause true"]);
}

#[tokio::test]
async fn d2_no_get_changes_anything() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let headers = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    let document = serde_json::to_value(document()).expect("JSON");
    let all = document["paths"].as_object().expect("paths");
    assert!(all.len() >= 18);
    for path in all.keys() {
        let path = path.replace("{hash}", super::stub::HASH);
        for method in ["GET", "HEAD"] {
            daemon
                .request(&format!("{method} {path}"), &headers, "")
                .await;
        }
        for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let got = daemon
                .request(&format!("{method} {path}"), &headers, "")
                .await;
            assert_eq!(got.status, 405, "{method} {path}");
        }
    }
    assert!(daemon.counter("method") > 0);
    assert!(daemon.stub.changes.lock().is_empty());
}

#[tokio::test]
async fn d5_traversal_finds_nothing() {
    let daemon = served(Limits::default()).await;
    let host = daemon.host();
    for path in [
        "/..%2f..%2fetc/passwd",
        "/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "/api/v1/swarms/..%2f..%2fetc%2fpasswd",
        "/api/../etc/passwd",
    ] {
        let got = daemon
            .request(
                &format!("GET {path}"),
                &[("Host", &host), ("Authorization", &bearer())],
                "",
            )
            .await;
        assert_eq!(got.status, 404, "{path}");
        assert!(!got.body.contains("root:"));
    }
    assert_eq!(
        daemon
            .request("GET /..%2f..%2fetc/passwd", &[("Host", &host)], "")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn d6_ten_failures_then_429_whatever_proxies_say() {
    let daemon = served(Limits::default()).await;
    let host = daemon.host();
    let fail = async |n: u32, value: &str| {
        let forwarded = format!("10.0.0.{n}");
        let headers = [
            ("Host", host.as_str()),
            ("Authorization", value),
            ("X-Forwarded-For", forwarded.as_str()),
            ("X-Forwarded-Host", "localhost"),
            ("Forwarded", "for=10.1.1.1"),
        ];
        daemon.request("GET /api/v1/status", &headers, "").await
    };
    let almost = format!("Bearer {}x", &TOKEN[..TOKEN.len() - 1]);
    for n in 0..10 {
        let got = fail(
            n,
            [almost.as_str(), "Bearer ", "Basic eDp4", TOKEN, "Bearer"][n as usize % 5],
        )
        .await;
        assert_eq!(got.status, 401);
        assert!(!got.body.contains(TOKEN));
    }
    let got = fail(10, &almost).await;
    assert_eq!(got.status, 429);
    assert!(got.head.contains("retry-after: 1"), "{}", got.head);
    assert_eq!(
        (daemon.counter("token"), daemon.counter("backoff")),
        (10, 1)
    );
    // The operator is not locked out by somebody else's failures.
    assert_eq!(fail(11, &bearer()).await.status, 200);
    // A token in the URL is no token.
    let query = daemon
        .request(
            &format!("GET /api/v1/status?token={TOKEN}"),
            &[("Host", &host)],
            "",
        )
        .await;
    assert_eq!(query.status, 429);
    // X-Forwarded-Host does not replace Host.
    let rebound = daemon
        .request(
            "GET /healthz",
            &[("Host", "evil.example"), ("X-Forwarded-Host", "localhost")],
            "",
        )
        .await;
    assert_eq!(rebound.status, 403);
}

#[tokio::test]
async fn d7_bodies_and_heads_are_capped() {
    let daemon = served(Limits::default()).await;
    let (host, bearer) = (daemon.host(), bearer());
    let json = [
        ("Host", host.as_str()),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let big = format!("{{\"url\":\"http://{}\"}}", "a".repeat(70 << 10));
    assert_eq!(
        daemon
            .request("POST /api/v1/feeds", &json, &big)
            .await
            .status,
        413
    );
    let announced = format!(
        "POST /api/v1/swarms/torrent HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nContent-Type: application/x-bittorrent\r\nContent-Length: 1000000000\r\n\r\n"
    );
    assert_eq!(
        daemon
            .raw(announced.as_bytes())
            .await
            .expect("an answer")
            .status,
        413
    );
    assert_eq!(daemon.counter("body_size"), 2);
    let line = format!(
        "GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let got = daemon.raw(line.as_bytes()).await;
    assert!(got.is_none_or(|got| matches!(got.status, 414 | 431)));
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: {host}\r\n{}\r\n",
        "A: b\r\n".repeat(100)
    );
    assert_eq!(
        daemon.raw(many.as_bytes()).await.expect("an answer").status,
        431
    );
    assert!(daemon.counter("head_size") >= 1);
    assert!(daemon.stub.changes.lock().is_empty());
    assert_eq!(
        daemon.request("GET /healthz", &json[..1], "").await.status,
        200,
        "still serving"
    );
}

#[tokio::test]
async fn d7_slow_heads_and_too_many_connections_are_closed() {
    let limits = Limits {
        connections: 2,
        head_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let daemon = served(limits).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(daemon.addr).await.expect("connect");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHo")
            .await
            .expect("write");
        idle.push(stream);
    }
    let mut third = TcpStream::connect(daemon.addr).await.expect("connect");
    let mut nothing = Vec::new();
    let _ = third.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    assert_eq!(daemon.counter("connections"), 1);
    for mut stream in idle {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        assert!(!text.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(daemon.counter("head_timeout"), 2);
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
