//! The harness itself, without BTSlave: real clients exchange a torrent and meet at a tracker.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::clients::{
    Aria2, Client, Libtorrent, OpenTracker, PEER_PORT, Program, QBittorrent, Role, Transmission,
    folder,
};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer, nothing, sink, source};
use tests::runner::{Test, address};
use tests::wait::eventually;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(40);

pub const TESTS: &[Test] = &[
    Test {
        name: "harness::libtorrent_seeds_to_transmission",
        needs: &[Program::Libtorrent, Program::Transmission],
        seconds: 90,
        run: libtorrent_seeds_to_transmission,
    },
    Test {
        name: "harness::libtorrent_seeds_to_qbittorrent",
        needs: &[Program::Libtorrent, Program::QBittorrent],
        seconds: 90,
        run: libtorrent_seeds_to_qbittorrent,
    },
    Test {
        name: "harness::aria2_and_transmission_meet_at_opentracker",
        needs: &[Program::Aria2, Program::Transmission, Program::OpenTracker],
        seconds: 90,
        run: aria2_and_transmission_meet_at_opentracker,
    },
    Test {
        name: "harness::raw_source_and_sink_serve_libtorrent",
        needs: &[Program::Libtorrent],
        seconds: 60,
        run: raw_source_and_sink_serve_libtorrent,
    },
    Test::alone(
        "harness::nothing_outside_the_test_network_can_be_reached",
        20,
        nothing_outside_the_test_network_can_be_reached,
    ),
];

/// Transmission cannot be told of peers, so the seed dials.
fn libtorrent_seeds_to_transmission() -> anyhow::Result<()> {
    let torrent = Torrent::new(
        "private.bin",
        4 * MIB,
        256 << 10,
        Kind {
            private: true,
            tracker: None,
        },
    )?;
    let mut seed = Libtorrent::seed(address(2), &torrent)?;
    let mut leecher = Transmission::start(address(3), &json!({}))?;
    let target = folder("target")?;
    leecher.add(&torrent, &target, Role::Leech)?;
    seed.add_peer(&torrent, leecher.address())?;
    let status = leecher.wait_done(&torrent, LIMIT)?;
    ensure!(status.have_bytes == 4 << 20, "{status:?}");
    torrent.verify(&target)?;
    leecher.stop()?;
    seed.stop()
}

fn libtorrent_seeds_to_qbittorrent() -> anyhow::Result<()> {
    let torrent = Torrent::new("public.bin", 4 * MIB + 12_345, 64 << 10, Kind::default())?;
    let mut seed = Libtorrent::seed(address(2), &torrent)?;
    let mut leecher = QBittorrent::start(address(3), &json!({}))?;
    let target = folder("target")?;
    leecher.add(&torrent, &target, Role::Leech)?;
    leecher.add_peer(&torrent, seed.address())?;
    leecher.wait_done(&torrent, LIMIT)?;
    torrent.verify(&target)?;
    let sent = seed.status(&torrent)?.up_bytes;
    ensure!(
        sent >= torrent.content.len() as u64,
        "the seed says that it sent {sent} bytes"
    );
    leecher.stop()?;
    seed.stop()
}

/// Neither can be told of peers: only the tracker brings them together.
fn aria2_and_transmission_meet_at_opentracker() -> anyhow::Result<()> {
    let mut tracker = OpenTracker::start(address(9))?;
    let kind = Kind {
        private: true,
        tracker: Some(tracker.address()),
    };
    let torrent = Torrent::new("tracked.bin", 2 * MIB, 128 << 10, kind)?;
    tracker.allow(torrent.info_hash)?;
    ensure!(
        tracker.scrape(torrent.info_hash)? == (0, 0),
        "the tracker knows peers before any came"
    );
    let source = folder("seed")?;
    torrent.write_into(&source)?;
    let mut seed = Aria2::start(address(2), &[])?;
    seed.add(&torrent, &source, Role::Seed)?;
    eventually("the tracker knows the seed", LIMIT, || {
        Ok((tracker.scrape(torrent.info_hash)?.0 == 1).then_some(()))
    })?;
    let mut leecher = Transmission::start(address(3), &json!({}))?;
    let target = folder("target")?;
    leecher.add(&torrent, &target, Role::Leech)?;
    leecher.wait_done(&torrent, LIMIT)?;
    torrent.verify(&target)?;
    leecher.stop()?;
    seed.stop()?;
    tracker.stop()
}

/// A raw source feeds libtorrent, which then feeds a raw sink; each block is compared.
fn raw_source_and_sink_serve_libtorrent() -> anyhow::Result<()> {
    let torrent = Torrent::new("raw.bin", MIB + 4321, 64 << 10, Kind::default())?;
    let mut node = Libtorrent::start(address(2), &json!({}))?;
    let target = folder("target")?;
    node.add(&torrent, &target, Role::Leech)?;
    let listener = TcpListener::bind((address(3), PEER_PORT))?;
    node.add_peer(&torrent, listener.local_addr()?)?;
    let source = RawPeer::accept(
        &listener,
        LIMIT,
        &torrent,
        Abilities::PLAIN,
        source(&torrent),
    )?;
    node.wait_done(&torrent, LIMIT)?;
    drop(source);
    let sink = RawPeer::connect(
        address(4),
        node.address(),
        &torrent,
        Abilities::ALL,
        sink(&torrent),
    )?;
    let bytes = u64::try_from(torrent.content.len())?;
    sink.wait_for("every block, each correct", LIMIT, |events| {
        let got = events.iter().map(|event| {
            let Heard::Block {
                block,
                correct: true,
            } = event.heard
            else {
                return 0;
            };
            u64::from(block.length)
        });
        (got.sum::<u64>() == bytes).then_some(())
    })?;
    ensure!(
        sink.extension_id("lt_donthave").is_some(),
        "libtorrent's handshake was not understood"
    );
    // A frame of an announced 2 GiB ends the connection, and the log says so.
    let attacker = RawPeer::connect(
        address(5),
        node.address(),
        &torrent,
        Abilities::PLAIN,
        nothing(),
    )?;
    attacker.sender().send_bytes(&[0x7f, 0xff, 0xff, 0xff]);
    attacker.wait_for("the end", LIMIT, |events| {
        events
            .iter()
            .any(|event| matches!(event.heard, Heard::Closed(_)))
            .then_some(())
    })?;
    node.stop()
}

fn nothing_outside_the_test_network_can_be_reached() -> anyhow::Result<()> {
    let listener = TcpListener::bind((address(200), 0))?;
    let inside =
        std::net::TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5));
    ensure!(inside.is_ok(), "198.18.0.200 is not ours: {inside:?}");
    let outside = std::net::UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "192.0.2.1:9");
    ensure!(outside.is_err(), "a packet left the namespace");
    Ok(())
}
