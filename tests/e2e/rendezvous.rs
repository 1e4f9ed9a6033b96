//! Slaves that find each other in a torrent, and strangers that are let go there.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, ensure};
use bt_wire::bencode::{Document, Limits};
use bt_wire::ids::InfoHash;
use bt_wire::message::{BlockRef, Message};
use bt_wire::metainfo::Metainfo;
use bt_wire::tracker::AnnounceResponse;
use serde_json::{Value, json};
use tests::clients::{Btslave, Client, Libtorrent, OpenTracker, PEER_PORT, Program, Role};
use tests::content::Torrent;
use tests::http;
use tests::raw::{Abilities, Event, Heard, RawPeer, nothing};
use tests::runner::{Test, address, scratch};
use tests::wait::eventually;

use crate::support::{counter, wait_counter};

const HOST: u8 = 2;
const ANN: u8 = 3;
const BEN: u8 = 4;
const CLIENT: u8 = 5;
const TRACKER: u8 = 6;
const STRANGER: u8 = 7;
const VICTIM: u8 = 8;
const LIMIT: Duration = Duration::from_secs(60);
/// A stranger that wants nothing is let go in 20 s, and so is one that has all it wants.
const LET_GO: Duration = Duration::from_secs(40);
const STRANGERS: &str = "btslave_defence_total{defence=\"Stranger\"}";

pub const TESTS: &[Test] = &[
    Test::alone(
        "rendezvous::friends_meet_by_our_own_announce_url_and_again_after_restarts",
        180,
        friends_meet_by_our_own_announce_url_and_again_after_restarts,
    ),
    Test {
        name: "rendezvous::friends_meet_by_opentracker_and_a_stranger_there_is_let_go",
        needs: &[Program::OpenTracker],
        seconds: 180,
        run: friends_meet_by_opentracker_and_a_stranger_there_is_let_go,
    },
    Test::alone(
        "rendezvous::slaves_in_open_mode_make_acquaintances_and_no_friends",
        90,
        slaves_in_open_mode_make_acquaintances_and_no_friends,
    ),
    Test {
        name: "rendezvous::strangers_get_the_page_and_are_let_go",
        needs: &[Program::Libtorrent],
        seconds: 150,
        run: strangers_get_the_page_and_are_let_go,
    },
    Test::alone(
        "rendezvous::p16_an_announce_url_cannot_be_aimed",
        90,
        p16_an_announce_url_cannot_be_aimed,
    ),
];

fn slave(n: u8) -> anyhow::Result<Btslave> {
    Btslave::start(address(n), "", &[])
}

/// Two slaves that are friends, and know of each other nothing but their codes.
fn friends() -> anyhow::Result<(Btslave, Btslave)> {
    let (ann, ben) = (slave(ANN)?, slave(BEN)?);
    befriend(&ann, &ben, "Ben")?;
    befriend(&ben, &ann, "Ann")?;
    Ok((ann, ben))
}

fn befriend(one: &Btslave, other: &Btslave, name: &str) -> anyhow::Result<()> {
    // Hints would lead there without a rendezvous.
    let bare = other.friend_code()?;
    one.ctl(&["friends", "add", &bare, "--name", name])
        .map(drop)
}

fn online(slave: &Btslave, count: u64) -> anyhow::Result<()> {
    eventually(&format!("{count} friends online"), LIMIT, || {
        let status = slave.ctl(&["status"])?;
        Ok((status["friends"]["online"] == count).then_some(()))
    })
}

/// What `rendezvous show` says of the only one.
fn shown(slave: &Btslave) -> anyhow::Result<Value> {
    let all = slave.ctl(&["rendezvous", "show"])?;
    let one = all.as_array().filter(|all| all.len() == 1);
    one.map(|all| all[0].clone())
        .with_context(|| format!("not one rendezvous: {all}"))
}

fn wait_shown(slave: &Btslave, key: &str, value: &Value) -> anyhow::Result<()> {
    eventually(&format!("{key} = {value}"), LIMIT, || {
        Ok((shown(slave)?[key] == *value).then_some(()))
    })
}

fn text<'a>(row: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    row[key]
        .as_str()
        .with_context(|| format!("no {key}: {row}"))
}

/// The torrent of a rendezvous as the harness knows torrents, with its page for content.
fn known(file: &[u8], page: &[u8]) -> anyhow::Result<Torrent> {
    let meta = Metainfo::from_torrent(file.to_vec())?;
    let path = scratch().join("rendezvous.torrent");
    fs::write(&path, file)?;
    Ok(Torrent {
        name: meta.name.clone(),
        piece_length: meta.piece_length,
        content: page.into(),
        info_hash: meta.info_hash(),
        metainfo: file.to_vec(),
        path,
    })
}

/// Two get to know each other by a third's announce URL; the third is restarted, then they are; then one leaves.
fn friends_meet_by_our_own_announce_url_and_again_after_restarts() -> anyhow::Result<()> {
    let mut host = slave(HOST)?;
    let hosted = host.ctl(&["rendezvous", "host", "our place"])?["rendezvous"].clone();
    ensure!(text(&hosted, "announce_url")? == format!("http://{}:6969/announce", address(HOST)));
    let (mut ann, mut ben) = friends()?;
    let joined = ann.ctl(&["rendezvous", "join", text(&hosted, "torrent_url")?])?;
    ensure!(joined["new"] == true, "{joined}");
    wait_shown(&host, "listed", &json!(1))?;
    // Ben has no torrent file, but a magnet link.
    ben.ctl(&["rendezvous", "join", text(&hosted, "magnet")?])?;
    wait_shown(&host, "listed", &json!(2))?;
    online(&ann, 1)?;
    online(&ben, 1)?;
    wait_shown(&ben, "name", &json!("our place.html"))?;
    let again = ann.ctl(&["rendezvous", "join", text(&hosted, "magnet")?])?;
    ensure!(again["new"] == false, "{again}");
    for member in [&ann, &ben] {
        let own = shown(member)?;
        ensure!(own["role"] == "member" && own["state"] == "joined", "{own}");
        ensure!(
            member
                .ctl(&["swarms", "leave", text(&own, "info_hash")?])
                .is_err()
        );
    }
    host.stop()?;
    host.restart()?;
    let after = shown(&host)?;
    for key in ["info_hash", "announce_url", "magnet", "role", "added_at"] {
        ensure!(after[key] == hosted[key], "{key} changed: {after}");
    }
    // Who comes back announces anew, and finds the other by the host alone.
    ann.stop()?;
    online(&ben, 0)?;
    ben.stop()?;
    ann.restart()?;
    wait_shown(&host, "listed", &json!(1))?;
    ben.restart()?;
    online(&ann, 1)?;
    wait_shown(&host, "listed", &json!(2))?;
    // One leaves: it says so to the announce URL, and is not named any more.
    ben.ctl(&["rendezvous", "leave"])?;
    wait_shown(&host, "listed", &json!(1))?;
    online(&ann, 0)?;
    ensure!(ben.ctl(&["rendezvous", "show"])? == json!([]));
    ben.stop()?;
    ben.restart()?;
    ensure!(ben.ctl(&["rendezvous", "show"])? == json!([]));
    host.ctl(&["rendezvous", "leave"])?;
    ensure!(http::request((address(HOST), 6969).into(), "GET", "/", &[], b"").is_err());
    Ok(())
}

/// Neither host nor members need an announce URL of ours; and whoever else announces there is let go.
fn friends_meet_by_opentracker_and_a_stranger_there_is_let_go() -> anyhow::Result<()> {
    let mut tracker = OpenTracker::start(address(TRACKER))?;
    let file = scratch().join("place.torrent");
    let at = format!("http://{}/announce", tracker.address());
    let (ann, ben) = friends()?;
    let output = file.display().to_string();
    // The tracker serves what it was told of, and the infohash is not known before.
    ann.ctl(&["pause"])?;
    let host = [
        "rendezvous",
        "host",
        "--no-announce-url",
        "-t",
        &at,
        "-o",
        &output,
    ];
    let hosted = ann.ctl(&host)?["rendezvous"].clone();
    let torrent = known(&fs::read(&file)?, b"")?;
    ensure!(hosted["announce_url"] == Value::Null, "{hosted}");
    tracker.allow(torrent.info_hash)?;
    ann.ctl(&["resume"])?;
    // A stranger is there first, and takes connections.
    let listener = TcpListener::bind((address(STRANGER), PEER_PORT))?;
    announce(
        tracker.address(),
        STRANGER,
        torrent.info_hash,
        PEER_PORT,
        "",
    )?;
    ben.ctl(&["rendezvous", "join", &output])?;
    let stranger = RawPeer::accept(&listener, LIMIT, &torrent, Abilities::ALL, nothing())?;
    online(&ann, 1)?;
    online(&ben, 1)?;
    polite(&stranger)?;
    let gone = |slave: &Btslave| counter(slave, STRANGERS);
    ensure!(gone(&ann)? + gone(&ben)? >= 1.0);
    ensure!(shown(&ann)?["role"] == "host" && shown(&ben)?["role"] == "member");
    // Members say truly that they have nothing, and the host that it has all.
    let counts = tracker.scrape(torrent.info_hash)?;
    ensure!(counts.0 == 1 && counts.1 >= 1, "{counts:?}");
    Ok(())
}

/// Between two in open mode a session has to stand before the host names the other.
fn slaves_in_open_mode_make_acquaintances_and_no_friends() -> anyhow::Result<()> {
    let open = |n| Btslave::start(address(n), "[friends]\nmode = \"open\"", &[]);
    let (host, ann, ben) = (open(HOST)?, open(ANN)?, slave(BEN)?);
    let hosted = host.ctl(&["rendezvous", "host"])?["rendezvous"].clone();
    let magnet = text(&hosted, "magnet")?;
    ann.ctl(&["rendezvous", "join", magnet])?;
    wait_shown(&host, "listed", &json!(1))?;
    // One that is not open is a member, too.
    ben.ctl(&["rendezvous", "join", magnet])?;
    wait_shown(&host, "listed", &json!(2))?;
    for slave in [&host, &ann, &ben] {
        ensure!(
            slave.ctl(&["friends"])? == json!([]),
            "a friend that nobody added"
        );
    }
    Ok(())
}

/// It was let go: the connection ended, and nothing that came before was broken.
fn polite(stranger: &RawPeer) -> anyhow::Result<()> {
    let closed = |events: &[Event]| {
        let last = events.last()?;
        matches!(last.heard, Heard::Closed(_)).then(|| events.to_vec())
    };
    let events = stranger.wait_for("it is let go", LET_GO, closed)?;
    let garbage = events
        .iter()
        .any(|event| matches!(event.heard, Heard::Garbage(_)));
    ensure!(!garbage, "a broken message: {events:?}");
    let frames = |event: &&Event| matches!(&event.heard, Heard::Message(Message::Extended { id, .. }) if *id != 0);
    ensure!(
        !events.iter().any(|event| frames(&event)),
        "more than both handshakes: {events:?}"
    );
    Ok(())
}

/// An ordinary client gets what the torrent promises; then it is let go, and so is a peer that wants nothing.
fn strangers_get_the_page_and_are_let_go() -> anyhow::Result<()> {
    let host = slave(HOST)?;
    let hosted = host.ctl(&["rendezvous", "host", "our place"])?["rendezvous"].clone();
    let url: SocketAddr = (address(HOST), 6969).into();
    let page = http::request(url, "GET", "/", &[], b"")?;
    ensure!(page.text().contains("This torrent is a rendezvous"));
    let file = http::request(url, "GET", "/rendezvous.torrent", &[], b"")?;
    let torrent = known(&file.body, &page.body)?;
    ensure!(text(&hosted, "info_hash")? == torrent.info_hash.to_string());
    let folder = tests::clients::folder("page")?;
    let mut client = Libtorrent::start(address(CLIENT), &json!({}))?;
    client.add(&torrent, &folder, Role::Leech)?;
    client.wait_done(&torrent, LIMIT)?;
    torrent.verify(&folder)?;
    // A peer that asks for it block by block, and one that does not care.
    let at = (address(HOST), PEER_PORT).into();
    let taker = RawPeer::connect(address(STRANGER), at, &torrent, Abilities::ALL, nothing())?;
    let idle = RawPeer::connect(address(VICTIM), at, &torrent, Abilities::ALL, nothing())?;
    taker.sender().send(&Message::Interested);
    taker.wait_for_message(&Message::Unchoke, LIMIT)?;
    let block = BlockRef {
        piece: 0,
        begin: 0,
        length: u32::try_from(page.body.len())?,
    };
    taker.sender().send(&Message::Request(block));
    let whole = Heard::Block {
        block,
        correct: true,
    };
    taker.wait_for("the page", LIMIT, |events| {
        events
            .iter()
            .any(|event| event.heard == whole)
            .then_some(())
    })?;
    taker.sender().send(&Message::Have(0));
    polite(&taker)?;
    polite(&idle)?;
    ensure!(
        idle.extension_id("bs_friends").is_some(),
        "the host is a slave"
    );
    wait_counter(&host, STRANGERS, 2.0, LIMIT)?;
    ensure!(shown(&host)?["strangers_let_go"].as_u64() >= Some(2));
    ensure!(host.metric("btslave_banned_total")?.unwrap_or(0.0) < 1.0);
    Ok(())
}

/// Announces from address `n`, which says that it listens on `port`.
fn announce(
    to: SocketAddr,
    n: u8,
    info_hash: InfoHash,
    port: u16,
    more: &str,
) -> anyhow::Result<Vec<u8>> {
    let hash: String = info_hash
        .0
        .iter()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let path = format!(
        "/announce?info_hash={hash}&peer_id=-XX0000-00000000000{n}&port={port}&uploaded=0&downloaded=0&left=1&compact=1&event=started{more}"
    );
    let answer = http::get_from(address(n), to, &path)?;
    ensure!(answer.status == 200, "announce: {}", answer.status);
    Ok(answer.body)
}

/// Somebody tries to have the host dial others, dial much, and answer much.
fn p16_an_announce_url_cannot_be_aimed() -> anyhow::Result<()> {
    let host = slave(HOST)?;
    let hosted = host.ctl(&["rendezvous", "host"])?["rendezvous"].clone();
    let hash: InfoHash = text(&hosted, "info_hash")?.parse()?;
    let url: SocketAddr = (address(HOST), 6969).into();
    let victim = TcpListener::bind((address(VICTIM), 7000))?;
    victim.set_nonblocking(true)?;
    let own = TcpListener::bind((address(STRANGER), 7000))?;
    own.set_nonblocking(true)?;
    let lies = format!("&ip={v}&ipv4={v}:7000&numwant=100000", v = address(VICTIM));
    let answer = announce(url, STRANGER, hash, 7000, &lies)?;
    let answer = AnnounceResponse::parse(&answer)?;
    let peers: Vec<SocketAddr> = answer.peers.iter().map(|peer| peer.addr).collect();
    ensure!(peers == [(address(HOST), PEER_PORT).into()], "{peers:?}");
    // The one that it dials is the one that asked: an event that shows when to look at the other.
    eventually("we are dialled back", LIMIT, || match own.accept() {
        Ok(_) => Ok(Some(())),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e.into()),
    })?;
    let refused = |why: &str| format!("btslave_defence_total{{defence=\"NoDialBack({why})\"}}");
    announce(url, STRANGER, hash, 80, "")?;
    wait_counter(&host, &refused("Port"), 1.0, LIMIT)?;
    for _ in 0..10 {
        announce(url, STRANGER, hash, 7000, "")?;
    }
    wait_counter(&host, &refused("Endpoint"), 10.0, LIMIT)?;
    let mut dialled = Vec::new();
    for port in 7001..7020 {
        dialled.push(TcpListener::bind((address(STRANGER), port))?);
        announce(url, STRANGER, hash, port, "")?;
    }
    wait_counter(&host, &refused("Pace"), 16.0, LIMIT)?;
    let mut failures = 0;
    for _ in 0..150 {
        let body = announce(url, STRANGER, hash, 7000, "")?;
        ensure!(body.len() < 1024, "an answer of {} bytes", body.len());
        let document = Document::parse(&body, &Limits::default())?;
        let root = document.root().as_dict().context("no dictionary")?;
        failures += u32::from(root.get("failure reason").is_some());
    }
    ensure!(
        failures == 150 - (120 - 31),
        "{failures} of 150 were refused"
    );
    let flood = "btslave_rendezvous_refused_total{reason=\"network\"}";
    wait_counter(&host, flood, f64::from(failures), LIMIT)?;
    let none = victim.accept().err().map(|e| e.kind());
    ensure!(
        none == Some(ErrorKind::WouldBlock),
        "the victim was dialled"
    );
    ensure!(host.metric("btslave_rendezvous_announces_total")? == Some(120.0));
    Ok(())
}
