//! The slave with a small cache: real masters complete through it alone, and it takes nothing from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bt_wire::message::{BlockRef, Message};
use serde_json::{Value, json};
use tests::clients::{
    Btslave, Client, Libtorrent, PEER_PORT, Program, QBittorrent, Role, Status, Transmission,
    folder,
};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Event, Heard, RawPeer, Script, nothing, sink};
use tests::runner::{Test, address};
use tests::wait::eventually;

use crate::support::rpc;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(90);
/// The same where no real client's timers are waited for.
const SOON: Duration = Duration::from_secs(20);
/// `cache.size` of the large tests.
const CACHE_BYTES: u64 = 64 << 20;
/// Of any byte count that should be the torrent's size: one part in this many may be added.
const OVERHEAD: u64 = 50;

const SEED: u8 = 2;
const MASTER: u8 = 3;
const SLAVE: u8 = 4;

/// Reached by nobody who was not told: no tracker, no DHT, no PEX.
const PRIVATE: Kind = Kind {
    private: true,
    tracker: None,
};

pub const TESTS: &[Test] = &[
    Test {
        name: "slave::with_a_small_cache_feeds_transmission",
        needs: &[Program::Libtorrent, Program::Transmission],
        seconds: 150,
        run: || small_cache(|| Transmission::start(address(MASTER), &json!({}))),
    },
    Test {
        name: "slave::with_a_small_cache_feeds_qbittorrent",
        needs: &[Program::Libtorrent, Program::QBittorrent],
        seconds: 150,
        run: || small_cache(|| QBittorrent::start(address(MASTER), &json!({}))),
    },
    Test {
        name: "slave::never_asks_a_master_for_a_block",
        needs: &[Program::Libtorrent],
        seconds: 90,
        run: never_asks_a_master_for_a_block,
    },
    Test {
        name: "slave::follows_transmission_by_rpc_alone",
        needs: &[Program::Libtorrent, Program::Transmission],
        seconds: 90,
        run: follows_transmission_by_rpc_alone,
    },
    Test {
        name: "slave::follows_a_qbittorrent_that_cannot_be_dialled_by_rpc_alone",
        needs: &[Program::Libtorrent, Program::QBittorrent],
        seconds: 90,
        run: follows_a_qbittorrent_that_cannot_be_dialled_by_rpc_alone,
    },
];

/// A real master.
trait Master: Client {
    /// The addresses of the peers it is connected to.
    fn peers(&mut self, torrent: &Torrent) -> anyhow::Result<BTreeSet<IpAddr>>;
}

impl Master for Transmission {
    fn peers(&mut self, torrent: &Torrent) -> anyhow::Result<BTreeSet<IpAddr>> {
        addresses(
            self.get(torrent, &["peers"])?["peers"].as_array(),
            "address",
        )
    }
}

impl Master for QBittorrent {
    fn peers(&mut self, torrent: &Torrent) -> anyhow::Result<BTreeSet<IpAddr>> {
        let answer = self.get(&format!("sync/torrentPeers?hash={}", torrent.info_hash))?;
        let peers: Option<Vec<Value>> = answer["peers"]
            .as_object()
            .map(|peers| peers.values().cloned().collect());
        addresses(peers.as_ref(), "ip")
    }
}

fn addresses(peers: Option<&Vec<Value>>, key: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
    let address = |peer: &Value| {
        Ok(peer[key]
            .as_str()
            .context("a peer without an address")?
            .parse()?)
    };
    peers
        .context("no list of peers")?
        .iter()
        .map(address)
        .collect()
}

/// Seed, master and slave; the master is never told of the seed.
struct Scene<M> {
    torrent: Torrent,
    seed: Libtorrent,
    master: M,
    slave: Btslave,
    /// Everybody whom the seed and the master were ever connected to
    met: (BTreeSet<IpAddr>, BTreeSet<IpAddr>),
}

impl<M: Master> Scene<M> {
    /// One look: who knows whom, and how much lies on the slave's disk.
    fn look(&mut self) -> anyhow::Result<Status> {
        let hash = self.torrent.info_hash.to_string();
        let of_seed = self.seed.call("peers", json!({ "hash": hash }))?;
        self.met
            .0
            .extend(addresses(of_seed["peers"].as_array(), "address")?);
        self.met.1.extend(self.master.peers(&self.torrent)?);
        self.master.status(&self.torrent)
    }

    /// Waits until the master is complete, and tells what it has, sent and received. `seen` looks at the slave.
    fn wait_master(
        &mut self,
        mut seen: impl FnMut(&Btslave) -> anyhow::Result<()>,
    ) -> anyhow::Result<Status> {
        let mut wrong = None;
        let done = eventually("the master is complete", LIMIT, || {
            let status = self.look()?;
            wrong = seen(&self.slave).err();
            Ok((status.done || wrong.is_some()).then_some(status))
        });
        match wrong {
            Some(wrong) => Err(wrong),
            None => done,
        }
    }

    /// The seed gave to the slave alone, the master took from the slave alone, each piece once, and gave nothing.
    fn check(&mut self, master: Status, to_master: u64) -> anyhow::Result<()> {
        let slave = BTreeSet::from([IpAddr::from(address(SLAVE))]);
        ensure!(
            self.met == (slave.clone(), slave),
            "the seed and the master met others than the slave: {:?}",
            self.met
        );
        let size = u64::try_from(self.torrent.content.len())?;
        let once = size..=size + size / OVERHEAD;
        ensure!(
            once.contains(&to_master),
            "the slave sent the master {to_master} of {size} bytes"
        );
        ensure!(
            master.down_bytes <= *once.end(),
            "the master received {} of {size} bytes",
            master.down_bytes
        );
        ensure!(
            master.up_bytes == 0,
            "the master gave {} bytes",
            master.up_bytes
        );
        let seed = self.seed.status(&self.torrent)?.up_bytes;
        ensure!(once.contains(&seed), "the seed sent {seed} of {size} bytes");
        Ok(())
    }
}

/// The slave's configuration: this cache, and the master at its address.
fn sections(cache_mib: u64, memory_mib: u64, more: &str) -> String {
    format!(
        "[cache]\nsize = \"{cache_mib} MiB\"\nmemory = \"{memory_mib} MiB\"\nmin_free = \"1 MiB\"\n\n\
         [[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"\n{more}",
        address(MASTER)
    )
}

/// Bytes of all files in a folder, whatever lies in between.
fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What is gone a moment later was small.
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() {
            bytes_in(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}

fn small_cache<M: Master>(start: impl FnOnce() -> anyhow::Result<M>) -> anyhow::Result<()> {
    let torrent = Torrent::new("large.bin", 512 * MIB, 1 << 20, PRIVATE)?;
    let seed = Libtorrent::seed(address(SEED), &torrent)?;
    let mut master = start()?;
    let target = folder("target")?;
    master.add(&torrent, &target, Role::Leech)?;
    let mut slave = Btslave::start(address(SLAVE), &sections(CACHE_BYTES >> 20, 16, ""), &[])?;
    slave.add_peer(&torrent, seed.address())?;
    let mut scene = Scene {
        torrent,
        seed,
        master,
        slave,
        met: Default::default(),
    };
    let (mut on_disk, mut used) = (0, 0);
    let status = scene.wait_master(|slave| {
        on_disk = on_disk.max(bytes_in(&slave.data_dir())?);
        let cache = slave.ctl(&["cache"])?;
        used = used.max(cache["used_bytes"].as_u64().context("no used_bytes")?);
        ensure!(
            on_disk <= CACHE_BYTES && used <= CACHE_BYTES,
            "{on_disk} bytes on disk, {used} in the cache"
        );
        Ok(())
    })?;
    scene.torrent.verify(&target)?;
    ensure!(on_disk > 0 && used > 0, "the cache was never seen in use");
    let row = swarm(&scene.slave, &scene.torrent)?.context("the swarm is gone")?;
    scene.check(
        status,
        row["to_master_bytes"]
            .as_u64()
            .context("no to_master_bytes")?,
    )?;
    let high_water = scene
        .slave
        .metric("btslave_cache_high_water_bytes")?
        .context("no high-water mark")?;
    let told = scene.slave.ctl(&["cache"])?["high_water_bytes"].as_u64();
    ensure!(
        told.is_some_and(|told| told <= CACHE_BYTES) && high_water <= CACHE_BYTES as f64,
        "{told:?}, {high_water}"
    );
    ensure!(
        told.is_some_and(|told| told > CACHE_BYTES / 4),
        "the cache was hardly used: {told:?}"
    );
    scene.slave.stop()?;
    scene.master.stop()?;
    scene.seed.stop()
}

/// A swarm in the slave's list.
fn swarm(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<Option<Value>> {
    let hash = torrent.info_hash.to_string();
    let list = slave.ctl(&["swarms"])?;
    let rows = list.as_array().context("no list of swarms")?;
    Ok(rows
        .iter()
        .find(|row| row["info_hash"] == hash.as_str())
        .cloned())
}

/// The slave names the torrent by itself, by its master's word alone, and has its metadata.
fn wait_followed(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<()> {
    eventually("the slave follows its master's torrent", LIMIT, || {
        Ok(swarm(slave, torrent)?.filter(|row| row["state"] == "joined"))
    })?;
    let shown = slave.ctl(&["swarms", "show", &torrent.info_hash.to_string()])?;
    ensure!(shown["origins"] == json!(["master home"]), "{shown}");
    ensure!(shown["piece_count"] == torrent.pieces(), "{shown}");
    Ok(())
}

/// The slave was told of its master's RPC and nothing else; the seed dials it once it is there.
fn by_rpc_alone<M: Master>(torrent: Torrent, mut master: M, rpc: &str) -> anyhow::Result<()> {
    let mut seed = Libtorrent::seed(address(SEED), &torrent)?;
    let target = folder("target")?;
    master.add(&torrent, &target, Role::Leech)?;
    let slave = Btslave::start(address(SLAVE), &sections(8, 2, rpc), &[])?;
    wait_followed(&slave, &torrent)?;
    seed.add_peer(&torrent, slave.address())?;
    let mut scene = Scene {
        torrent,
        seed,
        master,
        slave,
        met: Default::default(),
    };
    let status = scene.wait_master(|_| Ok(()))?;
    scene.torrent.verify(&target)?;
    // What the master misses no longer is not followed any more.
    eventually("the swarm is left", LIMIT, || {
        Ok(swarm(&scene.slave, &scene.torrent)?.is_none().then_some(()))
    })?;
    let masters = scene.slave.ctl(&["master"])?;
    ensure!(masters[0]["rpc"]["state"] == "ok", "{masters}");
    scene.check(
        status,
        masters[0]["to_master_bytes"]
            .as_u64()
            .context("no to_master_bytes")?,
    )?;
    scene.slave.stop()?;
    scene.master.stop()?;
    scene.seed.stop()
}

/// Transmission's RPC gives no metainfo: the slave has it from Transmission as a peer.
fn follows_transmission_by_rpc_alone() -> anyhow::Result<()> {
    let torrent = Torrent::new("public.bin", 16 * MIB, 256 << 10, Kind::default())?;
    let master = Transmission::start(address(MASTER), &json!({}))?;
    let url = format!("http://{}/transmission/rpc", master.rpc());
    by_rpc_alone(
        torrent,
        master,
        &rpc("transmission", &url, Transmission::LOGIN)?,
    )
}

/// As behind a router: only because it is told of the slave by its RPC, and dials, do the two meet.
fn follows_a_qbittorrent_that_cannot_be_dialled_by_rpc_alone() -> anyhow::Result<()> {
    let torrent = Torrent::new("private.bin", 16 * MIB, 256 << 10, PRIVATE)?;
    let master = QBittorrent::start(address(MASTER), &json!({}))?;
    close_the_way_to(&torrent, &master)?;
    let url = format!("http://{}", master.web());
    by_rpc_alone(
        torrent,
        master,
        &rpc("qbittorrent", &url, QBittorrent::LOGIN)?,
    )
}

/// From here on the slave's connections to the master's peer port are refused; the master's to the slave are not.
fn close_the_way_to(torrent: &Torrent, master: &QBittorrent) -> anyhow::Result<()> {
    let (from, to, port) = (
        address(SLAVE).to_string(),
        address(MASTER).to_string(),
        PEER_PORT.to_string(),
    );
    let refuse = [
        "rule", "add", "pref", "10", "from", &from, "to", &to, "ipproto", "tcp", "dport", &port,
        "prohibit",
    ];
    // Our rule has to come before the one for local addresses.
    for args in [
        &["rule", "add", "pref", "100", "lookup", "local"][..],
        &["rule", "del", "pref", "0"],
        &refuse,
    ] {
        let status = Command::new("ip")
            .args(args)
            .status()
            .context("cannot start ip")?;
        ensure!(
            status.success(),
            "ip {} ended with {status}",
            args.join(" ")
        );
    }
    let dialled = RawPeer::connect(
        address(SLAVE),
        master.address(),
        torrent,
        Abilities::PLAIN,
        nothing(),
    );
    let refused = dialled.err().context("the way to the master is open")?;
    ensure!(
        format!("{refused:#}").contains("cannot reach"),
        "{refused:#}"
    );
    Ok(())
}

/// A master made by hand has every second piece, keeps the slave unchoked and wants the rest: nothing that comes from
/// the slave is a request, or interest, at any time.
fn never_asks_a_master_for_a_block() -> anyhow::Result<()> {
    let torrent = Torrent::new("raw.bin", 16 * MIB + 4321, 256 << 10, PRIVATE)?;
    let mut seed = Libtorrent::seed(address(SEED), &torrent)?;
    for (abilities, dials_in) in [
        (Abilities::ALL, true),
        (Abilities::PLAIN, true),
        (Abilities::ALL, false),
        (Abilities::PLAIN, false),
    ] {
        let before = seed.status(&torrent)?.up_bytes;
        raw_master(&torrent, seed.address(), abilities, dials_in)
            .with_context(|| format!("{abilities:?}, the master dials: {dials_in}"))?;
        let sent = seed.status(&torrent)?.up_bytes - before;
        let missing: u64 = missing(&torrent).values().sum();
        ensure!(
            sent <= missing + missing / OVERHEAD,
            "the slave fetched {sent} bytes, its master missed {missing}"
        );
    }
    seed.stop()
}

fn raw_master(
    torrent: &Torrent,
    seed: std::net::SocketAddr,
    abilities: Abilities,
    dials_in: bool,
) -> anyhow::Result<()> {
    let listener = (!dials_in)
        .then(|| TcpListener::bind((address(MASTER), PEER_PORT)))
        .transpose()?;
    let mut slave = Btslave::start(address(SLAVE), &sections(4, 4, ""), &[])?;
    slave.add_peer(torrent, seed)?;
    let master = match &listener {
        Some(listener) => RawPeer::accept(listener, SOON, torrent, abilities, master(torrent))?,
        None => RawPeer::connect(
            address(MASTER),
            slave.address(),
            torrent,
            abilities,
            master(torrent),
        )?,
    };
    let missing: u64 = missing(torrent).values().sum();
    let heard = master.wait_for("every missing block", SOON, |events| {
        let wrong = only_what_a_master_may_hear(events);
        (blocks(events).1 >= missing || wrong.is_err()).then_some(wrong)
    })?;
    heard?;
    // Now the master is the best of seeds: it has everything, and it is on the line.
    eventually("the slave knows that its master is complete", SOON, || {
        Ok((slave.ctl(&["master"])?[0]["state"] == "complete").then_some(()))
    })?;
    slave.stop()?;
    let closed = |event: &Event| matches!(event.heard, Heard::Closed(_));
    master.wait_for("the end", SOON, |events| {
        events.iter().any(closed).then_some(())
    })?;
    let events = master.events();
    only_what_a_master_may_hear(&events)?;
    let (different, bytes) = blocks(&events);
    ensure!(
        bytes == missing && different == missing,
        "{bytes} bytes came, {different} different, {missing} were missing"
    );
    fs::remove_dir_all(slave.data_dir())?;
    Ok(())
}

fn only_what_a_master_may_hear(events: &[Event]) -> anyhow::Result<()> {
    for event in events {
        let wrong = matches!(
            event.heard,
            Heard::Message(Message::Request(_) | Message::Interested)
                | Heard::Garbage(_)
                | Heard::Block { correct: false, .. }
        );
        ensure!(!wrong, "the master heard {:?}", event.heard);
    }
    Ok(())
}

/// Bytes of the blocks that came: counting each place once, and all.
fn blocks(events: &[Event]) -> (u64, u64) {
    let mut places = BTreeSet::new();
    let mut bytes = 0;
    for event in events {
        let Heard::Block { block, .. } = event.heard else {
            continue;
        };
        places.insert(block);
        bytes += u64::from(block.length);
    }
    (
        places
            .iter()
            .map(|block: &BlockRef| u64::from(block.length))
            .sum(),
        bytes,
    )
}

/// The pieces that the raw master lacks, every second one, with their bytes.
fn missing(torrent: &Torrent) -> BTreeMap<u32, u64> {
    let pieces = torrent
        .content
        .chunks(torrent.piece_length as usize)
        .zip(0..);
    pieces
        .filter(|(_, piece)| piece % 2 == 1)
        .map(|(bytes, piece)| (piece, bytes.len() as u64))
        .collect()
}

/// What the raw master does: has every second piece, unchokes, asks for what it is offered, and announces what it got.
fn master(torrent: &Torrent) -> Script {
    let (mut fetch, mut missing) = (sink(torrent), missing(torrent));
    let mut bitfield = vec![0_u8; torrent.pieces().div_ceil(8)];
    for piece in (0..torrent.pieces()).step_by(2) {
        bitfield[piece / 8] |= 0x80 >> (piece % 8);
    }
    Box::new(move |sender, message| {
        match message {
            None => {
                sender.send(&Message::Bitfield(bitfield.clone().into()));
                sender.send(&Message::Unchoke);
            }
            Some(Message::Piece { piece, data, .. }) => {
                if let Some(left) = missing.get_mut(piece) {
                    *left = left.saturating_sub(data.len() as u64);
                    if *left == 0 {
                        missing.remove(piece);
                        sender.send(&Message::Have(*piece));
                    }
                }
            }
            Some(_) => {}
        }
        fetch(sender, message);
    })
}
