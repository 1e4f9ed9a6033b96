//! Attacks on the real daemon over real sockets, named by their rows. Each shows that the defence fired.

mod state;
mod trackers;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::ensure;
use bt_wire::bencode::Item;
use bt_wire::message::{BlockRef, Message};
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tests::clients::{Btslave, Client, Libtorrent, PEER_PORT, Program, Role, folder};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, DONT_HAVE_ID, Heard, RawPeer, Script, nothing, sink, source};
use tests::runner::{Test, address};
use tests::wait::eventually;

use crate::support::{counter, serve, wait_counter};

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);
/// A peer that has not shaken hands by then is gone (row B6).
const HANDSHAKE: Duration = Duration::from_secs(10);
const CACHE: &str = "[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"0 B\"\n";
const SILENT: usize = 5000;

pub const TESTS: &[Test] = &[
    Test::alone(
        "hostile::a3_control_characters_reach_neither_terminal_nor_log",
        60,
        trackers::a3_control_characters,
    ),
    Test::alone(
        "hostile::b3_contradictory_sets_are_survived",
        60,
        b3_contradictory_sets,
    ),
    Test::alone(
        "hostile::b6_five_thousand_silent_sockets",
        90,
        b6_five_thousand_silent_sockets,
    ),
    Test {
        name: "hostile::b7_one_seed_in_four_poisons",
        needs: &[Program::Libtorrent],
        seconds: 90,
        run: b7_one_seed_in_four_poisons,
    },
    Test::alone(
        "hostile::b8_requests_while_choked_get_rejects_alone",
        60,
        b8_requests_while_choked,
    ),
    Test::alone(
        "hostile::b10_extended_handshake_junk",
        60,
        b10_extended_handshake_junk,
    ),
    Test::alone(
        "hostile::b12_pex_names_inner_addresses",
        60,
        trackers::b12_pex_names_inner_addresses,
    ),
    Test::alone(
        "hostile::c3_evil_peer_lists_send_no_syn",
        60,
        trackers::c3_evil_peer_lists,
    ),
    Test::alone(
        "hostile::f1_damage_is_neither_served_nor_silent",
        90,
        state::f1_damage_is_neither_served_nor_silent,
    ),
    Test::alone(
        "hostile::f2_a_full_disk_leaves_a_living_daemon",
        60,
        state::f2_a_full_disk_leaves_a_living_daemon,
    ),
    Test::alone(
        "hostile::f4_a_second_daemon_is_refused",
        60,
        trackers::f4_a_second_daemon,
    ),
    Test::alone(
        "hostile::r3_announces_are_truthful",
        90,
        trackers::r3_announces_are_truthful,
    ),
];

/// The peer at address `n` is the master: it gets all it lacks, whatever strangers want.
fn master(n: u8) -> String {
    format!(
        "[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"\n",
        address(n)
    )
}

fn slave(sections: &str) -> anyhow::Result<Btslave> {
    Btslave::start(address(1), &format!("{CACHE}{sections}"), &[])
}

/// Adds a torrent, pinned, with these peers.
fn add(slave: &Btslave, torrent: &Torrent, peers: &[SocketAddr]) -> anyhow::Result<()> {
    let path = torrent.path.display().to_string();
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    let mut args = vec!["swarms", "add", &path, "--pin"];
    for peer in &peers {
        args.extend(["--peer", peer]);
    }
    slave.ctl(&args).map(drop)
}

/// A raw peer of the joined torrent, that says nothing by itself.
fn stranger(n: u8, slave: &Btslave, torrent: &Torrent, can: Abilities) -> anyhow::Result<RawPeer> {
    eventually("a connection", LIMIT, || {
        RawPeer::connect(address(n), slave.address(), torrent, can, nothing()).map(Some)
    })
}

fn closed(peer: &RawPeer) -> anyhow::Result<()> {
    peer.wait_for("the end", LIMIT, |events| {
        let last = events.last().map(|event| &event.heard);
        matches!(last, Some(Heard::Closed(_))).then_some(())
    })
}

fn b3_contradictory_sets() -> anyhow::Result<()> {
    let torrent = Torrent::new("b3.bin", MIB, 64 << 10, Kind::default())?;
    let slave = slave("")?;
    add(&slave, &torrent, &[])?;
    let liar = stranger(2, &slave, &torrent, Abilities::ALL)?;
    let id = || Ok(liar.extension_id("lt_donthave"));
    eventually("their extension handshake", LIMIT, id)?;
    let say = |message: &Message| liar.sender().send(message);
    for _ in 0..3 {
        say(&Message::HaveAll);
        say(&Message::HaveNone);
        say(&Message::Bitfield(Bytes::from_static(&[0xff, 0xff])));
        say(&Message::Have(0));
        say(&Message::Have(0));
        ensure!(liar.dont_have(0) && liar.dont_have(0), "no lt_donthave");
        say(&Message::HaveNone);
        liar.dont_have(15);
    }
    // The last word counts: one piece, which it is then asked for by nobody else's leave.
    say(&Message::Have(3));
    say(&Message::Request(BlockRef {
        piece: 3,
        begin: 0,
        length: 16384,
    }));
    liar.wait_for("an answer after all that", LIMIT, |events| {
        events
            .iter()
            .any(|e| matches!(e.heard, Heard::Message(Message::Reject(_))))
            .then_some(())
    })?;
    drop(liar);
    wait_counter(
        &slave,
        "btslave_session_total{what=\"sets_replaced\"}",
        6.0,
        LIMIT,
    )?;
    wait_counter(
        &slave,
        "btslave_session_total{what=\"repeats\"}",
        3.0,
        LIMIT,
    )
}

/// As many descriptors as the system lets us have.
fn raise_descriptors() -> anyhow::Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(maximum
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX))
}

fn b6_five_thousand_silent_sockets() -> anyhow::Result<()> {
    let silent = SILENT.min(raise_descriptors()?.saturating_sub(200));
    let torrent = Torrent::new("b6.bin", MIB, 64 << 10, Kind::default())?;
    let slave = slave(&master(3))?;
    let listener = TcpListener::bind((address(2), PEER_PORT))?;
    add(&slave, &torrent, &[listener.local_addr()?])?;
    let _seed = RawPeer::accept(&listener, LIMIT, &torrent, Abilities::ALL, source(&torrent))?;
    let to = slave.address();
    let flood = thread::spawn(move || -> io::Result<Vec<TcpStream>> {
        (0..silent).map(|_| TcpStream::connect(to)).collect()
    });
    wait_counter(&slave, "btslave_half_open_evicted_total", 1.0, LIMIT)?;
    let started = Instant::now();
    // The master. Among so many a newcomer may be pushed out before its handshake is read; it dials again, as clients do.
    let honest = eventually("an honest peer gets in", LIMIT, || {
        let sink = sink(&torrent);
        RawPeer::connect(address(3), to, &torrent, Abilities::ALL, sink).map(Some)
    })?;
    honest.wait_for("an honest peer is served", LIMIT, |events| {
        events
            .iter()
            .any(|e| matches!(e.heard, Heard::Block { correct: true, .. }))
            .then_some(())
    })?;
    ensure!(
        started.elapsed() < HANDSHAKE,
        "served only when the silent ones had timed out: {:?}",
        started.elapsed()
    );
    let sockets = flood
        .join()
        .map_err(|_| anyhow::anyhow!("the flood died"))??;
    let flooded = Instant::now();
    for socket in &sockets {
        let left = (HANDSHAKE + Duration::from_secs(5)).saturating_sub(flooded.elapsed());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let end = io::Read::read(&mut &*socket, &mut [0; 1]);
        let gone = match &end {
            Ok(read) => *read == 0,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        };
        ensure!(
            gone,
            "a silent socket lives, or was told something: {end:?}"
        );
    }
    let evicted = counter(&slave, "btslave_half_open_evicted_total")?;
    let late = counter(
        &slave,
        "btslave_handshakes_refused_total{reason=\"silent\"}",
    )?;
    ensure!(
        evicted > 0.0 && late > 0.0,
        "{evicted} evicted, {late} timed out"
    );
    Ok(())
}

/// A seed each of whose blocks has one bit wrong.
fn poison(torrent: &Torrent) -> Script {
    let torrent = torrent.clone();
    let mut honest = source(&torrent);
    Box::new(move |sender, message| match message {
        Some(Message::Request(BlockRef {
            piece,
            begin,
            length,
        })) => {
            let mut data = torrent
                .block(*piece, *begin, *length)
                .unwrap_or_default()
                .to_vec();
            if let Some(first) = data.first_mut() {
                *first ^= 1;
            }
            let (piece, begin, data) = (*piece, *begin, data.into());
            sender.send(&Message::Piece { piece, begin, data });
        }
        Some(_) | None => honest(sender, message),
    })
}

fn b7_one_seed_in_four_poisons() -> anyhow::Result<()> {
    let torrent = Torrent::new("b7.bin", 16 * MIB, 128 << 10, Kind::default())?;
    let mut master = Libtorrent::start(address(3), &json!({}))?;
    let target = folder("target")?;
    master.add(&torrent, &target, Role::Leech)?;
    let mut slave = slave(&self::master(3))?;
    let (bad, poisoned) = serve(address(10), &torrent, poison)?;
    let mut peers = vec![bad];
    for n in 11..14 {
        peers.push(serve(address(n), &torrent, source)?.0);
    }
    add(&slave, &torrent, &peers)?;
    wait_counter(&slave, "btslave_banned_total", 1.0, LIMIT)?;
    master.wait_done(&torrent, LIMIT)?;
    torrent.verify(&target)?;
    let hash = torrent.info_hash.to_string();
    let status = master.call("status", json!({ "hash": hash }))?;
    ensure!(
        status["failed_bytes"] == 0,
        "bad bytes reached the master: {status}"
    );
    let failures = slave.metric("btslave_hash_failures_total")?;
    ensure!(failures > Some(0.0), "no hash failed: {failures:?}");
    let log = fs::read_to_string(slave.process().log())?;
    let mut bans = log
        .lines()
        .filter(|line| line.contains("banned for bad data swarm"));
    let wrong = bans.find(|line| !line.ends_with(&format!("addr={}", bad.ip())));
    ensure!(wrong.is_none(), "an honest seed was banned: {wrong:?}");
    let poisoned = poisoned.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        poisoned.len() == 1,
        "the poisoner was dialled {} times",
        poisoned.len()
    );
    closed(&poisoned[0])
}

fn b8_requests_while_choked() -> anyhow::Result<()> {
    let torrent = Torrent::new("b8.bin", MIB, 64 << 10, Kind::default())?;
    let slave = slave("")?;
    let listener = TcpListener::bind((address(2), PEER_PORT))?;
    add(&slave, &torrent, &[listener.local_addr()?])?;
    let _seed = RawPeer::accept(&listener, LIMIT, &torrent, Abilities::ALL, source(&torrent))?;
    // Never interested, so never unchoked.
    let greedy = stranger(4, &slave, &torrent, Abilities::ALL)?;
    greedy.sender().send(&Message::HaveNone);
    const TIMES: usize = 200;
    let block = BlockRef {
        piece: 0,
        begin: 0,
        length: 16384,
    };
    for _ in 0..TIMES {
        greedy.sender().send(&Message::Request(block));
    }
    let all = greedy.wait_for("a reject for each", LIMIT, |events| {
        let reject = Heard::Message(Message::Reject(block));
        let rejects = events.iter().filter(|event| event.heard == reject);
        (rejects.count() == TIMES).then(|| events.to_vec())
    })?;
    let given = all.iter().find(|event| {
        matches!(
            event.heard,
            Heard::Block { .. } | Heard::Message(Message::AllowedFast(_))
        )
    });
    ensure!(given.is_none(), "a choked peer got {given:?}");
    drop(greedy);
    wait_counter(
        &slave,
        "btslave_session_total{what=\"refused_choked\"}",
        TIMES as f64,
        LIMIT,
    )
}

fn b10_extended_handshake_junk() -> anyhow::Result<()> {
    let torrent = Torrent::new("b10.bin", MIB, 64 << 10, Kind::default())?;
    let slave = slave("")?;
    add(&slave, &torrent, &[])?;
    let hello = |peer: &RawPeer, item: Item| {
        let payload = item.encode().into();
        peer.sender().send(&Message::Extended { id: 0, payload });
    };
    let crowd = |names: u32| {
        let m = Item::dict((0..names).map(|n| (format!("x{n:05}"), Item::Int(3))));
        Item::dict([("m", m)])
    };
    let large = Item::dict([("v", Item::bytes(vec![b'x'; 1_000_000]))]);
    for (n, junk) in [(2, crowd(10_000)), (3, large)] {
        let peer = stranger(n, &slave, &torrent, Abilities::ALL)?;
        hello(&peer, junk);
        closed(&peer)?;
    }
    wait_counter(
        &slave,
        "btslave_violations_total{kind=\"bad_extended\"}",
        2.0,
        LIMIT,
    )?;
    let odd = Item::dict([
        (
            "m",
            Item::dict([("lt_donthave", Item::Int(DONT_HAVE_ID.into()))]),
        ),
        ("metadata_size", Item::Int(-1)),
        ("reqq", Item::Int(1 << 31)),
        ("v", Item::from("\u{1b}[2J".repeat(10_000).as_str())),
    ]);
    let peer = stranger(4, &slave, &torrent, Abilities::ALL)?;
    hello(&peer, odd);
    hello(&peer, crowd(1001));
    let block = BlockRef {
        piece: 0,
        begin: 0,
        length: 16384,
    };
    peer.sender().send(&Message::Request(block));
    peer.wait_for_message(&Message::Reject(block), LIMIT)?;
    drop(peer);
    wait_counter(
        &slave,
        "btslave_session_total{what=\"extended_malformed\"}",
        2.0,
        LIMIT,
    )
}
