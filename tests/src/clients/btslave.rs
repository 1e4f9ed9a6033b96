//! Our own daemon, started and asked as a user would: by a configuration file and `slavectl`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{Client, PATIENCE, PEER_PORT, Role, Status, folder};
use crate::content::Torrent;
use crate::http;
use crate::process::Process;
use crate::wait::eventually;

/// A running `btslave`.
#[derive(Debug)]
pub struct Btslave {
    process: Process,
    ip: Ipv4Addr,
    home: PathBuf,
    args: Vec<String>,
}

impl Btslave {
    /// Starts it at `ip`. `sections` is TOML for any section but `[node]`, `[discovery]`, `[api]` and `[log]`; their
    /// keys are set by `args`, as `--set section.key=value`. Multicast and the DHT are off.
    ///
    /// # Errors
    /// It is not built, refuses its configuration, or does not answer.
    pub fn start(ip: Ipv4Addr, sections: &str, args: &[&str]) -> anyhow::Result<Self> {
        let home = folder(&format!("btslave-{ip}"))?;
        let config = format!(
            "[node]\ndata_dir = \"{}\"\nlisten = [\"{ip}:{PEER_PORT}\"]\n\n\
             [discovery]\ndht = false\nlsd = false\nport_mapping = false\n\n\
             [api]\nlisten = \"{}\"\n\n[log]\nfilter = \"debug\"\n\n{sections}\n",
            home.join("data").display(),
            api(ip)
        );
        std::fs::write(home.join("btslave.toml"), config)?;
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(ip, &home, &args)?;
        let mut slave = Self {
            process,
            ip,
            home,
            args,
        };
        slave.wait_ready(PATIENCE)?;
        Ok(slave)
    }

    /// Starts it again on the same data, after [`Client::stop`] or a kill.
    ///
    /// # Errors
    /// As at the first start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_ready(PATIENCE)
    }

    /// As [`Btslave::restart`], without waiting for an answer.
    ///
    /// # Errors
    /// It is not built.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.process = spawn(self.ip, &self.home, &self.args)?;
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ended, or does not answer within `limit`.
    pub fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let log = self.process.log().to_path_buf();
        eventually("btslave answers", limit, || {
            if self.process.ended()?.is_some() {
                return Ok(Some(false));
            }
            self.ctl(&["status"]).map(|_| Some(true))
        })
        .and_then(|running| {
            ensure!(running, "btslave ended at its start, see {}", log.display());
            Ok(())
        })
    }

    /// Runs `slavectl --json ARGS` and gives the document that it prints.
    ///
    /// # Errors
    /// Its exit status is not 0 (with what it wrote to standard error), or it printed no JSON.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(program("slavectl")?);
        command.arg("--api").arg(format!("http://{}", api(self.ip)));
        command
            .arg("--token-file")
            .arg(self.data_dir().join("api.token"));
        let out = command
            .arg("--json")
            .args(args)
            .output()
            .context("cannot start slavectl")?;
        if !out.status.success() {
            bail!(
                "slavectl {}: {}: {}",
                args.join(" "),
                out.status,
                String::from_utf8_lossy(&out.stderr)
            );
        }
        serde_json::from_slice(&out.stdout).context("slavectl printed no JSON")
    }

    fn read(&self, path: &str) -> anyhow::Result<http::Response> {
        let token = std::fs::read_to_string(self.data_dir().join("api.token"))?;
        let bearer = format!("Bearer {}", token.trim());
        let answer = http::request(
            api(self.ip),
            "GET",
            path,
            &[("Authorization", &bearer)],
            b"",
        )?;
        ensure!(
            answer.status == 200,
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        Ok(answer)
    }

    /// A document of its API, without the way through `slavectl`.
    ///
    /// # Errors
    /// The API does not answer, or not with JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.read(path)?;
        serde_json::from_slice(&answer.body).with_context(|| format!("{path}: no JSON"))
    }

    /// Its friend code, without hints where it may be.
    ///
    /// # Errors
    /// As [`Btslave::ctl`].
    pub fn friend_code(&self) -> anyhow::Result<String> {
        let answer = self.ctl(&["friends", "code"])?;
        let code = answer["code"].as_str().context("no code")?;
        Ok(code.split('@').next().unwrap_or(code).to_owned())
    }

    /// Its metrics, as Prometheus would read them.
    ///
    /// # Errors
    /// The API does not answer.
    pub fn metrics(&self) -> anyhow::Result<String> {
        Ok(self.read("/metrics")?.text())
    }

    /// The sum of a metric over all its labels; `None` when it is not there.
    ///
    /// # Errors
    /// The API does not answer.
    pub fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let metrics = self.metrics()?;
        let of_it = metrics.lines().filter_map(|line| {
            let rest = line
                .strip_prefix(name)
                .filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        Ok(of_it.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// What it logged, since its last start and before.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn spawn(ip: Ipv4Addr, home: &Path, args: &[String]) -> anyhow::Result<Process> {
    let mut command = Command::new(program("btslave")?);
    command
        .args(["run", "--config"])
        .arg(home.join("btslave.toml"))
        .args(args)
        .env("HOME", home);
    Process::start(&format!("btslave-{ip}"), &mut command, false)
}

/// The API's address: loopback, a port for each of our addresses.
fn api(ip: Ipv4Addr) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 20_000 + u16::from(ip.octets()[3])).into()
}

/// A program of this workspace, built beside this one.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let path = exe
        .ancestors()
        .nth(2)
        .map(|profile| profile.join(name))
        .filter(|path| path.is_file());
    path.with_context(|| format!("{name} is not built: cargo build --release --workspace --bins"))
}

impl Client for Btslave {
    fn address(&self) -> SocketAddr {
        (self.ip, PEER_PORT).into()
    }

    fn add(&mut self, torrent: &Torrent, _folder: &Path, role: Role) -> anyhow::Result<()> {
        ensure!(role == Role::Leech, "a repeater has no folder to seed from");
        self.ctl(&["swarms", "add", &torrent.path.display().to_string()])
            .map(drop)
    }

    fn add_peer(&mut self, torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()> {
        let (path, peer) = (torrent.path.display().to_string(), peer.to_string());
        self.ctl(&["swarms", "add", &path, "--peer", &peer])
            .map(drop)
    }

    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status> {
        let status = self.ctl(&["status"])?;
        let hash = torrent.info_hash.to_string();
        let swarms = status["swarms"]
            .as_array()
            .context("no swarms in the status")?;
        let swarm = swarms
            .iter()
            .find(|swarm| swarm["info_hash"] == hash.as_str());
        let swarm = swarm.with_context(|| format!("btslave has no swarm {hash}"))?;
        let number = |key: &str| {
            swarm[key]
                .as_u64()
                .with_context(|| format!("btslave: no {key}"))
        };
        let have_bytes = number("held_pieces")? * u64::from(torrent.piece_length);
        Ok(Status {
            done: number("held_pieces")? == torrent.pieces() as u64,
            have_bytes: have_bytes.min(torrent.content.len() as u64),
            up_bytes: number("uploaded_bytes")?,
            down_bytes: number("downloaded_bytes")?,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.process.stop(PATIENCE)?;
        ensure!(status.success(), "btslave ended with {status}");
        Ok(())
    }
}
