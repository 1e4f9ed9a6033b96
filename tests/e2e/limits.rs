//! What an operator lives by, over a restart: a pause lasts, and a disk that is to stay free is not grown into.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::clients::{Btslave, Client};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer, source};
use tests::runner::{Test, address};
use tests::wait::eventually;

use crate::support::{Taken, counter, serve, wait_counter};
use crate::taker::{Account, taker};

const SIZE: usize = 8 << 20;
const PIECE: u32 = 64 << 10;
const LIMIT: Duration = Duration::from_secs(60);
/// A swarm of fewer wants too little for a free repeater.
const TAKERS: u8 = 6;

pub const TESTS: &[Test] = &[
    Test::alone(
        "limits::a_pause_lasts_over_a_restart",
        120,
        a_pause_lasts_over_a_restart,
    ),
    Test::alone(
        "limits::min_free_keeps_the_cache_off_the_disk_before_and_after_a_restart",
        150,
        min_free_keeps_the_cache_off_the_disk,
    ),
];

/// A leecher, and what it got.
struct Leecher {
    account: Account,
    _peer: RawPeer,
}

/// A torrent, and its one seed.
struct Scene {
    torrent: Torrent,
    seed: SocketAddr,
    taken: Taken,
}

impl Scene {
    fn new(name: &str) -> anyhow::Result<Self> {
        let torrent = Torrent::new(name, SIZE, PIECE, Kind::default())?;
        let (seed, taken) = serve(address(2), &torrent, source)?;
        Ok(Self {
            torrent,
            seed,
            taken,
        })
    }

    /// Tells the slave of it, never to be left.
    fn introduce(&self, slave: &Btslave) -> anyhow::Result<()> {
        let (path, seed) = (
            self.torrent.path.display().to_string(),
            self.seed.to_string(),
        );
        let args = ["swarms", "add", &path, "--pin", "--peer", &seed];
        slave.ctl(&args).map(drop)
    }

    /// Connections that the slave made to the seed.
    fn dials(&self) -> usize {
        self.taken.lock().map_or(0, |taken| taken.len())
    }
}

fn dial(from: Ipv4Addr, to: SocketAddr, torrent: &Torrent) -> anyhow::Result<Leecher> {
    let account = Account::default();
    let script = taker(torrent, Abilities::ALL, true, &account);
    let peer = RawPeer::connect(from, to, torrent, Abilities::ALL, script)?;
    Ok(Leecher {
        account,
        _peer: peer,
    })
}

/// Several leechers, from the tenth address on.
fn leechers(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<Vec<Leecher>> {
    let from = (10..10 + TAKERS).map(address);
    from.map(|from| {
        eventually("the slave takes a leecher", LIMIT, || {
            dial(from, slave.address(), torrent).map(Some)
        })
    })
    .collect()
}

/// Each of them has so many pieces.
fn wait_pieces(leechers: &[Leecher], pieces: usize) -> anyhow::Result<()> {
    eventually(&format!("{pieces} pieces for each leecher"), LIMIT, || {
        let mut complete = leechers.iter().map(|l| l.account.lock().complete.len());
        Ok(complete.all(|count| count >= pieces).then_some(()))
    })
}

fn this_run(status: &Value) -> Option<(u64, u64)> {
    let session = &status["session"];
    Some((
        session["uploaded_bytes"].as_u64()?,
        session["downloaded_bytes"].as_u64()?,
    ))
}

/// Nobody is let in, nothing flows, and people are told.
fn stands_still(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<()> {
    let refused = RawPeer::connect(
        address(30),
        slave.address(),
        torrent,
        Abilities::ALL,
        tests::raw::nothing(),
    );
    if let Ok(peer) = refused {
        peer.wait_for("a closed connection", LIMIT, |events| {
            let closed = |heard: &Heard| matches!(heard, Heard::Closed(_));
            events.iter().find(|event| closed(&event.heard)).map(|_| ())
        })?;
    }
    let status = slave.ctl(&["status"])?;
    ensure!(status["paused"] == true, "not paused: {status}");
    let state = &status["swarms"][0]["state"];
    ensure!(*state == "paused", "the swarm is {state}");
    Ok(())
}

fn a_pause_lasts_over_a_restart() -> anyhow::Result<()> {
    let sections = "[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"0 B\"";
    let mut slave = Btslave::start(address(1), sections, &[])?;
    let scene = Scene::new("paused.bin")?;
    let torrent = &scene.torrent;
    scene.introduce(&slave)?;
    let before = leechers(&slave, torrent)?;
    wait_pieces(&before, 4)?;
    slave.ctl(&["pause"])?;
    stands_still(&slave, torrent)?;
    drop(before);

    slave.stop()?;
    let dialled = scene.dials();
    slave.restart()?;
    stands_still(&slave, torrent)?;
    let status = slave.ctl(&["status"])?;
    let moved = this_run(&status).context("no figures of this run")?;
    ensure!(moved == (0, 0), "paused, and {moved:?} bytes went");
    ensure!(scene.dials() == dialled, "it dialled the seed while paused");

    slave.ctl(&["resume"])?;
    scene.introduce(&slave)?;
    let after = leechers(&slave, torrent)?;
    wait_pieces(&after, 4)?;
    ensure!(scene.dials() > dialled, "the seed was not dialled again");
    slave.stop()
}

/// The disk has less than `min_free` by far, so nothing of the cache may lie there; what fits into memory goes round.
fn min_free_keeps_the_cache_off_the_disk() -> anyhow::Result<()> {
    let sections = "[cache]\nsize = \"2 MiB\"\nmemory = \"1 MiB\"\nmin_free = \"100000 TiB\"";
    let mut slave = Btslave::start(address(1), sections, &[])?;
    let scene = Scene::new("full.bin")?;
    for round in ["first run", "after the restart"] {
        scene.introduce(&slave)?;
        let takers = leechers(&slave, &scene.torrent)?;
        wait_counter(&slave, "btslave_cache_min_free_total", 1.0, LIMIT).context(round)?;
        // Twice what memory holds: pieces come and go.
        wait_pieces(&takers, (2 << 20) / PIECE as usize).context(round)?;
        let file = fs::metadata(slave.data_dir().join("cache.bin"))?;
        ensure!(
            file.blocks() == 0,
            "{round}: {} sectors of cache.bin are in use",
            file.blocks()
        );
        let high = counter(&slave, "btslave_cache_high_water_bytes")?;
        ensure!(high <= f64::from(2 << 20), "{round}: {high} bytes");
        drop(takers);
        slave.stop()?;
        if round == "first run" {
            slave.restart()?;
        }
    }
    Ok(())
}
