//! opentracker, over HTTP and UDP. Debian builds it to serve listed infohashes only, so we keep its list.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;
use bt_wire::ids::InfoHash;
use rustix::process::Signal;

use super::{PATIENCE, folder};
use crate::http;
use crate::process::Process;
use crate::wait::eventually;

const PORT: u16 = 6969;

/// A running tracker.
#[derive(Debug)]
pub struct OpenTracker {
    process: Process,
    ip: Ipv4Addr,
    list: PathBuf,
    allowed: Vec<InfoHash>,
}

impl OpenTracker {
    /// Starts it at `ip`, serving nothing yet.
    ///
    /// # Errors
    /// It is not installed, or does not listen.
    pub fn start(ip: Ipv4Addr) -> anyhow::Result<Self> {
        let home = folder(&format!("opentracker-{ip}"))?;
        // It changes its root to here and then becomes nobody.
        fs::set_permissions(&home, Permissions::from_mode(0o755))?;
        let list = home.join("allowed");
        fs::write(&list, "")?;
        fs::set_permissions(&list, Permissions::from_mode(0o644))?;
        let root = home.display();
        let config = format!(
            "listen.tcp_udp {ip}:{PORT}\naccess.whitelist allowed\ntracker.rootdir {root}\ntracker.user nobody\n"
        );
        fs::write(home.join("opentracker.conf"), config)?;
        let mut command = Command::new("opentracker");
        command
            .arg("-f")
            .arg(home.join("opentracker.conf"))
            .current_dir(&home);
        let process = Process::start(&format!("opentracker-{ip}"), &mut command, false)?;
        let tracker = Self {
            process,
            ip,
            list,
            allowed: Vec::new(),
        };
        eventually("opentracker listens", PATIENCE, || {
            Ok(TcpStream::connect(tracker.address()).ok().map(drop))
        })?;
        Ok(tracker)
    }

    /// Where it listens, TCP and UDP; what [`crate::content::Kind::tracker`] wants.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (self.ip, PORT).into()
    }

    /// Serves this infohash too, from when this returns.
    ///
    /// # Errors
    /// It does not take the list.
    pub fn allow(&mut self, info_hash: InfoHash) -> anyhow::Result<()> {
        self.allowed.push(info_hash);
        let list: String = self
            .allowed
            .iter()
            .map(|hash| format!("{hash}\n"))
            .collect();
        fs::write(&self.list, list)?;
        self.process.signal(Signal::HUP)?;
        eventually("opentracker takes its list", PATIENCE, || {
            Ok(self.announces(info_hash)?.then_some(()))
        })
    }

    /// Whether an announce of this infohash is answered; leaves nobody in the swarm.
    fn announces(&self, info_hash: InfoHash) -> anyhow::Result<bool> {
        let hash: String = info_hash
            .0
            .iter()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let id = "-XX0000-000000000000";
        let path = format!(
            "/announce?info_hash={hash}&peer_id={id}&port=1&uploaded=0&downloaded=0&left=1&event=stopped&compact=1"
        );
        let answer = http::request(self.address(), "GET", &path, &[], b"")?;
        Ok(answer.status == 200 && !answer.text().contains("failure reason"))
    }

    /// Complete and incomplete peers, by its scrape.
    ///
    /// # Errors
    /// No answer, or not one of a scrape.
    pub fn scrape(&self, info_hash: InfoHash) -> anyhow::Result<(u64, u64)> {
        let hash: String = info_hash
            .0
            .iter()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let answer = http::request(
            self.address(),
            "GET",
            &format!("/scrape?info_hash={hash}"),
            &[],
            b"",
        )?;
        ensure!(
            answer.status == 200,
            "opentracker: scrape: {}",
            answer.status
        );
        let text = answer.text();
        let number = |key: &str| {
            let digits = text.split(key).nth(1)?.split('e').next()?;
            digits.parse().ok()
        };
        Ok((
            number("8:completei").unwrap_or(0),
            number("10:incompletei").unwrap_or(0),
        ))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(PATIENCE).map(drop)
    }
}
