//! The attack rows D1 to D7; each defence moves its counter.

use super::*;

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
