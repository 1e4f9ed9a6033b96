//! The configuration: file, environment, `--set` and flags, in this order, become one validated [`Config`].
//!
//! Every key is documented where it is printed ([`print`]); `config/default.toml` is that text.

mod keys;
mod layers;
mod print;
mod problem;
mod schedule;
mod validate;

use std::net::SocketAddr;
use std::path::PathBuf;

use control_api::units::{Rate, Size, Span};
use serde::{Deserialize, Serialize};
use swarm_core::policy::schedule::Window;

pub use layers::{Overlay, Sources, load};
pub use problem::{ConfigError, Problem};
pub(crate) use validate::{feed as check_feed, master as check_master, split_address};

/// Everything the operator can decide, validated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[limits]`.
    pub limits: Limits,
    /// `[cache]`.
    pub cache: Cache,
    /// `[repeater]`.
    pub repeater: Repeater,
    /// `[[feed]]`, in the order of the file.
    pub feeds: Vec<Feed>,
    /// `[[master]]`, in the order of the file.
    pub masters: Vec<Master>,
    /// `[friends]`.
    pub friends: Friends,
    /// `[discovery]`.
    pub discovery: Discovery,
    /// `[api]`.
    pub api: Api,
    /// `[log]`.
    pub log: Log,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the state lives; empty = the platform's data directory (see [`Config::data_dir`]).
    pub data_dir: PathBuf,
    /// Where peers may connect. A non-wildcard address is also the source of outgoing connections.
    pub listen: Vec<SocketAddr>,
    /// Network interface of every socket; empty = any. Nothing else is accepted yet.
    pub bind_device: String,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Upload, payload and protocol overhead.
    pub upload: Rate,
    /// Download.
    pub download: Rate,
    /// All the line carries in a calendar month, local time; unlimited, or at least 1 MiB.
    pub month: Size,
    /// Windows of the week with rates of their own, local time.
    pub schedule: Vec<Window>,
    /// Connections to peers in all, 1 to 10,000.
    pub connections: u32,
}

/// `[cache]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Hard cap in bytes, in memory and on disk.
    pub size: u64,
    /// Of it, bytes kept in memory; at most `size`.
    pub memory: u64,
    /// Stop growing when the disk has less than this free, in bytes.
    pub min_free: u64,
}

/// `[repeater]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeater {
    /// Help strangers when no master needs help.
    pub enabled: bool,
    /// Swarms helped at a time, 0 to 100.
    pub max_swarms: u32,
}

/// One `[[feed]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// `http://…`, `https://…`, or an absolute path of a folder.
    pub url: String,
    /// Time between polls, 10 s to 7 d.
    pub every: Span,
    /// Regular expressions on the title; empty = all.
    pub allow: Vec<String>,
    /// Regular expressions on the title that refuse an item.
    pub deny: Vec<String>,
    /// Largest payload of a torrent.
    pub max_torrent_size: Size,
    /// Torrents of it joined at a time; `None`: unlimited.
    pub max_torrents: Option<u32>,
    /// Cache that its torrents may take.
    pub max_cache: Size,
}

/// One `[[master]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Master {
    /// The operator's name for it.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Share of the upload while it misses something, 0 to 1.
    pub share: f64,
    /// How to ask it things.
    pub rpc: Option<Rpc>,
}

/// A master's RPC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpc {
    /// Which program.
    pub kind: RpcKind,
    /// Where it listens.
    pub url: String,
    /// User name; may be empty.
    #[serde(default)]
    pub user: String,
    /// File that holds the password; empty = no password.
    #[serde(default)]
    pub password_file: PathBuf,
}

/// Programs whose RPC is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RpcKind {
    /// Transmission 3 and later.
    Transmission,
    /// qBittorrent, Web API 2.
    Qbittorrent,
}

impl RpcKind {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Transmission => "transmission",
            Self::Qbittorrent => "qbittorrent",
        }
    }

    /// From its word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Transmission, Self::Qbittorrent]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// `[friends]`: with `off` no friend can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Friends {
    /// Who may be a friend.
    pub mode: FriendsMode,
    /// Unsigned help given to one friend before pausing (or 4 s of the rate, if more), in bytes.
    pub window: u64,
    /// Signed help given minus received, per friend, while others want the line.
    pub credit: Size,
    /// Help given to all acquaintances together, in bytes.
    pub open_pool: u64,
    /// Friends may help with private torrents.
    pub private_torrents: bool,
}

/// Who may be a friend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FriendsMode {
    /// Nobody.
    Off,
    /// Those on the list.
    Known,
    /// Those on the list, and as acquaintances all others that are open, too.
    Open,
}

/// `[discovery]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    /// Announce to trackers and scrape them.
    pub trackers: bool,
    /// No function yet.
    pub dht: bool,
    /// Peer exchange (BEP 11).
    pub pex: bool,
    /// No function yet.
    pub lsd: bool,
    /// No function yet.
    pub port_mapping: bool,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where `slavectl` connects; None = off.
    pub listen: Option<SocketAddr>,
    /// The token's file; empty = `api.token` in the data directory.
    pub token_file: PathBuf,
    /// The operator said `--api-allow-remote`. Not a key of the file.
    pub allow_remote: bool,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `tracing` filter, as `info` or `repeater=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Node {
    fn default() -> Self {
        let listen = vec![
            SocketAddr::from(([0, 0, 0, 0], 6881)),
            SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 6881)),
        ];
        Self {
            data_dir: PathBuf::new(),
            listen,
            bind_device: String::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload: Rate(None),
            download: Rate(None),
            month: Size(None),
            schedule: Vec::new(),
            connections: 200,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            size: 256 << 20,
            memory: 64 << 20,
            min_free: 1 << 30,
        }
    }
}

impl Default for Repeater {
    fn default() -> Self {
        Self {
            enabled: true,
            max_swarms: 4,
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            url: String::new(),
            every: Span(std::time::Duration::from_secs(900)),
            allow: Vec::new(),
            deny: Vec::new(),
            max_torrent_size: Size(None),
            max_torrents: None,
            max_cache: Size(None),
        }
    }
}

impl Default for Master {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: String::new(),
            share: 0.5,
            rpc: None,
        }
    }
}

impl Default for Friends {
    fn default() -> Self {
        Self {
            mode: FriendsMode::Known,
            window: 4 << 20,
            credit: Size(Some(64 << 20)),
            open_pool: 64 << 20,
            private_torrents: false,
        }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            trackers: true,
            dht: true,
            pex: true,
            lsd: true,
            port_mapping: true,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8470))),
            token_file: PathBuf::new(),
            allow_remote: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Config {
    /// Where the state lives: `node.data_dir`, else the platform's data directory (`~/.local/share/btslave` on Linux).
    ///
    /// # Errors
    /// Neither is there: no home directory.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        if !self.node.data_dir.as_os_str().is_empty() {
            return Ok(self.node.data_dir.clone());
        }
        directories::ProjectDirs::from("", "", "btslave")
            .map(|dirs| dirs.data_dir().to_path_buf())
            .ok_or_else(|| {
                ConfigError::one(Problem {
                    place: "node.data_dir".to_owned(),
                    why: "no home directory to put the data into".to_owned(),
                    hint: "name one with --data-dir DIR".to_owned(),
                })
            })
    }

    /// The token's file: `api.token_file`, else `api.token` in the data directory.
    ///
    /// # Errors
    /// As [`Config::data_dir`].
    pub fn token_file(&self) -> Result<PathBuf, ConfigError> {
        if self.api.token_file.as_os_str().is_empty() {
            Ok(self.data_dir()?.join("api.token"))
        } else {
            Ok(self.api.token_file.clone())
        }
    }

    /// Keys that differ and cannot change in a running daemon.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        [
            ("node.data_dir", self.node.data_dir != new.node.data_dir),
            ("node.listen", self.node.listen != new.node.listen),
            ("cache.size", self.cache.size != new.cache.size),
            ("cache.memory", self.cache.memory != new.cache.memory),
            ("cache.min_free", self.cache.min_free != new.cache.min_free),
            (
                "discovery.trackers",
                self.discovery.trackers != new.discovery.trackers,
            ),
            ("discovery.pex", self.discovery.pex != new.discovery.pex),
            ("api.listen", self.api.listen != new.api.listen),
            ("api.token_file", self.api.token_file != new.api.token_file),
            ("log.format", self.log.format != new.log.format),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

#[cfg(test)]
mod tests;
