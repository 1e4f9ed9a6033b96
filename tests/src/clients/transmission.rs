//! transmission-daemon 3.00 or later, by its RPC.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Client, PATIENCE, PEER_PORT, Role, Status, folder};
use crate::content::Torrent;
use crate::http;
use crate::process::Process;
use crate::wait::eventually;

const RPC_PORT: u16 = 9091;

/// A running Transmission. Its RPC has no way to add a peer.
#[derive(Debug)]
pub struct Transmission {
    process: Process,
    ip: Ipv4Addr,
    /// What it wants to see in every request (its CSRF token)
    session: String,
}

impl Transmission {
    /// User name and password of its RPC.
    pub const LOGIN: (&str, &str) = ("btslave", "secret");

    /// Starts it at `ip`; `settings` overrides single keys of settings.json.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn start(ip: Ipv4Addr, settings: &Value) -> anyhow::Result<Self> {
        let home = folder(&format!("transmission-{ip}"))?;
        let mut all = json!({
            "bind-address-ipv4": ip.to_string(), "peer-port": PEER_PORT, "download-dir": home,
            "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
            "port-forwarding-enabled": false, "encryption": 0,
            "rpc-enabled": true, "rpc-port": RPC_PORT, "rpc-bind-address": ip.to_string(),
            "rpc-whitelist-enabled": false, "rpc-host-whitelist-enabled": false,
            "rpc-authentication-required": true, "rpc-username": Self::LOGIN.0, "rpc-password": Self::LOGIN.1,
            "download-queue-enabled": false, "seed-queue-enabled": false, "queue-stalled-enabled": false,
            "idle-seeding-limit-enabled": false, "ratio-limit-enabled": false, "incomplete-dir-enabled": false,
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        std::fs::write(home.join("settings.json"), all.to_string())?;
        let mut command = Command::new("transmission-daemon");
        command
            .args(["--foreground", "--config-dir"])
            .arg(&home)
            .env("HOME", &home);
        let process = Process::start(&format!("transmission-{ip}"), &mut command, false)?;
        let mut client = Self {
            process,
            ip,
            session: String::new(),
        };
        eventually("transmission answers", PATIENCE, || {
            client.call("session-get", json!({})).map(Some)
        })?;
        Ok(client)
    }

    /// The address of its RPC.
    #[must_use]
    pub fn rpc(&self) -> SocketAddr {
        (self.ip, RPC_PORT).into()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Calls a method of its RPC; gives its `arguments`.
    ///
    /// # Errors
    /// No answer, or one that is not `success`.
    pub fn call(&mut self, method: &str, arguments: Value) -> anyhow::Result<Value> {
        let body = json!({ "method": method, "arguments": arguments }).to_string();
        let login = format!("{}:{}", Self::LOGIN.0, Self::LOGIN.1);
        let login = format!("Basic {}", BASE64.encode(login.as_bytes()));
        for _ in 0..2 {
            let headers = [
                ("X-Transmission-Session-Id", self.session.as_str()),
                ("Authorization", &login),
            ];
            let answer = http::request(
                self.rpc(),
                "POST",
                "/transmission/rpc",
                &headers,
                body.as_bytes(),
            )?;
            if answer.status == 409 {
                self.session = answer
                    .header("x-transmission-session-id")
                    .context("no session id")?
                    .to_owned();
                continue;
            }
            ensure!(
                answer.status == 200,
                "transmission: {} {}",
                answer.status,
                answer.text()
            );
            let mut answer: Value = serde_json::from_slice(&answer.body)?;
            ensure!(
                answer["result"] == "success",
                "transmission: {method}: {}",
                answer["result"]
            );
            return Ok(answer["arguments"].take());
        }
        bail!("transmission refuses its own session id")
    }

    /// Fields of one torrent.
    ///
    /// # Errors
    /// No answer, or the torrent is not there.
    pub fn get(&mut self, torrent: &Torrent, fields: &[&str]) -> anyhow::Result<Value> {
        let hash = torrent.info_hash.to_string();
        let mut answer = self.call("torrent-get", json!({ "ids": [hash], "fields": fields }))?;
        let found = answer["torrents"].get_mut(0).map(Value::take);
        found.with_context(|| format!("transmission does not have {}", torrent.name))
    }
}

impl Client for Transmission {
    fn address(&self) -> SocketAddr {
        (self.ip, PEER_PORT).into()
    }

    fn add(&mut self, torrent: &Torrent, folder: &Path, role: Role) -> anyhow::Result<()> {
        let metainfo = BASE64.encode(&torrent.metainfo);
        self.call(
            "torrent-add",
            json!({ "metainfo": metainfo, "download-dir": folder, "paused": false }),
        )?;
        let ready = if role == Role::Seed { 6 } else { 4 };
        eventually("transmission takes the torrent", PATIENCE, || {
            let status = self.get(torrent, &["status", "errorString"])?;
            Ok((status["status"] == ready).then_some(()))
        })
    }

    fn add_peer(&mut self, _torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()> {
        bail!("transmission cannot be told of {peer}: let it dial, or use a tracker")
    }

    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status> {
        let fields = [
            "leftUntilDone",
            "haveValid",
            "haveUnchecked",
            "uploadedEver",
            "downloadedEver",
            "status",
        ];
        let s = self.get(torrent, &fields)?;
        let bytes = |key: &str| {
            s[key]
                .as_u64()
                .with_context(|| format!("transmission: no {key}"))
        };
        let checked = s["haveUnchecked"] == 0 && s["status"] != 2;
        Ok(Status {
            done: bytes("leftUntilDone")? == 0 && checked,
            have_bytes: bytes("haveValid")?,
            up_bytes: bytes("uploadedEver")?,
            down_bytes: bytes("downloadedEver")?,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(PATIENCE).map(drop)
    }
}
