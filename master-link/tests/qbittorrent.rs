//! qBittorrent, with answers as 4.5.2 (Web API 2.8.19) gives them, and the login of 5.2.

#![forbid(unsafe_code)]

use bt_wire::ids::InfoHash;
use master_link::{MasterRpc, Received, RpcConfig, RpcError, RpcKind, TorrentState};
use serde_json::{Value, json};
use wiremock::matchers::{body_string, header, method, path, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const PART: &str = "6740e0bb6658ad65a181998ff5f5ce2f02c434a5";

fn rpc(server: &MockServer, user: &str, password: &str) -> MasterRpc {
    let config = RpcConfig {
        kind: RpcKind::QBittorrent,
        url: server.uri(),
        user: user.to_owned(),
        password: password.to_owned(),
    };
    MasterRpc::new(&config).expect("config")
}

fn part() -> InfoHash {
    PART.parse().expect("hash")
}

fn ok(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.to_owned(), "text/plain; charset=UTF-8")
}

/// How a version of qBittorrent logs in.
#[derive(Clone, Copy)]
enum Login {
    To51,
    From52,
}

/// A qBittorrent that knows admin/adminadmin and answers 403 to whoever has no session.
async fn qbittorrent(login: Login) -> MockServer {
    let server = MockServer::start().await;
    let (good, bad) = match login {
        Login::To51 => (
            ok("Ok.").insert_header(
                "set-cookie",
                "SID=6pzUmp/D2aC3vi8E1edQu+gz; HttpOnly; path=/; SameSite=Strict",
            ),
            ok("Fails."),
        ),
        Login::From52 => (
            ResponseTemplate::new(204).insert_header(
                "set-cookie",
                "QBT_SID_8080=6pzUmp/D2aC3vi8E1edQu+gz; HttpOnly; path=/; SameSite=Lax",
            ),
            ResponseTemplate::new(401).set_body_string("Unauthorized"),
        ),
    };
    // Both headers are what the check against cross-site forgery looks at.
    let referer = format!("{}/", server.uri());
    Mock::given(method("POST"))
        .and(path("/api/v2/auth/login"))
        .and(header("Referer", referer.as_str()))
        .and(header("Origin", server.uri().as_str()))
        .and(body_string("username=admin&password=adminadmin"))
        .respond_with(good)
        .with_priority(3)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/api/v2/auth/login"))
        .respond_with(bad)
        .with_priority(4)
        .mount(&server)
        .await;
    Mock::given(|_: &Request| true)
        .respond_with(ResponseTemplate::new(403).set_body_string("Forbidden"))
        .with_priority(9)
        .mount(&server)
        .await;
    server
}

/// Adds an answer to those with a session.
async fn answer(server: &MockServer, verb: &str, at: &str, with: ResponseTemplate) {
    let logged_in = |request: &Request| {
        let cookie = request
            .headers
            .get("cookie")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        cookie.ends_with("SID=6pzUmp/D2aC3vi8E1edQu+gz")
            || cookie == "QBT_SID_8080=6pzUmp/D2aC3vi8E1edQu+gz"
    };
    Mock::given(method(verb))
        .and(path(format!("/api/v2/{at}")))
        .and(logged_in)
        .respond_with(with)
        .with_priority(5)
        .mount(server)
        .await;
}

async fn logins(server: &MockServer) -> usize {
    let requests = server.received_requests().await.expect("recorded");
    requests
        .iter()
        .filter(|request| request.url.path().ends_with("auth/login"))
        .count()
}

#[tokio::test]
async fn test_logs_in_both_ways_and_tells_version_and_port() {
    for login in [Login::To51, Login::From52] {
        let server = qbittorrent(login).await;
        answer(&server, "GET", "app/version", ok("v4.5.2")).await;
        answer(&server, "GET", "app/webapiVersion", ok("2.8.19")).await;
        let preferences = ResponseTemplate::new(200)
            .set_body_json(json!({"add_trackers": "", "listen_port": 6999, "random_port": false}));
        answer(&server, "GET", "app/preferences", preferences).await;
        let report = rpc(&server, "admin", "adminadmin")
            .test()
            .await
            .expect("test");
        assert_eq!(report.version.client, "qBittorrent v4.5.2");
        assert_eq!(
            (report.version.api.as_str(), report.peer_port),
            ("2.8.19", 6999)
        );
        assert_eq!(logins(&server).await, 1);
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_for_qbittorrent_bans_after_five() {
    for login in [Login::To51, Login::From52] {
        let server = qbittorrent(login).await;
        let rpc = rpc(&server, "admin", "hunter2");
        for _ in 0..3 {
            let error = rpc.torrents().await.expect_err("refused");
            assert!(matches!(error, RpcError::WrongPassword { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(logins(&server).await, 1);
        assert!(matches!(
            rpc.test().await,
            Err(RpcError::WrongPassword { .. })
        ));
        assert_eq!(logins(&server).await, 2);
    }
}

#[tokio::test]
async fn without_a_user_no_login_is_tried() {
    let server = qbittorrent(Login::To51).await;
    let error = rpc(&server, "", "").torrents().await.expect_err("refused");
    assert!(
        matches!(&error, RpcError::WrongPassword { .. })
            && error.to_string().contains("no user is set"),
        "{error}"
    );
    assert_eq!(logins(&server).await, 0);
}

#[tokio::test]
async fn a_session_that_ran_out_is_renewed() {
    let server = qbittorrent(Login::To51).await;
    answer(&server, "GET", "torrents/pieceStates", ok("[2]")).await;
    let rpc = rpc(&server, "admin", "adminadmin");
    rpc.held_pieces(part()).await.expect("logged in");
    let gone = ResponseTemplate::new(403).set_body_string("Forbidden");
    Mock::given(path("/api/v2/torrents/pieceStates"))
        .respond_with(gone)
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&server)
        .await;
    rpc.held_pieces(part()).await.expect("logged in again");
    assert_eq!(logins(&server).await, 2);
}

#[tokio::test]
async fn being_kept_out_is_not_a_wrong_password() {
    let banned = "Your IP address has been banned after too many failed authentication attempts.";
    for (at, status, body, word) in [
        ("/api/v2/auth/login", 403, banned, "banned"),
        ("/api/v2/torrents/info", 401, "Unauthorized", "Host header"),
        ("/api/v2/torrents/info", 403, "Forbidden", "cookies"),
    ] {
        let server = qbittorrent(Login::To51).await;
        let no = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(path(at))
            .respond_with(no)
            .with_priority(1)
            .mount(&server)
            .await;
        let error = rpc(&server, "admin", "adminadmin")
            .torrents()
            .await
            .expect_err("kept out");
        assert!(
            matches!(&error, RpcError::Forbidden { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
}

fn torrent(hash: &str, state: &str, left: i64, completed: i64, total: i64) -> Value {
    json!({"amount_left": left, "completed": completed, "hash": hash, "infohash_v1": hash, "infohash_v2": "", "name": "n",
        "progress": 0.065536, "size": total.max(0), "state": state, "total_size": total, "downloaded": 0})
}

async fn listed(list: Vec<Value>) -> (MockServer, Vec<master_link::MasterTorrent>, MasterRpc) {
    let server = qbittorrent(Login::To51).await;
    answer(
        &server,
        "GET",
        "torrents/info",
        ResponseTemplate::new(200).set_body_json(list),
    )
    .await;
    let rpc = rpc(&server, "admin", "adminadmin");
    let torrents = rpc.torrents().await.expect("torrents");
    (server, torrents, rpc)
}

#[tokio::test]
async fn torrents_in_every_state() {
    let hash = |n: u8| format!("{n:02x}").repeat(20);
    let (_server, torrents, _) = listed(vec![
        torrent(
            "f32ee5e9ba5fd8d979c33501ea7acd9ceca4a46f",
            "stalledUP",
            0,
            300_000,
            300_000,
        ),
        torrent(PART, "stalledDL", 934_464, 65536, 1_000_000),
        torrent(&hash(0x12), "metaDL", 0, 0, -1),
        torrent(&hash(0x13), "pausedDL", 0, 0, -1),
        torrent(&hash(0x14), "checkingResumeData", 0, 5, 5),
        torrent(&hash(0x15), "stoppedUP", 0, 5, 5),
        torrent(&hash(0x16), "a state of the future", 5, 0, 5),
    ])
    .await;
    let seen: Vec<_> = torrents
        .iter()
        .map(|t| {
            (
                t.state,
                t.complete,
                t.exportable,
                t.left_bytes,
                t.total_bytes,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (TorrentState::Seeding, true, true, 0, 300_000),
            (TorrentState::Downloading, false, true, 934_464, 1_000_000),
            (TorrentState::Metadata, false, false, 0, 0),
            (TorrentState::Stopped, false, false, 0, 0),
            (TorrentState::Checking, false, true, 0, 5),
            (TorrentState::Stopped, true, true, 0, 5),
            (TorrentState::Stopped, false, true, 5, 5),
        ]
    );
    assert_eq!(
        (
            torrents[1].info_hash,
            torrents[1].have_bytes,
            torrents[1].private
        ),
        (part(), 65536, None)
    );
}

#[tokio::test]
async fn the_private_flag_of_5_0_is_read() {
    let with = |hash: u8, private: Value| {
        let mut torrent = torrent(&format!("{hash:02x}").repeat(20), "stalledDL", 5, 0, 5);
        torrent["private"] = private;
        torrent
    };
    let (_server, torrents, _) = listed(vec![
        with(1, json!(true)),
        with(2, json!(false)),
        with(3, Value::Null),
    ])
    .await;
    let flags: Vec<_> = torrents.iter().map(|t| t.private).collect();
    assert_eq!(flags, [Some(true), Some(false), None]);
}

#[tokio::test]
async fn a_hybrid_torrent_is_asked_for_by_qbittorrents_own_name() {
    let name = "ab".repeat(20);
    let mut hybrid = torrent(&name, "stalledDL", 5, 0, 5);
    hybrid["infohash_v1"] = json!(PART);
    hybrid["infohash_v2"] = json!("ab".repeat(32));
    let (server, torrents, rpc) = listed(vec![hybrid]).await;
    assert_eq!(torrents[0].info_hash, part());
    Mock::given(path("/api/v2/torrents/pieceStates"))
        .and(query_param("hash", name.as_str()))
        .respond_with(ok("[0,2]"))
        .with_priority(4)
        .mount(&server)
        .await;
    let held = rpc
        .held_pieces(part())
        .await
        .expect("pieces")
        .expect("metadata");
    assert_eq!(held.iter_ones().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn held_pieces() {
    for (body, held) in [("[2,0,1,2]", Some(vec![0, 3])), ("[]", None)] {
        let server = qbittorrent(Login::To51).await;
        answer(&server, "GET", "torrents/pieceStates", ok(body)).await;
        let answer = rpc(&server, "admin", "adminadmin")
            .held_pieces(part())
            .await
            .expect("pieces");
        assert_eq!(
            answer.map(|pieces| pieces.iter_ones().collect::<Vec<_>>()),
            held
        );
    }
}

#[tokio::test]
async fn export_gives_the_bytes_or_none() {
    let cases = [
        (
            ok("d8:announce3:a\u{1}be"),
            Some(b"d8:announce3:a\x01be".to_vec()),
        ),
        (
            ResponseTemplate::new(404).set_body_string("Not Found"),
            None,
        ),
        (
            ResponseTemplate::new(409)
                .set_body_string("Unable to export torrent file. Error: Missing metadata"),
            None,
        ),
    ];
    for (with, expected) in cases {
        let server = qbittorrent(Login::To51).await;
        answer(&server, "GET", "torrents/export", with).await;
        assert_eq!(
            rpc(&server, "admin", "adminadmin").export(part()).await,
            Ok(expected)
        );
    }
}

#[tokio::test]
async fn add_peer_reads_what_became_of_it() {
    let peer = "[2001:db8::1]:6881".parse().expect("address");
    let added = |n: u32| json!({PART: {"added": n, "failed": 1 - n}});
    let results = [
        ResponseTemplate::new(200).set_body_json(added(1)),
        ResponseTemplate::new(200).set_body_json(added(0)),
        ResponseTemplate::new(200).set_body_json(json!({})),
        ResponseTemplate::new(400).set_body_string("No valid peers were specified"),
    ];
    let mut seen = Vec::new();
    for with in results {
        let server = qbittorrent(Login::To51).await;
        answer(&server, "POST", "torrents/addPeers", with).await;
        seen.push(
            rpc(&server, "admin", "adminadmin")
                .add_peer(part(), peer)
                .await,
        );
        let requests = server.received_requests().await.expect("recorded");
        let body = format!("hashes={PART}&peers=%5B2001%3Adb8%3A%3A1%5D%3A6881");
        assert_eq!(
            requests.last().map(|last| last.body.clone()),
            Some(body.into_bytes())
        );
    }
    assert_eq!(seen[0], Ok(()));
    assert!(
        matches!(&seen[1], Err(RpcError::Protocol { why, .. }) if why.contains("did not take")),
        "{seen:?}"
    );
    assert!(
        matches!(&seen[2], Err(RpcError::UnknownTorrent { .. })),
        "{seen:?}"
    );
    assert!(
        matches!(&seen[3], Err(RpcError::Protocol { why, .. }) if why.contains("No valid peers")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn peers_have_exact_counts() {
    let server = qbittorrent(Login::To51).await;
    let peers = json!({"full_update": true, "rid": 1, "show_flags": true, "peers": {
        "127.0.0.1:51413": {"client": "Transmission 3.00", "connection": "BT", "country": "N/A", "country_code": "",
            "dl_speed": 0, "downloaded": 8_388_608, "files": "", "flags": "U E", "flags_desc": "", "ip": "127.0.0.1",
            "peer_id_client": "-TR3000-", "port": 51413, "progress": 0, "relevance": 0, "up_speed": 11161, "uploaded": 55808},
        "hidden": {"ip": "x.b32.i2p", "port": 0, "downloaded": 1},
    }});
    answer(
        &server,
        "GET",
        "sync/torrentPeers",
        ResponseTemplate::new(200).set_body_json(peers),
    )
    .await;
    let peers = rpc(&server, "admin", "adminadmin")
        .peers(part())
        .await
        .expect("peers");
    assert_eq!(peers.len(), 1);
    assert_eq!(
        (peers[0].address.to_string().as_str(), peers[0].received),
        ("127.0.0.1:51413", Received::Total(8_388_608))
    );
}

#[tokio::test]
async fn an_unknown_torrent_is_named() {
    let server = qbittorrent(Login::To51).await;
    for at in ["torrents/pieceStates", "sync/torrentPeers"] {
        answer(
            &server,
            "GET",
            at,
            ResponseTemplate::new(404).set_body_string("Not Found"),
        )
        .await;
    }
    let rpc = rpc(&server, "admin", "adminadmin");
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
async fn nonsense_is_a_protocol_error() {
    for body in [
        "<html>",
        "{}",
        r#"[{"hash":"zz"}]"#,
        r#"[{"hash":"zz","name":"","state":"","amount_left":0,"completed":0,"total_size":0}]"#,
    ] {
        let server = qbittorrent(Login::To51).await;
        answer(&server, "GET", "torrents/info", ok(body)).await;
        let error = rpc(&server, "admin", "adminadmin")
            .torrents()
            .await
            .expect_err("nonsense");
        assert!(matches!(error, RpcError::Protocol { .. }), "{error}");
    }
}
