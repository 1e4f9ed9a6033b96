//! Rendezvous as the operator hosts, joins and leaves them.

use control_api::rendezvous::{HostRendezvous, JoinRendezvous, LeaveRendezvous};
use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::FriendsMode;

fn place() -> HostRendezvous {
    HostRendezvous {
        name: "our place".to_owned(),
        announce: true,
        listen: Some("127.0.0.1:0".to_owned()),
        url: Some("http://198.18.0.1:6969/announce".to_owned()),
        trackers: vec!["http://198.18.0.9/announce".to_owned()],
    }
}

fn by_torrent(file: &[u8]) -> JoinRendezvous {
    JoinRendezvous {
        torrent: Some(BASE64.encode(file)),
        ..JoinRendezvous::default()
    }
}

/// A rendezvous' torrent that another host made.
fn made(private: bool, length: u64) -> Vec<u8> {
    let pieces = length.div_ceil(1 << 20);
    MetainfoBuilder::single("theirs.html", length, 1 << 20)
        .pieces((0..pieces).map(|_| [1; 20]))
        .private(private)
        .build()
        .expect("a torrent")
}

async fn why(daemon: &Daemon, join: JoinRendezvous) -> (RefusalKind, String) {
    let refusal = daemon.control().join_rendezvous(join).await;
    let refusal = refusal.expect_err("refused");
    (refusal.kind, refusal.problem.why)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hosted_and_joined_survives_a_restart_and_what_is_left_does_not() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let hosted = control.host_rendezvous(place()).await.expect("hosted");
    assert_eq!(hosted.rendezvous.role, "host");
    let theirs = made(false, 3000);
    let joined = control
        .join_rendezvous(by_torrent(&theirs))
        .await
        .expect("joined");
    assert!(joined.new);
    let link = format!("magnet:?xt=urn:btih:{}&dn=later", "cd".repeat(20));
    let by_magnet = JoinRendezvous {
        source: Some(link.clone()),
        peers: vec!["127.0.0.1:9".to_owned()],
        ..JoinRendezvous::default()
    };
    control.join_rendezvous(by_magnet).await.expect("joined");
    let gone = control
        .join_rendezvous(by_torrent(&made(false, 4000)))
        .await;
    let gone = gone.expect("joined").info_hash;
    let leave = |hash: &str| LeaveRendezvous {
        info_hash: Some(hash.to_owned()),
    };
    let several = control.leave_rendezvous(LeaveRendezvous::default()).await;
    assert_eq!(several.expect_err("which").kind, RefusalKind::Invalid);
    control
        .leave_rendezvous(leave(&gone[..8]))
        .await
        .expect("left");
    let again = control.leave_rendezvous(leave(&gone)).await;
    assert_eq!(again.expect_err("gone").kind, RefusalKind::NotFound);
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let rows = daemon.control().rendezvous().await.expect("answered");
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.role.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("later", "member"),
            ("our place.html", "host"),
            ("theirs.html", "member")
        ]
    );
    assert!(
        rows.iter()
            .all(|row| row.info_hash != gone && row.error.is_none())
    );
    assert_eq!(rows[0].magnet, link);
    let host = &rows[1];
    assert_eq!(host.info_hash, hosted.rendezvous.info_hash);
    assert_eq!(host.announce_url, hosted.rendezvous.announce_url);
    // To its own announce URL it does not announce.
    let trackers: Vec<_> = host.trackers.iter().map(|row| row.url.as_str()).collect();
    assert_eq!(trackers, ["http://198.18.0.9"]);
    daemon.stop().await;
}

//= spec/rendezvous.md#rv-torrent
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_rendezvous_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let (kind, says) = why(&daemon, by_torrent(&made(true, 3000))).await;
    assert!(
        kind == RefusalKind::Invalid && says.contains("private"),
        "{says}"
    );
    let (_, says) = why(&daemon, by_torrent(&made(false, 2 << 20))).await;
    assert!(says.contains("over 1 MiB"), "{says}");
    let (_, says) = why(&daemon, by_torrent(b"nonsense")).await;
    assert!(!says.is_empty());
    let (_, says) = why(&daemon, by_torrent(&[0; 40 << 10])).await;
    assert!(says.contains("32 KiB"), "{says}");
    let (_, says) = why(&daemon, JoinRendezvous::default()).await;
    assert!(says.contains("neither"), "{says}");
    let file = made(false, 3000);
    let control = daemon.control();
    let added = control.add_torrent(file.clone().into(), AddOptions::default());
    added.await.expect("an ordinary swarm now");
    drop(control);
    let (kind, says) = why(&daemon, by_torrent(&file)).await;
    assert!(
        kind == RefusalKind::Conflict && says.contains("ordinary"),
        "{says}"
    );
    for n in 0..8 {
        let file = made(false, 5000 + n);
        daemon
            .control()
            .join_rendezvous(by_torrent(&file))
            .await
            .expect("joined");
    }
    let (kind, says) = why(&daemon, by_torrent(&made(false, 6000))).await;
    assert!(
        kind == RefusalKind::Conflict && says.contains("8 are the most"),
        "{says}"
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_why_it_cannot_and_what_to_do() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let refused = async |host: HostRendezvous| {
        let refusal = daemon.control().host_rendezvous(host).await;
        refusal.expect_err("refused").problem
    };
    let everywhere = HostRendezvous {
        listen: Some("0.0.0.0:0".to_owned()),
        url: None,
        ..place()
    };
    assert!(refused(everywhere).await.hint.contains("--url"));
    let nowhere = HostRendezvous {
        announce: false,
        trackers: Vec::new(),
        ..place()
    };
    assert!(refused(nowhere).await.why.contains("nobody finds it"));
    let named = HostRendezvous {
        name: "<b>".to_owned(),
        ..place()
    };
    assert!(refused(named).await.why.contains("letters, digits"));
    let tracker = HostRendezvous {
        trackers: vec!["file:///etc/passwd".to_owned()],
        ..place()
    };
    assert!(refused(tracker).await.why.contains("file:///etc/passwd"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_at = HostRendezvous {
        listen: Some(taken.local_addr().expect("bound").to_string()),
        ..place()
    };
    assert!(refused(taken_at).await.hint.contains("--listen"));
    assert!(
        daemon
            .control()
            .rendezvous()
            .await
            .expect("answered")
            .is_empty()
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_friends_off_there_is_none() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = base(dir.path());
    config.friends.mode = FriendsMode::Off;
    let daemon = start(config).await;
    let refusal = daemon.control().host_rendezvous(place()).await;
    assert_eq!(refusal.expect_err("refused").kind, RefusalKind::Conflict);
    let (kind, says) = why(&daemon, by_torrent(&made(false, 3000))).await;
    assert!(
        kind == RefusalKind::Conflict && says.contains("friends.mode"),
        "{says}"
    );
    daemon.stop().await;
}

/// Announces that a tracker keeps for its test.
const ANNOUNCES: usize = 16;

/// A tracker that knows nobody; what it was asked, one line each.
async fn tracker() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/announce", listener.local_addr().expect("bound"));
    let (asked, hears) = mpsc::channel(ANNOUNCES);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let body = "d8:intervali1800e5:peers0:e";
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
            let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("answered");
            let line = text.lines().next().unwrap_or_default().to_owned();
            if asked.send(line).await.is_err() {
                return;
            }
        }
    });
    (url, hears)
}

/// The next announce says so.
async fn hears(announces: &mut mpsc::Receiver<String>, event: &str) {
    let line = announces.recv().await.expect("the tracker runs");
    assert!(line.contains(&format!("event={event}")), "{line}");
}

fn write_config(dir: &Path, mode: &str) {
    let text = format!(
        "[node]\ndata_dir = \"{}/data\"\nlisten = [\"127.0.0.1:0\"]\n[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"0 B\"\n[api]\nlisten = \"\"\n[friends]\nmode = \"{mode}\"\n",
        dir.display()
    );
    std::fs::write(dir.join("btslave.toml"), text).expect("write");
}

/// With friends off the swarms are left, the trackers told, and the announce URL's address is free; nothing is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn friends_switched_off_and_on_take_all_rendezvous_with_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    let write = |mode: &str| write_config(dir.path(), mode);
    write("open");
    let sources = Sources {
        file: Some(dir.path().join("btslave.toml")),
        ..Sources::default()
    };
    let daemon = start_with(config::load(&sources).expect("sound"), Some(sources));
    let daemon = daemon.await.expect("started");
    let control = daemon.control();
    let (tracker, mut announces) = tracker().await;
    // An address of its own on this machine, so that its port is free but for us.
    let at = "127.0.0.77:6969";
    let place = HostRendezvous {
        listen: Some(at.to_owned()),
        trackers: vec![tracker],
        ..place()
    };
    control.host_rendezvous(place).await.expect("hosted");
    let theirs = by_torrent(&made(false, 3000));
    control.join_rendezvous(theirs).await.expect("joined");
    hears(&mut announces, "started").await;
    let shown = async || {
        let rows = control.rendezvous().await.expect("answered").into_iter();
        rows.map(|row| {
            (
                row.name,
                row.role,
                row.info_hash,
                row.announce_url,
                row.error,
            )
        })
        .collect::<Vec<_>>()
    };
    let before = shown().await;
    let lines = |left: &str| {
        let mut lines = vec!["friends.mode".to_owned()];
        let mut hashes: Vec<&str> = before.iter().map(|row| row.2.as_str()).collect();
        hashes.sort_unstable();
        lines.extend(hashes.iter().map(|hash| format!("rendezvous {hash}{left}")));
        lines
    };

    // Whoever is in the middle of a request holds the address for a moment.
    let mut slow = TcpStream::connect(at).await.expect("served");
    slow.write_all(b"GET /announce").await.expect("connected");
    write("off");
    let off = control.reload().await.expect("reloaded");
    assert_eq!(off.changed, lines(" left"));
    assert_eq!(shown().await, []);
    assert!(control.swarms().await.expect("swarms").is_empty());
    drop(TcpListener::bind(at).await.expect("free"));
    hears(&mut announces, "stopped").await;

    write("known");
    let on = control.reload().await.expect("reloaded");
    assert_eq!(on.changed, lines(""));
    assert_eq!(shown().await, before);
    assert!(TcpListener::bind(at).await.is_err(), "served again");
    hears(&mut announces, "started").await;
    write("open");
    let same = control.reload().await.expect("reloaded");
    assert_eq!(same.changed, ["friends.mode"]);
    assert_eq!(shown().await, before);
    assert!(announces.try_recv().is_err(), "still joined");
    drop(control);
    daemon.stop().await;
}
