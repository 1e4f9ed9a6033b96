//! Transmission, with answers as Transmission 3.00 gives them.

#![forbid(unsafe_code)]

use bt_wire::ids::InfoHash;
use master_link::{MasterRpc, Received, RpcConfig, RpcError, RpcKind, TorrentState};
use serde_json::json;
use wiremock::matchers::{basic_auth, body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const PART: &str = "6740e0bb6658ad65a181998ff5f5ce2f02c434a5";

fn rpc(server: &MockServer, password: &str) -> MasterRpc {
    let config = RpcConfig {
        kind: RpcKind::Transmission,
        url: server.uri(),
        user: "rig".to_owned(),
        password: password.to_owned(),
    };
    MasterRpc::new(&config).expect("config")
}

fn part() -> InfoHash {
    PART.parse().expect("hash")
}

/// A Transmission that demands login and session id, as the real one does, and answers `method` with `arguments`.
async fn transmission(call: serde_json::Value, answer: serde_json::Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/transmission/rpc"))
        .and(basic_auth("rig", "rig"))
        .and(header(
            "X-Transmission-Session-Id",
            "APTQ9DBA9xSYqjnNHWV04tULnDOV4usn",
        ))
        .and(body_partial_json(call))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/transmission/rpc"))
        .and(basic_auth("rig", "rig"))
        .respond_with(
            ResponseTemplate::new(409)
                .insert_header(
                    "X-Transmission-Session-Id",
                    "APTQ9DBA9xSYqjnNHWV04tULnDOV4usn",
                )
                .set_body_string("<h1>409: Conflict</h1>"),
        )
        .with_priority(2)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(401).set_body_string(
            "<h1>401: Unauthorized</h1><p>Unauthorized User. 1 unsuccessful login attempts.</p>",
        ))
        .with_priority(3)
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn test_logs_in_and_tells_version_and_port() {
    let server = transmission(
        json!({"method": "session-get"}),
        json!({"arguments": {"peer-port": 51413, "rpc-version": 16, "version": "3.00 (bb6b5a062e)"}, "result": "success"}),
    )
    .await;
    let report = rpc(&server, "rig").test().await.expect("test");
    assert_eq!(report.version.client, "Transmission 3.00 (bb6b5a062e)");
    assert_eq!(
        (report.version.api.as_str(), report.peer_port),
        ("16", 51413)
    );
    // The session id is asked for once, then kept.
    assert_eq!(server.received_requests().await.expect("recorded").len(), 3);
}

fn torrent(
    hash: &str,
    status: i64,
    bytes: (i64, i64, i64),
    metadata: f64,
    private: bool,
) -> serde_json::Value {
    let (left, have, total) = bytes;
    json!({"hashString": hash, "haveValid": have, "isPrivate": private, "leftUntilDone": left,
        "metadataPercentComplete": metadata, "name": "n", "status": status, "totalSize": total})
}

#[tokio::test]
async fn torrents_in_every_state() {
    let hash = |n: u8| format!("{n:02x}").repeat(20);
    let list = [
        torrent(&hash(1), 6, (0, 300_000, 300_000), 1.0, false),
        torrent(PART, 4, (934_464, 65536, 1_000_000), 1.0, true),
        torrent(&hash(2), 4, (0, 0, 0), 0.0, false),
        torrent(&hash(3), 2, (0, 5, 5), 1.0, false),
        torrent(&hash(4), 3, (5, 0, 5), 1.0, false),
    ];
    let server = transmission(
        json!({"method": "torrent-get"}),
        json!({"arguments": {"torrents": list}, "result": "success"}),
    )
    .await;
    let torrents = rpc(&server, "rig").torrents().await.expect("torrents");
    let seen: Vec<_> = torrents
        .iter()
        .map(|t| (t.state, t.complete, t.private, t.left_bytes))
        .collect();
    assert_eq!(
        seen,
        [
            (TorrentState::Seeding, true, Some(false), 0),
            (TorrentState::Downloading, false, Some(true), 934_464),
            (TorrentState::Metadata, false, None, 0),
            (TorrentState::Checking, false, Some(false), 0),
            (TorrentState::Stopped, false, Some(false), 5),
        ]
    );
    assert_eq!(
        (
            torrents[1].info_hash,
            torrents[1].have_bytes,
            torrents[1].total_bytes
        ),
        (part(), 65536, 1_000_000)
    );
    assert!(torrents.iter().all(|t| !t.exportable));
}

#[tokio::test]
async fn held_pieces_come_as_base64() {
    let answer = |count: u32, pieces: &str| json!({"arguments": {"torrents": [{"hashString": PART, "pieceCount": count, "pieces": pieces}]}, "result": "success"});
    let call = json!({"method": "torrent-get", "arguments": {"ids": [PART]}});
    let server = transmission(call.clone(), answer(31, "kAAAAA==")).await;
    let held = rpc(&server, "rig")
        .held_pieces(part())
        .await
        .expect("pieces")
        .expect("metadata");
    assert_eq!(
        (held.len(), held.iter_ones().collect::<Vec<_>>()),
        (31, vec![0, 3])
    );

    let server = transmission(call.clone(), answer(0, "")).await;
    assert_eq!(rpc(&server, "rig").held_pieces(part()).await, Ok(None));

    for (count, pieces) in [
        (31, "kAAA"),
        (4_000_000_000, "kAAAAA=="),
        (31, "%"),
        (31, "kAAAAQ=="),
    ] {
        let server = transmission(call.clone(), answer(count, pieces)).await;
        let error = rpc(&server, "rig")
            .held_pieces(part())
            .await
            .expect_err("nonsense");
        assert!(matches!(error, RpcError::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn peers_have_rates() {
    let server = transmission(
        json!({"method": "torrent-get", "arguments": {"ids": [PART], "fields": ["peers"]}}),
        json!({"arguments": {"torrents": [{"peers": [
            {"address": "127.0.0.1", "clientIsChoked": false, "clientIsInterested": true, "clientName": "qBittorrent 4.5.2",
             "flagStr": "DEI", "isDownloadingFrom": true, "isEncrypted": true, "isIncoming": true, "isUTP": false,
             "isUploadingTo": false, "peerIsChoked": true, "peerIsInterested": false, "port": 6999, "progress": 1,
             "rateToClient": 25000, "rateToPeer": 0},
            {"address": "::ffff:192.0.2.1", "clientName": "", "port": 1, "rateToClient": 0},
        ]}]}, "result": "success"}),
    )
    .await;
    let peers = rpc(&server, "rig").peers(part()).await.expect("peers");
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:6999", "192.0.2.1:1"]);
    assert_eq!(
        (peers[0].received, peers[0].client.as_str()),
        (Received::Rate(25000), "qBittorrent 4.5.2")
    );
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_again_for_a_person() {
    let server = transmission(json!({}), json!({})).await;
    let rpc = rpc(&server, "hunter2");
    for _ in 0..3 {
        let error = rpc.torrents().await.expect_err("refused");
        assert!(matches!(error, RpcError::WrongPassword { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&server.uri()) && text.contains("\"rig\"") && !text.contains("hunter2"),
            "{text}"
        );
    }
    assert_eq!(server.received_requests().await.expect("recorded").len(), 1);
    assert!(matches!(
        rpc.test().await,
        Err(RpcError::WrongPassword { .. })
    ));
    assert_eq!(server.received_requests().await.expect("recorded").len(), 2);
}

#[tokio::test]
async fn what_transmission_cannot_do_is_said_without_asking() {
    let server = MockServer::start().await;
    let rpc = rpc(&server, "rig");
    let peer = "192.0.2.1:6881".parse().expect("address");
    assert!(matches!(
        rpc.add_peer(part(), peer).await,
        Err(RpcError::Unsupported { .. })
    ));
    assert_eq!(rpc.export(part()).await, Ok(None));
    assert!(
        server
            .received_requests()
            .await
            .expect("recorded")
            .is_empty()
    );
}

#[tokio::test]
async fn an_unknown_torrent_is_named() {
    let server = transmission(
        json!({"method": "torrent-get"}),
        json!({"arguments": {"torrents": []}, "result": "success"}),
    )
    .await;
    let rpc = rpc(&server, "rig");
    for error in [
        rpc.held_pieces(part()).await.expect_err("unknown"),
        rpc.peers(part()).await.expect_err("unknown"),
    ] {
        assert!(
            matches!(error, RpcError::UnknownTorrent { .. }) && error.to_string().contains(PART),
            "{error}"
        );
    }
}

#[tokio::test]
async fn other_statuses_say_what_to_do() {
    let cases = [
        (
            ResponseTemplate::new(403).set_body_string("<p>Unauthorized IP Address.</p>"),
            "rpc-whitelist",
        ),
        (ResponseTemplate::new(421), "rpc-host-whitelist"),
        (
            ResponseTemplate::new(301).insert_header("Location", "/transmission/web/"),
            "/transmission/web/",
        ),
        (ResponseTemplate::new(409), "X-Transmission-Session-Id"),
        (
            ResponseTemplate::new(404).set_body_string("Not\u{1b}[2J Found"),
            r"Not\u{1b}[2J Found",
        ),
        (
            ResponseTemplate::new(200).set_body_string("<html>"),
            "bad JSON",
        ),
        (
            ResponseTemplate::new(200).set_body_string(format!(
                r#"{{"result":"success","arguments":{}"#,
                "[".repeat(100_000)
            )),
            "recursion",
        ),
        (
            ResponseTemplate::new(200)
                .set_body_json(json!({"result": "method name not recognized"})),
            "not recognized",
        ),
        (
            ResponseTemplate::new(200).set_body_json(json!({"result": "success", "arguments": {}})),
            "missing field",
        ),
    ];
    for (answer, word) in cases {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(answer)
            .mount(&server)
            .await;
        let error = rpc(&server, "rig").version().await.expect_err("odd");
        let right_kind = matches!(
            &error,
            RpcError::Forbidden { .. } | RpcError::Protocol { .. }
        );
        assert!(
            right_kind && error.to_string().contains(word),
            "{word}: {error}"
        );
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let server = MockServer::start().await;
    let long = ResponseTemplate::new(200).set_body_bytes(vec![b' '; master_link::MAX_BODY + 1]);
    Mock::given(method("POST"))
        .respond_with(long)
        .mount(&server)
        .await;
    let error = rpc(&server, "rig").version().await.expect_err("too long");
    assert!(
        matches!(&error, RpcError::Protocol { why, .. } if why.contains("longer than")),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("port");
    let config = RpcConfig {
        kind: RpcKind::Transmission,
        url: format!("http://{free}/transmission/rpc"),
        user: String::new(),
        password: String::new(),
    };
    let error = MasterRpc::new(&config)
        .expect("config")
        .test()
        .await
        .expect_err("nobody there");
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&config.url) && text.contains("refused"),
        "{text}"
    );
    assert_eq!(text.matches(&config.url).count(), 1, "{text}");
}
