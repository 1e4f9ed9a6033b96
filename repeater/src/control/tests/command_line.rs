//! `slavectl` against the API as it is served.

use super::super::server::Limits;
use super::super::stub;
use super::{Served, TOKEN, served};

/// What a run of `slavectl` printed.
struct Ran {
    status: u8,
    out: String,
    err: String,
}

async fn slavectl(daemon: &Served, dir: &std::path::Path, args: &[&str]) -> Ran {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let token = dir.join("token");
    std::fs::write(&token, TOKEN).expect("token");
    let api = format!("http://{}", daemon.addr);
    let head = [
        "slavectl",
        "--api",
        &api,
        "--token-file",
        token.to_str().expect("path"),
    ];
    let args = head.iter().chain(args).map(std::ffi::OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = slavectl::Io {
        out: &mut out,
        err: &mut err,
        colour: false,
        terminal: false,
    };
    let status = slavectl::run(args, &mut io).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran {
        status,
        out: text(out),
        err: text(err),
    }
}

/// Prints `holds` as text, one document as JSON, and nothing that a terminal could obey in either.
async fn assert_shows(daemon: &Served, dir: &std::path::Path, args: &[&str], holds: &[&str]) {
    for json in [false, true] {
        let all: Vec<&str> = args
            .iter()
            .copied()
            .chain(json.then_some("--json"))
            .collect();
        let ran = slavectl(daemon, dir, &all).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{all:?}");
        let raw = |c: char| c != '\n' && control_api::text::is_unsafe(c);
        assert!(!ran.out.contains(raw), "{all:?}: {:?}", ran.out);
        if json {
            serde_json::from_str::<serde_json::Value>(&ran.out).expect("one JSON document");
        } else {
            holds
                .iter()
                .for_each(|text| assert!(ran.out.contains(text), "{all:?}: {text}\n{}", ran.out));
        }
    }
}

#[tokio::test]
async fn slavectl_reads_what_the_daemon_says_and_a3_shows_nothing_raw() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    for (args, holds) in [
        (
            &["status"][..],
            &[
                "btslave 0.1.0",
                "2.0 MiB/s of 2.0 MiB/s",
                "48.0 MiB of 64.0 MiB",
                "0123456789",
                "home.example:51413",
                "404 Not Found",
            ][..],
        ),
        (
            &["swarms"],
            &["HASH", "evil\\u{1b}]0;owned", "3.25", "(pinned)"],
        ),
        (&["swarms", "list"], &["Other"]),
        (
            &["swarms", "show", "01234567"],
            &["256 pieces of 256 KiB", "http://t.example:6969"],
        ),
        (
            &["swarms", "why", stub::HASH],
            &["number 1 of 2", "feed https://feeds.example/rss", "2.50"],
        ),
        (&["feeds"], &["https://feeds.example/rss", "failed"]),
        (&["master"], &["connected", "100 pieces"]),
        (&["cache"], &["75 %", "3.0 MiB"]),
        (
            &["rendezvous"],
            &[
                "host, joined",
                "of them slaves: 3",
                "17 that were no slaves",
                "failed: ",
            ],
        ),
        (&["reload"], &["limits.upload"]),
    ] {
        assert_shows(&daemon, dir.path(), args, holds).await;
    }
    let ran = slavectl(&daemon, dir.path(), &["--json", "status"]).await;
    let status: control_api::status::Status = serde_json::from_str(&ran.out).expect("status");
    assert_eq!(status, stub::status(), "escaped, and yet the same");
}

#[tokio::test]
async fn slavectl_changes_things() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    let file = dir.path().join("a.torrent");
    std::fs::write(&file, "d4:info").expect("write");
    let magnet = format!("magnet:?xt=urn:btih:{}", stub::HASH);
    for args in [
        &[
            "swarms",
            "add",
            file.to_str().expect("path"),
            "--peer",
            "127.0.0.1:6881",
            "--peer",
            "[::1]:6881",
            "--pin",
        ][..],
        &["swarms", "add", &magnet],
        &["swarms", "leave", "01234567"],
        &["feeds", "add", "http://f/"],
        &["feeds", "poll"],
        &[
            "master",
            "add",
            "home",
            "h:1",
            "--rpc",
            "transmission",
            "http://h:9091/",
        ],
        &["master", "remove", "home"],
        &["pause"],
        &["resume"],
        &["reload"],
    ] {
        let ran = slavectl(&daemon, dir.path(), args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(!ran.out.is_empty());
    }
    let source = format!("add_source {magnet}, 0 peers");
    let leave = format!("leave {}", stub::HASH);
    let expected = [
        "add_torrent 7 bytes, 2 peers",
        &source,
        &leave,
        "add_feed http://f/",
        "poll None",
        "add_master home h:1 rpc=true",
        "remove_master home",
        "pause true",
        "pause false",
        "reload",
    ];
    assert_eq!(*daemon.stub.changes.lock(), expected);
}

#[tokio::test]
async fn slavectl_hosts_joins_and_leaves_a_rendezvous() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    let file = dir.path().join("a.torrent");
    std::fs::write(&file, "d4:info").expect("write");
    let made = dir.path().join("made.torrent");
    let magnet = format!("magnet:?xt=urn:btih:{}", stub::HASH);
    for args in [
        &[
            "rendezvous",
            "host",
            "our place",
            "--listen",
            "192.0.2.1:6969",
            "-t",
            "http://t/announce",
            "-o",
            made.to_str().expect("path"),
        ][..],
        &["rendezvous", "join", &magnet, "--peer", "127.0.0.1:6881"],
        &["rendezvous", "join", file.to_str().expect("path")],
        &["rendezvous", "leave", "0123"],
    ] {
        let ran = slavectl(&daemon, dir.path(), args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(!ran.out.is_empty());
    }
    assert_eq!(std::fs::read(&made).expect("written"), b"de");
    let joined = format!("join Some({magnet:?}) None 1");
    let expected = [
        "host our place Some(\"192.0.2.1:6969\") 1",
        &joined,
        "join None Some(\"ZDQ6aW5mbw==\") 0",
        "leave_rendezvous Some(\"0123\")",
    ];
    assert_eq!(*daemon.stub.changes.lock(), expected);
}

/// Arguments, exit status, and a part of what standard error says.
const REFUSED: &[(&[&str], u8, &str)] = &[
    (
        &["feeds", "remove", "http://f/"],
        1,
        "error: feed http://f/: the configuration file names it\nhint: remove it there, then `slavectl reload`\n",
    ),
    (
        &["swarms", "show", "ffffffffffffffffffffffffffffffffffffffff"],
        1,
        "nobody named it\nhint: see `slavectl swarms`\n",
    ),
    (
        &["swarms", "show", "0123"],
        1,
        "error: swarm 0123: 2 swarms begin so\nhint: give more digits\n",
    ),
    (
        &["swarms", "show", "ffff"],
        1,
        "error: swarm ffff: no known swarm begins so\n",
    ),
    (&["swarms", "show", "xyz"], 2, "is not an infohash"),
    (
        &["swarms", "add", "/nonexistent.torrent"],
        1,
        "error: /nonexistent.torrent: No such file",
    ),
    (&["swarms", "add", "a", "--peer", "b"], 2, "--peer"),
    (
        &["master", "test", "home"],
        1,
        "error: master home: failed at: port\n",
    ),
    (
        &["torrent", "show", "/etc/passwd"],
        1,
        "error: /etc/passwd: not a torrent file",
    ),
    (
        &["rendezvous", "host", "-o", "/dev/null"],
        1,
        "error: /dev/null: exists already\nhint: choose another name",
    ),
    (
        &[
            "rendezvous",
            "host",
            "--no-announce-url",
            "--url",
            "http://h/announce",
        ],
        2,
        "--url",
    ),
    (&["nonsense"], 2, "nonsense"),
    (
        &["--token-file", "/nonexistent", "status"],
        1,
        "error: token /nonexistent: No such file",
    ),
    (
        &["--api", "https://x", "status"],
        2,
        "is not an http://HOST:PORT",
    ),
    (
        &["--api", "http://127.0.0.1:1", "status"],
        3,
        "hint: start it with `btslave run`",
    ),
];

#[tokio::test]
async fn slavectl_says_what_why_and_what_next_with_its_exit_status() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    for (args, status, says) in REFUSED {
        for json in [false, true] {
            let all: Vec<&str> = args
                .iter()
                .copied()
                .chain(json.then_some("--json"))
                .collect();
            // A later option wins over the one that the helper gives.
            let ran = slavectl_with(&daemon, dir.path(), &all).await;
            assert_eq!(ran.status, *status, "{all:?}: {}", ran.err);
            assert!(ran.err.contains(says), "{all:?}: {}", ran.err);
            assert!(!json || ran.out.is_empty() || args[0] == "master");
        }
    }
}

/// As [`slavectl`], where `args` may name another daemon or token.
async fn slavectl_with(daemon: &Served, dir: &std::path::Path, args: &[&str]) -> Ran {
    let [option @ ("--api" | "--token-file"), value, rest @ ..] = args else {
        return slavectl(daemon, dir, args).await;
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let token = dir.join("token");
    std::fs::write(&token, TOKEN).expect("token");
    let api = format!("http://{}", daemon.addr);
    let other = if *option == "--api" {
        ["--token-file", token.to_str().expect("path")]
    } else {
        ["--api", &api]
    };
    let args = ["slavectl", option, value]
        .into_iter()
        .chain(other)
        .chain(rest.iter().copied());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = slavectl::Io {
        out: &mut out,
        err: &mut err,
        colour: false,
        terminal: false,
    };
    let status = slavectl::run(args.map(std::ffi::OsString::from), &mut io).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran {
        status,
        out: text(out),
        err: text(err),
    }
}

#[tokio::test]
async fn slavectl_shows_friends_and_a3_nothing_raw() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    for (args, holds) in [
        (
            &["friends"][..],
            &[
                "THEY OWE US",
                "evil\\u{1b}]0;owned",
                "3.0 GiB",
                "never",
                "2.0 MiB",
            ][..],
        ),
        (
            &["aid"],
            &[
                "helps us",
                "evil\\u{1b}]0;owned",
                "others come first",
                "by hand, 20.0 MiB left",
                "100 MiB",
            ],
        ),
        (&["friends", "code"], &["bs1q5hs6z"]),
        (&["friends", "code", "--qr"], &["bs1q5hs6z", "█"]),
        (
            &["friends", "ledger"],
            &["3221225472 bytes", "nothing signed", "abababab"],
        ),
        (&["friends", "ledger", stub::EVIL], &["3221225472 bytes"]),
    ] {
        assert_shows(&daemon, dir.path(), args, holds).await;
    }
}

#[tokio::test]
async fn slavectl_verify_fails_when_an_account_does() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    let ran = slavectl(&daemon, dir.path(), &["friends", "verify"]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.out.contains("✗ evil") && ran.out.contains("forged"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("error: ledger:"), "{}", ran.err);
    let ran = slavectl(&daemon, dir.path(), &["friends", "ledger", "nobody"]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("hint: `slavectl friends ledger`"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn slavectl_exports_to_a_private_file_and_imports_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    let file = dir.path().join("friends.json");
    let path = file.to_str().expect("path");
    let ran = slavectl(&daemon, dir.path(), &["friends", "export", path]).await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let mode = std::fs::metadata(&file)
        .expect("written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ran = slavectl(&daemon, dir.path(), &["friends", "export", path]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("--force"), "{}", ran.err);
    let ran = slavectl(&daemon, dir.path(), &["friends", "export", path, "--force"]).await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let ran = slavectl(&daemon, dir.path(), &["friends", "import", path]).await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("newer than ours: 1"), "{}", ran.out);
    assert_eq!(
        daemon.stub.changes.lock().as_slice(),
        ["import_friends 1 accounts"]
    );
    std::fs::write(&file, "{\"format\":1}").expect("write");
    let ran = slavectl(&daemon, dir.path(), &["friends", "import", path]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("is no export of friends"), "{}", ran.err);
}

#[tokio::test]
async fn slavectl_asks_for_help_and_stops_it() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    for (args, said) in [
        (
            &["aid", "ask", "01234567", "--bytes", "20 MiB"][..],
            "Asked evil",
        ),
        (&["aid", "ask", "home"], "Asked evil"),
        (&["aid", "stop", stub::HASH], "No help with"),
    ] {
        let ran = slavectl(&daemon, dir.path(), args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(said), "{}", ran.out);
    }
    let ran = slavectl(&daemon, dir.path(), &["aid", "ask", "nobody"]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("hint: `slavectl swarms`"), "{}", ran.err);
    let torrent = format!("ask_for_help {} Some(20971520)", stub::HASH);
    let stop = format!("stop_help {}", stub::HASH);
    assert_eq!(
        daemon.stub.changes.lock().as_slice(),
        [torrent.as_str(), "ask_for_help home None", &stop]
    );
}

#[tokio::test]
async fn slavectl_adds_and_removes_friends() {
    let (daemon, dir) = (
        served(Limits::default()).await,
        tempfile::tempdir().expect("tempdir"),
    );
    for (args, said) in [
        (
            &["friends", "add", stub::CODE, "--name", "Ann"][..],
            "adds your code, too",
        ),
        (&["friends", "remove", "Ann"], "is kept"),
        (&["friends", "rekey"], "restart btslave"),
        (&["friends", "rekey", "--new"], "bss1qqqq"),
        (&["friends", "follow", "bss1pppp"], "has a new key"),
    ] {
        let ran = slavectl(&daemon, dir.path(), args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(said), "{}", ran.out);
    }
    let expected = format!("add_friend {} as Some(\"Ann\")", stub::CODE);
    assert_eq!(
        daemon.stub.changes.lock().as_slice(),
        [
            expected.as_str(),
            "remove_friend Ann",
            "replace_own_key",
            "follow_friend bss1pppp"
        ]
    );
}
