//! libtorrent, by a Python script of ours: seeds, leechers, and a client to test against.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{Client, PATIENCE, PEER_PORT, Role, Status};
use crate::content::Torrent;
use crate::process::Process;
use crate::wait::eventually;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/support/ltnode.py");

/// A running libtorrent session.
#[derive(Debug)]
pub struct Libtorrent {
    process: Process,
    ip: Ipv4Addr,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Libtorrent {
    /// One at `ip` that has this torrent's content, in a folder of its own.
    ///
    /// # Errors
    /// As [`Libtorrent::start`], or it does not take the torrent.
    pub fn seed(ip: Ipv4Addr, torrent: &Torrent) -> anyhow::Result<Self> {
        let mut seed = Self::start(ip, &json!({}))?;
        let source = super::folder("seed")?;
        torrent.write_into(&source)?;
        seed.add(torrent, &source, Role::Seed)?;
        Ok(seed)
    }

    /// Starts it at `ip`; `settings` are libtorrent's own.
    ///
    /// # Errors
    /// It is not installed, or cannot listen.
    pub fn start(ip: Ipv4Addr, settings: &Value) -> anyhow::Result<Self> {
        let node = json!({ "address": ip.to_string(), "port": PEER_PORT, "settings": settings });
        let mut command = Command::new("/usr/bin/python3");
        command.arg(SCRIPT).arg(node.to_string());
        let mut process = Process::start(&format!("libtorrent-{ip}"), &mut command, true)?;
        let commands = process.child().stdin.take().context("no pipe")?;
        let answers = process.child().stdout.take().context("no pipe")?;
        let mut node = Self {
            process,
            ip,
            commands,
            answers: BufReader::new(answers),
        };
        let hello = node.answer()?;
        ensure!(
            hello["port"] == PEER_PORT,
            "libtorrent listens on {}",
            hello["port"]
        );
        Ok(node)
    }

    fn answer(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(
            !line.is_empty(),
            "libtorrent ended, see {}",
            self.process.log().display()
        );
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(error) = answer["error"].as_str().filter(|error| !error.is_empty()) {
            bail!("libtorrent: {error}");
        }
        Ok(answer)
    }

    /// One command of `ltnode.py`, with its parameters.
    ///
    /// # Errors
    /// It failed, or the session is gone.
    pub fn call(&mut self, command: &str, mut parameters: Value) -> anyhow::Result<Value> {
        parameters["command"] = json!(command);
        writeln!(self.commands, "{parameters}")?;
        self.answer()
    }

    /// Limits a torrent's rates, in bytes per second; -1 = unlimited.
    ///
    /// # Errors
    /// The torrent is not there.
    pub fn limit(&mut self, torrent: &Torrent, up: i64, down: i64) -> anyhow::Result<()> {
        let hash = torrent.info_hash.to_string();
        self.call("limit", json!({ "hash": hash, "up": up, "down": down }))
            .map(drop)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Client for Libtorrent {
    fn address(&self) -> SocketAddr {
        (self.ip, PEER_PORT).into()
    }

    fn add(&mut self, torrent: &Torrent, folder: &Path, role: Role) -> anyhow::Result<()> {
        let seed = role == Role::Seed;
        self.call(
            "add",
            json!({ "torrent": torrent.path, "folder": folder, "seed": seed }),
        )?;
        let hash = torrent.info_hash.to_string();
        eventually("libtorrent takes the torrent", PATIENCE, || {
            Ok((self.call("status", json!({ "hash": hash }))?["ready"] == true).then_some(()))
        })
    }

    fn add_peer(&mut self, torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()> {
        let (hash, address) = (torrent.info_hash.to_string(), peer.ip().to_string());
        self.call(
            "peer",
            json!({ "hash": hash, "address": address, "port": peer.port() }),
        )
        .map(drop)
    }

    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status> {
        let s = self.call("status", json!({ "hash": torrent.info_hash.to_string() }))?;
        let bytes = |key: &str| {
            s[key]
                .as_u64()
                .with_context(|| format!("libtorrent: no {key}"))
        };
        Ok(Status {
            done: s["done"] == true,
            have_bytes: bytes("have_bytes")?,
            up_bytes: bytes("up_bytes")?,
            down_bytes: bytes("down_bytes")?,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        writeln!(self.commands, "{}", json!({ "command": "quit" }))?;
        eventually("libtorrent ends", PATIENCE, || self.process.ended()).map(drop)
    }

    fn wait_done(&mut self, torrent: &Torrent, limit: Duration) -> anyhow::Result<Status> {
        let hash = torrent.info_hash.to_string();
        let answer = self.call(
            "watch",
            json!({ "hash": hash, "seconds": limit.as_secs_f64() }),
        )?;
        let status = self.status(torrent)?;
        ensure!(
            answer["done"] == true,
            "not complete within {} s: {status:?}",
            limit.as_secs()
        );
        Ok(status)
    }
}
