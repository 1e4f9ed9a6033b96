//! A disk that lies, fills up, or was tampered with.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tests::clients::{Btslave, Client, PEER_PORT};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer, source};
use tests::runner::address;
use tests::wait::eventually;

use super::{LIMIT, MIB, add, master};
use crate::support::{counter, wait_counter};
use crate::taker::{Account, taker};

const PIECE: u32 = 128 << 10;

/// A slave of the master at address 3, most of whose cache is on disk.
fn slave(min_free: &str) -> anyhow::Result<Btslave> {
    let cache = "[cache]\nsize = \"6 MiB\"\nmemory = \"1 MiB\"";
    let sections = format!("{cache}\nmin_free = \"{min_free}\"\n{}", master(3));
    Btslave::start(address(1), &sections, &[])
}

/// Has the slave fetch the whole torrent, but for the piece it always lacks, for its master.
fn filled(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<(RawPeer, RawPeer)> {
    let listener = TcpListener::bind((address(2), PEER_PORT))?;
    add(slave, torrent, &[listener.local_addr()?])?;
    let seed = RawPeer::accept(&listener, LIMIT, torrent, Abilities::ALL, source(torrent))?;
    let account = Account::default();
    let script = taker(torrent, Abilities::ALL, true, &account);
    let master = RawPeer::connect(address(3), slave.address(), torrent, Abilities::ALL, script)?;
    eventually("the master has everything", LIMIT, || {
        Ok((account.lock().complete.len() == torrent.pieces()).then_some(()))
    })?;
    Ok((seed, master))
}

/// Turns every bit of a file, in place.
fn spoil(path: &Path) -> anyhow::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.seek(SeekFrom::Start(0))?;
    Ok(file.write_all(&bytes)?)
}

pub fn f1_damage_is_neither_served_nor_silent() -> anyhow::Result<()> {
    let torrent = Torrent::new("f1.bin", 3 * MIB, PIECE, Kind::default())?;
    let mut slave = slave("0 B")?;
    let (_seed, _master) = filled(&slave, &torrent)?;
    spoil(&slave.data_dir().join("cache.bin"))?;
    let account = Account::default();
    let script = taker(&torrent, Abilities::ALL, true, &account);
    let late = RawPeer::connect(
        address(4),
        slave.address(),
        &torrent,
        Abilities::ALL,
        script,
    )?;
    wait_counter(&slave, "btslave_cache_damaged_total", 1.0, LIMIT)?;
    eventually("answers to all requests", LIMIT, || {
        let ledger = account.lock();
        Ok((ledger.blocks + ledger.refused == ledger.requests).then_some(()))
    })?;
    let bad = late
        .events()
        .into_iter()
        .find(|event| matches!(event.heard, Heard::Block { correct: false, .. }));
    ensure!(bad.is_none(), "a damaged block was served: {bad:?}");

    slave.stop()?;
    spoil(&slave.data_dir().join("settings.journal"))?;
    slave.restart()?;
    ensure!(
        counter(&slave, "btslave_store_quarantined_total")? >= 1.0,
        "the damaged journal was not kept aside"
    );
    // Its other copy knows what was acknowledged.
    slave.status(&torrent).map(drop)
}

pub fn f2_a_full_disk_leaves_a_living_daemon() -> anyhow::Result<()> {
    let torrent = Torrent::new("f2.bin", 3 * MIB, PIECE, Kind::default())?;
    let slave = slave("1000000 GiB")?;
    // Three times what its memory holds went through, so it wished for the disk.
    let (_seed, _master) = filled(&slave, &torrent)?;
    wait_counter(
        &slave,
        "btslave_cache_min_free_total",
        1.0,
        Duration::from_secs(5),
    )?;
    let bytes = fs::read(slave.data_dir().join("cache.bin"))?;
    ensure!(
        bytes.iter().all(|byte| *byte == 0),
        "it wrote to a full disk"
    );
    slave.ctl(&["status"]).map(drop)
}
