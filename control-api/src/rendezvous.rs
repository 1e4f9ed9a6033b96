//! Rendezvous: torrents whose swarms are slaves only, by which slaves find each other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::swarms::TrackerRow;

/// A rendezvous that this slave hosts, or is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rendezvous {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// Its name.
    pub name: String,
    /// `host` or `member`.
    pub role: String,
    /// `joined`, `metadata` (its .torrent is being fetched from peers), `paused` or `known`.
    pub state: String,
    /// What others join by.
    pub magnet: String,
    /// A host's own announce URL; null = none.
    pub announce_url: Option<String>,
    /// Where a host's .torrent can be had; null = nowhere.
    pub torrent_url: Option<String>,
    /// Why the announce URL does not work; null = it works, or there is none.
    pub error: Option<String>,
    /// Connections.
    pub peers: u32,
    /// Of those, the slaves.
    pub members: u32,
    /// Endpoints that our announce URL names.
    pub listed: u32,
    /// Peers let go because they are no slaves, this run.
    pub strangers_let_go: u64,
    /// Its trackers.
    pub trackers: Vec<TrackerRow>,
    /// Hosted or joined at, seconds since the Unix epoch.
    pub added_at: u64,
}

/// `POST /api/v1/rendezvous/host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRendezvous {
    /// Its name, 1 to 64 letters, digits, spaces, and - _ .
    pub name: String,
    /// Run an announce URL.
    pub announce: bool,
    /// Where that listens, `address:port`; null = port 6969 of the first listen address.
    #[serde(default)]
    pub listen: Option<String>,
    /// The announce URL as others reach it; null = by the address it listens on.
    #[serde(default)]
    pub url: Option<String>,
    /// Other trackers to announce at.
    #[serde(default)]
    pub trackers: Vec<String>,
}

/// A new rendezvous, hosted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hosted {
    /// How it stands.
    pub rendezvous: Rendezvous,
    /// Its .torrent file, in base64.
    pub torrent: String,
}

/// `POST /api/v1/rendezvous/join`. One of `source` and `torrent`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRendezvous {
    /// A magnet link, or the http(s) URL of a .torrent file.
    #[serde(default)]
    pub source: Option<String>,
    /// A .torrent file of at most 32 KiB, in base64.
    #[serde(default)]
    pub torrent: Option<String>,
    /// Peers to dial, `address:port`.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// A rendezvous joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinedRendezvous {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// Its name, as far as known.
    pub name: String,
    /// False: it was joined before; peers were added.
    pub new: bool,
}

/// `POST /api/v1/rendezvous/leave`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveRendezvous {
    /// Infohash, or the beginning of one; null = the only one.
    #[serde(default)]
    pub info_hash: Option<String>,
}

/// The rendezvous that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftRendezvous {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
}
