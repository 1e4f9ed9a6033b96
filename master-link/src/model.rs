//! What a master says about itself, in words that fit every client.

use std::net::SocketAddr;

use bt_wire::ids::InfoHash;

/// What a torrent is doing in the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorrentState {
    /// Wants data and asks for it, whether or not any comes.
    Downloading,
    /// Has all it wants and offers it.
    Seeding,
    /// Paused, queued or in error: asks for nothing and offers nothing.
    Stopped,
    /// Its files are being checked or moved; the byte counts are not to be trusted.
    Checking,
    /// A magnet link whose metadata is still being fetched.
    Metadata,
}

/// A torrent as the master knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterTorrent {
    /// The v1 infohash; of a torrent that has none, the v2 infohash's first 20 bytes (BEP 52).
    pub info_hash: InfoHash,
    /// As the master shows it: anybody's text.
    pub name: String,
    /// BEP 27; `None` when the master does not say (qBittorrent before 5.0), or cannot know yet.
    pub private: Option<bool>,
    /// Everything wanted is there and checked. False while the metadata is missing or files are checked.
    pub complete: bool,
    /// Bytes of what it wants that are still missing.
    pub left_bytes: u64,
    /// Bytes it has, of finished pieces mostly.
    pub have_bytes: u64,
    /// Bytes of the whole content; 0 while the metadata is missing.
    pub total_bytes: u64,
    /// What it is doing.
    pub state: TorrentState,
    /// Whether `export` may give its .torrent file.
    pub exportable: bool,
}

/// A peer of the master in one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterPeer {
    /// Where it is; of a peer that dialled the master the port is not the one it listens on.
    pub address: SocketAddr,
    /// The client's name as the master reads it: anybody's text.
    pub client: String,
    /// What the master got from it.
    pub received: Received,
}

/// Evidence of what a peer gave the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Payload bytes while this address was connected, over reconnects: exact (qBittorrent).
    Total(u64),
    /// Bytes a second just now, in steps of 1000 (Transmission).
    Rate(u64),
}

/// Which program answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Name and version, such as `qBittorrent v4.5.2`; at most 100 printable characters.
    pub client: String,
    /// Version of the RPC, such as `2.8.19`; likewise.
    pub api: String,
}

/// What `slavectl master test` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    /// Which program answers.
    pub version: Version,
    /// Where it listens for peers.
    pub peer_port: u16,
}

/// A master's count of bytes: negative only where it means "not known".
pub(crate) fn bytes(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
