//! aria2c 1.36, by its JSON-RPC.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use bt_wire::ids::InfoHash;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Client, PATIENCE, PEER_PORT, Role, Status, folder};
use crate::content::Torrent;
use crate::http;
use crate::process::Process;
use crate::wait::eventually;

const RPC_PORT: u16 = 6800;

/// A running aria2. Its RPC has no way to add a peer.
#[derive(Debug)]
pub struct Aria2 {
    process: Process,
    ip: Ipv4Addr,
    /// What it calls its downloads
    gids: BTreeMap<InfoHash, String>,
}

impl Aria2 {
    /// Starts it at `ip`, with further arguments.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn start(ip: Ipv4Addr, args: &[&str]) -> anyhow::Result<Self> {
        let home = folder(&format!("aria2-{ip}"))?;
        let mut command = Command::new("aria2c");
        command.args([
            "--no-conf",
            "--enable-rpc",
            "--rpc-listen-all",
            "--rpc-secret=secret",
            "--quiet",
        ]);
        command
            .arg(format!("--rpc-listen-port={RPC_PORT}"))
            .arg(format!("--listen-port={PEER_PORT}"));
        command
            .arg(format!("--interface={ip}"))
            .args(["--disable-ipv6", "--async-dns=false"]);
        command.args([
            "--enable-dht=false",
            "--bt-enable-lpd=false",
            "--enable-peer-exchange=false",
        ]);
        command.args([
            "--seed-ratio=0.0",
            "--file-allocation=none",
            "--summary-interval=0",
        ]);
        command.args(args).current_dir(&home).env("HOME", &home);
        let process = Process::start(&format!("aria2-{ip}"), &mut command, false)?;
        let mut client = Self {
            process,
            ip,
            gids: BTreeMap::new(),
        };
        eventually("aria2 answers", PATIENCE, || {
            client.call("aria2.getVersion", &[]).map(Some)
        })?;
        Ok(client)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Calls a method of its RPC; gives its `result`.
    ///
    /// # Errors
    /// No answer, or an error.
    pub fn call(&mut self, method: &str, arguments: &[Value]) -> anyhow::Result<Value> {
        let params: Vec<Value> = [json!("token:secret")]
            .into_iter()
            .chain(arguments.iter().cloned())
            .collect();
        let body =
            json!({ "jsonrpc": "2.0", "id": "1", "method": method, "params": params }).to_string();
        let rpc = (self.ip, RPC_PORT).into();
        let answer = http::request(rpc, "POST", "/jsonrpc", &[], body.as_bytes())?;
        let mut answer: Value = serde_json::from_slice(&answer.body)?;
        if !answer["error"].is_null() {
            bail!("aria2: {method}: {}", answer["error"]);
        }
        Ok(answer["result"].take())
    }

    fn tell(&mut self, torrent: &Torrent) -> anyhow::Result<Value> {
        let gid = self.gids.get(&torrent.info_hash);
        let gid = gid
            .with_context(|| format!("aria2 does not have {}", torrent.name))?
            .clone();
        self.call("aria2.tellStatus", &[json!(gid)])
    }
}

/// aria2 writes its numbers as text.
fn bytes(status: &Value, key: &str) -> anyhow::Result<u64> {
    let text = status[key]
        .as_str()
        .with_context(|| format!("aria2: no {key}"))?;
    Ok(text.parse()?)
}

impl Client for Aria2 {
    fn address(&self) -> SocketAddr {
        (self.ip, PEER_PORT).into()
    }

    fn add(&mut self, torrent: &Torrent, folder: &Path, role: Role) -> anyhow::Result<()> {
        let mut options = json!({ "dir": folder, "allow-overwrite": "true" });
        if role == Role::Seed {
            options["bt-seed-unverified"] = json!("true");
            options["check-integrity"] = json!("true");
        }
        let metainfo = json!(BASE64.encode(&torrent.metainfo));
        let gid = self.call("aria2.addTorrent", &[metainfo, json!([]), options])?;
        self.gids.insert(
            torrent.info_hash,
            gid.as_str().context("aria2 gave no gid")?.to_owned(),
        );
        eventually("aria2 takes the torrent", PATIENCE, || {
            let s = self.tell(torrent)?;
            let complete = s["completedLength"] == s["totalLength"];
            let checking = !s["verifiedLength"].is_null();
            Ok(
                (s["status"] == "active" && !checking && (role == Role::Leech || complete))
                    .then_some(()),
            )
        })
    }

    fn add_peer(&mut self, _torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()> {
        bail!("aria2 cannot be told of {peer}: let it dial, or use a tracker")
    }

    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status> {
        let s = self.tell(torrent)?;
        let have_bytes = bytes(&s, "completedLength")?;
        Ok(Status {
            done: have_bytes == bytes(&s, "totalLength")? && s["seeder"] == "true",
            have_bytes,
            up_bytes: bytes(&s, "uploadLength")?,
            down_bytes: have_bytes,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(PATIENCE).map(drop)
    }
}
