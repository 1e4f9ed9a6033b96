//! Help between friends with real daemons: an unmodified master meets a friend's line, and both ledgers say the same.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::clients::{
    Btslave, Client, Libtorrent, PEER_PORT, Program, QBittorrent, Role, Transmission, folder,
};
use tests::content::{Kind, Torrent};
use tests::http_gate::HttpGate;
use tests::runner::{Test, address};
use tests::wait::eventually;

use crate::support::rpc;

const MIB: usize = 1 << 20;
/// The master's torrent. Its own slave's line alone would take over four minutes.
const SIZE: usize = 64 * MIB;
const LINE: &str = "256 KiB/s";
/// `friends.window`: by so much the ledger and what the master counted may differ.
const WINDOW: u64 = 4 << 20;
const LIMIT: Duration = Duration::from_secs(150);

const SEED: u8 = 2;
const MASTER: u8 = 3;
const SLAVE: u8 = 4;
const HELPER: u8 = 5;

pub const TESTS: &[Test] = &[
    Test {
        name: "friends::transmission_is_introduced_to_a_helper",
        needs: &[Program::Libtorrent, Program::Transmission],
        seconds: 180,
        run: transmission_is_introduced_to_a_helper,
    },
    Test {
        name: "friends::qbittorrent_is_introduced_where_its_rpc_cannot_dial",
        needs: &[Program::Libtorrent, Program::QBittorrent],
        seconds: 180,
        run: qbittorrent_is_introduced_where_its_rpc_cannot_dial,
    },
    Test {
        name: "friends::qbittorrent_is_told_of_a_helper_by_rpc",
        needs: &[Program::Libtorrent, Program::QBittorrent],
        seconds: 180,
        run: qbittorrent_is_told_of_a_helper_by_rpc,
    },
];

/// Seed, slave and helper; the master is never told of the seed.
struct Scene {
    torrent: Torrent,
    seed: Libtorrent,
    slave: Btslave,
    helper: Btslave,
}

impl Scene {
    /// `rpc`: the line of the master's section.
    fn new(torrent: Torrent, rpc: &str) -> anyhow::Result<Self> {
        let seed = Libtorrent::seed(address(SEED), &torrent)?;
        let master = format!(
            "[limits]\nupload = \"{LINE}\"\n\n[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"\n{rpc}",
            address(MASTER)
        );
        let mut scene = Self {
            slave: Btslave::start(address(SLAVE), &master, &[])?,
            helper: Btslave::start(address(HELPER), "", &[])?,
            torrent,
            seed,
        };
        scene.befriend()?;
        let seed = scene.seed.address();
        scene.slave.add_peer(&scene.torrent, seed)?;
        scene.helper.add_peer(&scene.torrent, seed)?;
        Ok(scene)
    }

    /// Both give each other's code; the slave knows where the helper is.
    fn befriend(&self) -> anyhow::Result<()> {
        let (ours, theirs) = (self.slave.friend_code()?, self.helper.friend_code()?);
        let at = format!("{theirs}@{}", self.helper.address());
        self.slave.ctl(&["friends", "add", &at, "--name", "Ann"])?;
        self.helper
            .ctl(&["friends", "add", &ours, "--name", "Bob"])?;
        for daemon in [&self.slave, &self.helper] {
            eventually("a session stands", LIMIT, || {
                Ok((friend(daemon)?["state"] == "synced").then_some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until the master is complete. `counted`: what the master says it had of the helper, while it still does.
    fn complete<M: Client>(
        mut self,
        mut master: M,
        target: &std::path::Path,
        mut counted: impl FnMut(&mut M, &Torrent) -> anyhow::Result<Option<u64>>,
    ) -> anyhow::Result<()> {
        let mut of_helper = None;
        eventually("the master is complete", LIMIT, || {
            of_helper = counted(&mut master, &self.torrent)?.or(of_helper);
            Ok(master.status(&self.torrent)?.done.then_some(()))
        })?;
        self.torrent.verify(target)?;
        let owed = eventually("both ledgers say the same", LIMIT, || {
            let (here, there) = (friend(&self.slave)?, friend(&self.helper)?);
            let (ours, theirs) = (&here["owed_by_us_bytes"], &there["owed_to_us_bytes"]);
            let equal = ours == theirs && self.is_over()?;
            Ok(ours.as_u64().filter(|_| equal))
        })?;
        let by_slave = self.slave.ctl(&["master"])?[0]["to_master_bytes"]
            .as_u64()
            .context("no to_master_bytes")?;
        println!(
            "of {SIZE} bytes {by_slave} came from the slave; {owed} are owed to the helper, the master counted {of_helper:?}"
        );
        let size = SIZE as u64;
        ensure!(owed > size / 2, "the helper gave {owed} of {size} bytes");
        ensure!(
            (by_slave + owed).abs_diff(size) <= WINDOW,
            "{by_slave} and {owed} are not {size}"
        );
        if let Some(counted) = of_helper {
            ensure!(
                counted.abs_diff(owed) <= WINDOW,
                "{counted} counted, {owed} owed"
            );
        }
        self.slave.stop()?;
        self.helper.stop()?;
        master.stop()?;
        self.seed.stop()
    }

    /// The help is over on both sides: nothing more will be signed.
    fn is_over(&self) -> anyhow::Result<bool> {
        let ended = |daemon: &Btslave, text: &str| {
            anyhow::Ok(fs::read_to_string(daemon.log())?.contains(text))
        };
        Ok(ended(&self.slave, "help: Ann is done")? && ended(&self.helper, "help: over for Bob")?)
    }
}

/// The one row of `slavectl friends`.
fn friend(daemon: &Btslave) -> anyhow::Result<Value> {
    let rows = daemon.ctl(&["friends"])?;
    let row = rows.as_array().and_then(|rows| rows.first());
    row.cloned().context("no friend")
}

fn torrent() -> anyhow::Result<Torrent> {
    Torrent::new("public.bin", SIZE, 256 << 10, Kind::default())
}

fn transmission_is_introduced_to_a_helper() -> anyhow::Result<()> {
    let torrent = torrent()?;
    let mut master = Transmission::start(address(MASTER), &json!({ "pex-enabled": true }))?;
    let target = folder("target")?;
    master.add(&torrent, &target, Role::Leech)?;
    let url = format!("http://{}/transmission/rpc", master.rpc());
    let scene = Scene::new(torrent, &rpc("transmission", &url, Transmission::LOGIN)?)?;
    eventually(
        "the master knows a peer by PEX alone, and dialled it",
        LIMIT,
        || {
            let got = master.get(&scene.torrent, &["peers", "peersFrom"])?;
            let peers = got["peers"].as_array().context("no peers")?;
            let helper = address(HELPER).to_string();
            let met = peers
                .iter()
                .any(|peer| peer["address"] == helper.as_str() && peer["isIncoming"] == false);
            Ok((met && got["peersFrom"]["fromPex"] == 1).then_some(()))
        },
    )?;
    scene.complete(master, &target, |_, _| Ok(None))
}

/// What qBittorrent says of its connection to this peer.
fn peer(master: &QBittorrent, torrent: &Torrent, at: SocketAddr) -> anyhow::Result<Value> {
    let answer = master.get(&format!("sync/torrentPeers?hash={}", torrent.info_hash))?;
    Ok(answer["peers"][at.to_string()].clone())
}

fn with_qbittorrent(
    web: impl FnOnce(&QBittorrent) -> anyhow::Result<SocketAddr>,
    by_pex: bool,
) -> anyhow::Result<()> {
    let torrent = torrent()?;
    let mut master = QBittorrent::start(address(MASTER), &json!({ "pex": true }))?;
    let target = folder("target")?;
    master.add(&torrent, &target, Role::Leech)?;
    let url = format!("http://{}", web(&master)?);
    let scene = Scene::new(torrent, &rpc("qbittorrent", &url, QBittorrent::LOGIN)?)?;
    let helper = SocketAddr::from((address(HELPER), PEER_PORT));
    // X: it knows the peer by PEX. An incoming connection would come from another port.
    eventually("the master dialled the helper", LIMIT, || {
        let peer = peer(&master, &scene.torrent, helper)?;
        let flags = peer["flags"].as_str().context("no such peer")?;
        Ok((flags.contains('X') == by_pex).then_some(()))
    })?;
    scene.complete(master, &target, |master, torrent| {
        Ok(peer(master, torrent, helper)?["downloaded"].as_u64())
    })
}

fn qbittorrent_is_introduced_where_its_rpc_cannot_dial() -> anyhow::Result<()> {
    let mut gate = None;
    let gateway = |master: &QBittorrent| {
        let between = HttpGate::start(Ipv4Addr::LOCALHOST, master.web(), "torrents/addPeers")?;
        let at = between.address();
        gate = Some(between);
        Ok(at)
    };
    with_qbittorrent(gateway, true)?;
    let asked = gate.context("no gate")?.refused();
    ensure!(asked > 0, "the RPC was never asked to dial");
    Ok(())
}

fn qbittorrent_is_told_of_a_helper_by_rpc() -> anyhow::Result<()> {
    with_qbittorrent(|master| Ok(master.web()), false)
}
