//! qbittorrent-nox 4.5, by its Web API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Client, PATIENCE, PEER_PORT, Role, Status, folder};
use crate::content::Torrent;
use crate::http;
use crate::process::Process;
use crate::wait::eventually;

const WEB_PORT: u16 = 8080;
const FORM: &str = "application/x-www-form-urlencoded";
const BOUNDARY: &str = "btslave-test-part";

/// A running qBittorrent.
#[derive(Debug)]
pub struct QBittorrent {
    process: Process,
    ip: Ipv4Addr,
    cookie: String,
}

impl QBittorrent {
    /// User name and password of its Web API.
    pub const LOGIN: (&str, &str) = ("admin", "adminadmin");

    /// Starts it at `ip`; `preferences` overrides single preferences.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn start(ip: Ipv4Addr, preferences: &Value) -> anyhow::Result<Self> {
        let home = folder(&format!("qbittorrent-{ip}"))?;
        let config = home.join("qBittorrent/config");
        std::fs::create_dir_all(&config)?;
        // What it says in handshakes is settled at its start.
        let pex = preferences["pex"] == true;
        let settings = format!(
            "[LegalNotice]\nAccepted=true\n\
             [Preferences]\nWebUI\\Address={ip}\nWebUI\\Port={WEB_PORT}\nWebUI\\CSRFProtection=false\n\
             WebUI\\HostHeaderValidation=false\nWebUI\\UseUPnP=false\nGeneral\\Locale=en\n\
             [BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled={pex}\n\
             Session\\Port={PEER_PORT}\nSession\\InterfaceAddress={ip}\nSession\\QueueingSystemEnabled=false\n\
             Session\\Preallocation=false\n[Network]\nPortForwardingEnabled=false\n"
        );
        std::fs::write(config.join("qBittorrent.conf"), settings)?;
        let mut command = Command::new("qbittorrent-nox");
        command
            .arg(format!("--profile={}", home.display()))
            .env("HOME", &home);
        for folder in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(folder, &home);
        }
        let process = Process::start(&format!("qbittorrent-{ip}"), &mut command, false)?;
        let mut client = Self {
            process,
            ip,
            cookie: String::new(),
        };
        eventually("qbittorrent answers", PATIENCE, || client.login().map(Some))?;
        client.set(preferences)?;
        Ok(client)
    }

    fn login(&mut self) -> anyhow::Result<()> {
        let login = format!("username={}&password={}", Self::LOGIN.0, Self::LOGIN.1);
        let answer = http::request(
            self.web(),
            "POST",
            "/api/v2/auth/login",
            &[("Content-Type", FORM)],
            login.as_bytes(),
        )?;
        let cookie = answer
            .header("set-cookie")
            .and_then(|cookie| cookie.split(';').next());
        self.cookie = cookie
            .with_context(|| format!("no login: {}", answer.text()))?
            .to_owned();
        Ok(())
    }

    fn set(&mut self, preferences: &Value) -> anyhow::Result<()> {
        let mut all = json!({
            "dht": false, "pex": false, "lsd": false, "upnp": false, "random_port": false, "listen_port": PEER_PORT,
            "current_interface_address": self.ip.to_string(), "queueing_enabled": false, "max_ratio_enabled": false,
            // TCP only, plaintext; figures every 100 ms instead of 1500.
            "bittorrent_protocol": 1, "encryption": 2, "refresh_interval": 100,
        });
        for (key, value) in preferences.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        self.post("app/setPreferences", &[("json", &all.to_string())])?;
        let wanted = all["refresh_interval"].clone();
        eventually("qbittorrent takes its preferences", PATIENCE, || {
            let now = self.get("app/preferences")?;
            Ok((now["refresh_interval"] == wanted).then_some(()))
        })
    }

    /// The address of its Web API.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        (self.ip, WEB_PORT).into()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        let headers = [
            ("Cookie", self.cookie.as_str()),
            ("Content-Type", content_type),
        ];
        let answer = http::request(
            self.web(),
            method,
            &format!("/api/v2/{path}"),
            &headers,
            body,
        )?;
        ensure!(
            answer.status == 200,
            "qbittorrent: {path}: {} {}",
            answer.status,
            answer.text()
        );
        Ok(answer.body)
    }

    /// Reads `/api/v2/PATH`.
    ///
    /// # Errors
    /// No answer, or no JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(
            &self.request("GET", path, FORM, b"")?,
        )?)
    }

    /// Posts a form to `/api/v2/PATH`.
    ///
    /// # Errors
    /// No answer, or an unfriendly one.
    pub fn post(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
        let form: Vec<String> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", escape(value)))
            .collect();
        self.request("POST", path, FORM, form.join("&").as_bytes())
    }

    /// What it says about one torrent.
    ///
    /// # Errors
    /// No answer, or the torrent is not there.
    pub fn info(&self, torrent: &Torrent) -> anyhow::Result<Value> {
        let mut answer = self.get(&format!("torrents/info?hashes={}", torrent.info_hash))?;
        let found = answer.get_mut(0).map(Value::take);
        found.with_context(|| format!("qbittorrent does not have {}", torrent.name))
    }
}

/// Percent-encodes all but letters and digits.
fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn is_one_of(state: &Value, states: &[&str]) -> bool {
    state.as_str().is_some_and(|state| states.contains(&state))
}

const SEEDING: &[&str] = &["uploading", "stalledUP", "forcedUP"];
const LEECHING: &[&str] = &["downloading", "stalledDL", "forcedDL"];

impl Client for QBittorrent {
    fn address(&self) -> SocketAddr {
        (self.ip, PEER_PORT).into()
    }

    fn add(&mut self, torrent: &Torrent, folder: &Path, role: Role) -> anyhow::Result<()> {
        let folder = folder.display().to_string();
        let skip = if role == Role::Seed { "true" } else { "false" };
        let mut body = Vec::new();
        for (name, value) in [
            ("savepath", folder.as_str()),
            ("skip_checking", skip),
            ("contentLayout", "NoSubfolder"),
        ] {
            let part = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = "Content-Disposition: form-data; name=\"torrents\"; filename=\"t.torrent\"\r\n\
                    Content-Type: application/x-bittorrent\r\n\r\n";
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{head}").as_bytes());
        body.extend_from_slice(&torrent.metainfo);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let answer = self.request("POST", "torrents/add", &content_type, &body)?;
        ensure!(
            answer == b"Ok.",
            "qbittorrent: {}",
            String::from_utf8_lossy(&answer)
        );
        let ready = if role == Role::Seed {
            SEEDING
        } else {
            LEECHING
        };
        eventually("qbittorrent takes the torrent", PATIENCE, || {
            Ok(is_one_of(&self.info(torrent)?["state"], ready).then_some(()))
        })
    }

    fn add_peer(&mut self, torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()> {
        let (hash, peer) = (torrent.info_hash.to_string(), peer.to_string());
        self.post("torrents/addPeers", &[("hashes", &hash), ("peers", &peer)])
            .map(drop)
    }

    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status> {
        let info = self.info(torrent)?;
        let bytes = |key: &str| {
            info[key]
                .as_u64()
                .with_context(|| format!("qbittorrent: no {key}"))
        };
        Ok(Status {
            done: bytes("amount_left")? == 0 && is_one_of(&info["state"], SEEDING),
            have_bytes: bytes("completed")?,
            up_bytes: bytes("uploaded")?,
            down_bytes: bytes("downloaded")?,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(PATIENCE).map(drop)
    }
}
