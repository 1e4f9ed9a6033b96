//! Attacks by trackers and gossip: evil words, evil addresses; and what we tell trackers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, ensure};
use bt_wire::address::encode_compact;
use bt_wire::bencode::Item;
use bt_wire::extension::{PexMessage, PexPeer};
use bt_wire::message::Message;
use bytes::Bytes;
use tests::clients::{Client, PEER_PORT};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer, nothing, source};
use tests::runner::address;
use tests::wait::eventually;

use super::{LIMIT, MIB, add, master, slave, stranger};
use crate::support::{self, Tracker, counter, program, slavectl, wait_counter};
use crate::taker::{Account, taker};

/// Whether a character could steer a terminal or turn text round.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub fn a3_control_characters() -> anyhow::Result<()> {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gpj.exe";
    let refusal = Item::dict([("failure reason", Item::from(evil))]);
    let tracker = Tracker::start(address(9), refusal)?;
    let kind = Kind {
        tracker: Some(tracker.address()),
        ..Kind::default()
    };
    let torrent = Torrent::new(evil, MIB, 64 << 10, kind)?;
    let mut slave = slave("")?;
    add(&slave, &torrent, &[])?;
    tracker.wait_event("started", LIMIT)?;
    let hash = torrent.info_hash.to_string();
    eventually("the tracker's words are known", LIMIT, || {
        let detail = slave.ctl(&["swarms", "show", &hash])?;
        Ok(detail.to_string().contains("gpj.exe\"").then_some(()))
    })?;
    for args in [
        &["status"][..],
        &["swarms"],
        &["swarms", "show", &hash],
        &["swarms", "why", &hash],
        &["cache"],
    ] {
        let out = slavectl(&slave, address(1), args)?;
        ensure!(out.status.success(), "slavectl {args:?}: {out:?}");
        let text = String::from_utf8(out.stdout)?;
        let bad = text.chars().find(|c| steers(*c) && *c != '\n');
        ensure!(bad.is_none(), "slavectl {args:?} printed {bad:?}: {text:?}");
        ensure!(
            args == ["cache"] || text.contains("gpj.exe"),
            "slavectl {args:?} does not name the torrent: {text}"
        );
    }
    slave.stop()?;
    let log = fs::read_to_string(slave.process().log())?;
    let bad = log.lines().find(|line| line.chars().any(steers));
    ensure!(bad.is_none(), "in the log: {bad:?}");
    ensure!(log.contains("gpj.exe"), "the log does not name the torrent");
    Ok(())
}

/// A place that nobody may dial.
struct Forbidden(TcpListener);

impl Forbidden {
    fn at(addr: impl Into<SocketAddr>) -> anyhow::Result<Self> {
        let addr = addr.into();
        let listener = TcpListener::bind(addr).with_context(|| addr.to_string())?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    fn addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    fn untouched(&self) -> anyhow::Result<()> {
        let dialled = self.0.accept();
        ensure!(
            dialled.is_err(),
            "{} was dialled: {dialled:?}",
            self.addr()?
        );
        Ok(())
    }
}

/// Listeners on this machine, on the site, and on a low port of a public address.
fn forbidden() -> anyhow::Result<[Forbidden; 3]> {
    support::add_address("10.1.2.3/32")?;
    Ok([
        Forbidden::at((Ipv4Addr::LOCALHOST, 2222))?,
        Forbidden::at((Ipv4Addr::new(10, 1, 2, 3), 7000))?,
        Forbidden::at((address(50), 80))?,
    ])
}

pub fn b12_pex_names_inner_addresses() -> anyhow::Result<()> {
    let torrent = Torrent::new("b12.bin", MIB, 64 << 10, Kind::default())?;
    let slave = slave("")?;
    add(&slave, &torrent, &[])?;
    let places = forbidden()?;
    let named = TcpListener::bind((address(30), 7001))?;
    let gossip = stranger(2, &slave, &torrent, Abilities::ALL)?;
    let id = eventually("ut_pex", LIMIT, || Ok(gossip.extension_id("ut_pex")))?;
    let mut added = Vec::new();
    for place in &places {
        added.push(place.addr()?);
    }
    added.push(named.local_addr()?);
    let message = PexMessage {
        added: added
            .iter()
            .map(|addr| PexPeer {
                addr: *addr,
                flags: 0,
            })
            .collect(),
        dropped: Vec::new(),
        ignored: 0,
    };
    let payload: Bytes = message.encode().into();
    for _ in 0..2 {
        let payload = payload.clone();
        gossip.sender().send(&Message::Extended { id, payload });
    }
    // The one good address is dialled; it came last, so the others have had their turn.
    let _dialled = RawPeer::accept(&named, LIMIT, &torrent, Abilities::ALL, nothing())?;
    wait_counter(
        &slave,
        "btslave_pex_ignored_total{reason=\"address\"}",
        3.0,
        LIMIT,
    )?;
    wait_counter(
        &slave,
        "btslave_pex_ignored_total{reason=\"too_often\"}",
        1.0,
        LIMIT,
    )?;
    places.iter().try_for_each(Forbidden::untouched)
}

/// A tracker's peers: forbidden places, what is nobody's address, ourselves, a good peer, and a victim 1,000 times.
fn evil_list(
    places: &[Forbidden],
    good: &TcpListener,
    victim: &Forbidden,
) -> anyhow::Result<Vec<u8>> {
    let nowhere = [
        (Ipv4Addr::UNSPECIFIED, 7002),
        (Ipv4Addr::new(224, 0, 0, 1), 7002),
        (Ipv4Addr::BROADCAST, 7002),
        (address(51), 0),
        (address(1), PEER_PORT),
    ];
    let mut all = Vec::new();
    for place in places {
        all.push(place.addr()?);
    }
    all.extend(nowhere.map(SocketAddr::from));
    all.push(good.local_addr()?);
    all.extend([victim.addr()?; 1000]);
    let mut list = Vec::new();
    all.into_iter()
        .for_each(|addr| encode_compact(addr, &mut list));
    Ok(list)
}

pub fn c3_evil_peer_lists() -> anyhow::Result<()> {
    let places = forbidden()?;
    let victim = Forbidden::at((address(66), 7777))?;
    let good = TcpListener::bind((address(30), 7001))?;
    let list = evil_list(&places, &good, &victim)?;
    let reply = Item::dict([("interval", Item::Int(60)), ("peers", Item::bytes(list))]);
    let tracker = Tracker::start(address(9), reply)?;
    let kind = Kind {
        tracker: Some(tracker.address()),
        ..Kind::default()
    };
    let torrent = Torrent::new("c3.bin", MIB, 64 << 10, kind)?;
    let slave = slave("")?;
    add(&slave, &torrent, &[])?;
    let _dialled = RawPeer::accept(&good, LIMIT, &torrent, Abilities::ALL, nothing())?;
    let attempt = || match victim.0.accept() {
        Ok((stream, _)) => Ok(Some((Instant::now(), stream))),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e.into()),
    };
    let (first, stream) = eventually("the victim is dialled once", LIMIT, attempt)?;
    drop(stream);
    let (second, _stream) = eventually("the victim is dialled again", LIMIT, attempt)?;
    let pause = second.duration_since(first);
    ensure!(
        pause >= Duration::from_secs(4),
        "the victim was dialled again after {pause:?}"
    );
    places.iter().try_for_each(Forbidden::untouched)?;
    for (reason, least) in [
        ("peer_scope", 2.0),
        ("peer_privileged_port", 1.0),
        ("peer_not_a_host", 3.0),
        ("peer_port_zero", 1.0),
        ("peer_repeated", 1.0),
        ("peer_unreadable", 1.0),
    ] {
        wait_counter(
            &slave,
            &format!("btslave_tracker_refused_total{{reason=\"{reason}\"}}"),
            least,
            LIMIT,
        )?;
    }
    wait_counter(
        &slave,
        "btslave_dials_refused_total{reason=\"ourselves\"}",
        1.0,
        LIMIT,
    )?;
    let ourselves = counter(
        &slave,
        "btslave_handshakes_refused_total{reason=\"ourselves\"}",
    )?;
    ensure!(ourselves == 0.0, "it dialled itself");
    Ok(())
}

pub fn f4_a_second_daemon() -> anyhow::Result<()> {
    let slave = slave("")?;
    let out = Command::new(program("btslave")?)
        .arg("run")
        .arg("--data-dir")
        .arg(slave.data_dir())
        .args(["--config", "/dev/null"])
        .args([
            "--set",
            "node.listen=[\"198.18.0.1:7000\"]",
            "--set",
            "api.listen=",
        ])
        .output()?;
    let said =
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.code() == Some(1), "{}: {said}", out.status);
    ensure!(
        said.contains("another btslave"),
        "it does not say why: {said}"
    );
    slave.ctl(&["status"]).map(drop)
}

/// A set shown whole, or BEP 21's word that nothing more is wanted.
fn looks_like_a_seed(heard: &Heard) -> bool {
    let upload_only = |payload: &[u8]| payload.windows(11).any(|word| word == b"upload_only");
    matches!(
        heard,
        Heard::Message(Message::HaveAll | Message::Bitfield(_))
    ) || matches!(heard, Heard::Message(Message::Extended { id: 0, payload }) if upload_only(payload))
}

pub fn r3_announces_are_truthful() -> anyhow::Result<()> {
    let reply = Item::dict([("interval", Item::Int(60)), ("peers", Item::bytes([]))]);
    let tracker = Tracker::start(address(9), reply)?;
    let kind = Kind {
        tracker: Some(tracker.address()),
        ..Kind::default()
    };
    // Smaller than the cache, and wanted whole by the master: only its word keeps it from having everything.
    let torrent = Torrent::new("r3.bin", 2 * MIB, 64 << 10, kind)?;
    let total = torrent.content.len() as u64;
    let mut slave = slave(&master(3))?;
    let listener = TcpListener::bind((address(2), PEER_PORT))?;
    add(&slave, &torrent, &[listener.local_addr()?])?;
    let _seed = RawPeer::accept(&listener, LIMIT, &torrent, Abilities::ALL, source(&torrent))?;
    let started = tracker.wait_event("started", LIMIT)?;
    ensure!(started.number("left") == Some(total), "{started:?}");
    let account = Account::default();
    let script = taker(&torrent, Abilities::ALL, true, &account);
    let master = RawPeer::connect(
        address(3),
        slave.address(),
        &torrent,
        Abilities::ALL,
        script,
    )?;
    eventually("the master has everything", LIMIT, || {
        Ok((account.lock().complete.len() == torrent.pieces()).then_some(()))
    })?;
    let seen = master.events();
    let seed = seen.iter().find(|event| looks_like_a_seed(&event.heard));
    ensure!(seed.is_none(), "it looks like a seed: {seed:?}");
    let held = slave.status(&torrent)?;
    ensure!(!held.done && held.have_bytes > 0, "{held:?}");
    // Rates and `left` are brought up together, once a second.
    eventually("a figure", LIMIT, || {
        let rate = slave.ctl(&["status"])?["upload_rate_bps"].as_u64();
        Ok((rate > Some(0)).then_some(()))
    })?;
    slave.stop()?;
    let stopped = tracker.wait_event("stopped", LIMIT)?;
    let left = stopped.number("left").context("no left")?;
    ensure!(
        left > 0 && left < total,
        "stopped with {left} of {total} left, it held {held:?}"
    );
    ensure!(stopped.number("uploaded") > Some(0), "{stopped:?}");
    ensure!(
        stopped.number("downloaded") >= Some(total - left),
        "{stopped:?}"
    );
    for asked in tracker.announces() {
        ensure!(asked.number("left") > Some(0), "{asked:?}");
        let event = asked.query.get("event").map(String::as_str);
        ensure!(event != Some("completed"), "{asked:?}");
    }
    let last = tracker
        .announces()
        .pop()
        .and_then(|asked| asked.query.get("event").cloned());
    ensure!(
        last.as_deref() == Some("stopped"),
        "the last word was {last:?}"
    );
    Ok(())
}
