//! The real programs that tests talk to, behind one interface.

pub mod aria2;
pub mod btslave;
pub mod libtorrent;
pub mod opentracker;
pub mod qbittorrent;
pub mod transmission;

pub use aria2::Aria2;
pub use btslave::Btslave;
pub use libtorrent::Libtorrent;
pub use opentracker::OpenTracker;
pub use qbittorrent::QBittorrent;
pub use transmission::Transmission;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::content::Torrent;
use crate::runner;
use crate::wait::eventually;

/// Every client's peer port.
pub const PEER_PORT: u16 = 6881;
/// A client may take this long to start, to take a torrent, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that Debian has a package of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// transmission-daemon
    Transmission,
    /// qbittorrent-nox
    QBittorrent,
    /// aria2c
    Aria2,
    /// opentracker
    OpenTracker,
    /// libtorrent for Debian's own Python
    Libtorrent,
    /// ip, which the test network is made with
    IpRoute,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Transmission,
        Self::QBittorrent,
        Self::Aria2,
        Self::OpenTracker,
        Self::Libtorrent,
        Self::IpRoute,
    ];

    /// The Debian package.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Transmission => "transmission-daemon",
            Self::QBittorrent => "qbittorrent-nox",
            Self::Aria2 => "aria2",
            Self::OpenTracker => "opentracker",
            Self::Libtorrent => "python3-libtorrent",
            Self::IpRoute => "iproute2",
        }
    }

    /// Whether it is here.
    #[must_use]
    pub fn is_installed(self) -> bool {
        let in_path = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        };
        match self {
            Self::Transmission => in_path("transmission-daemon"),
            Self::QBittorrent => in_path("qbittorrent-nox"),
            Self::Aria2 => in_path("aria2c"),
            Self::OpenTracker => in_path("opentracker"),
            Self::IpRoute => in_path("ip"),
            Self::Libtorrent => Command::new("/usr/bin/python3")
                .args(["-c", "import libtorrent"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// Whether a client has the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The content is in the folder already.
    Seed,
    /// It has to be fetched.
    Leech,
}

/// What a client says about one torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Complete and checked.
    pub done: bool,
    /// Bytes it has, checked.
    pub have_bytes: u64,
    /// Payload bytes sent.
    pub up_bytes: u64,
    /// Payload bytes received.
    pub down_bytes: u64,
}

/// A running BitTorrent client.
pub trait Client {
    /// Where it listens for peers.
    fn address(&self) -> SocketAddr;

    /// Adds a torrent with its content in `folder`, and waits until peers may dial.
    ///
    /// # Errors
    /// The client refuses it, or is not ready in time.
    fn add(&mut self, torrent: &Torrent, folder: &Path, role: Role) -> anyhow::Result<()>;

    /// Tells it of a peer.
    ///
    /// # Errors
    /// The client refuses, or has no way to be told: then let the peer dial it, or use a tracker.
    fn add_peer(&mut self, torrent: &Torrent, peer: SocketAddr) -> anyhow::Result<()>;

    /// What it has, sent and received.
    ///
    /// # Errors
    /// It does not answer, or does not know the torrent.
    fn status(&mut self, torrent: &Torrent) -> anyhow::Result<Status>;

    /// Stops it as a user would, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time.
    fn stop(&mut self) -> anyhow::Result<()>;

    /// Waits until it has everything.
    ///
    /// # Errors
    /// Not within `limit`.
    fn wait_done(&mut self, torrent: &Torrent, limit: Duration) -> anyhow::Result<Status> {
        let mut last = None;
        let done = eventually("complete", limit, || {
            let status = self.status(torrent)?;
            last = Some(status);
            Ok(status.done.then_some(status))
        });
        done.map_err(|e| e.context(format!("last seen: {last:?}")))
    }
}

/// A folder in the running test's scratch space.
///
/// # Errors
/// It cannot be made.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let path = runner::scratch().join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
