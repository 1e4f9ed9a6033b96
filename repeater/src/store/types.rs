//! The values that outlive a run.

use std::net::SocketAddr;

use friends_proto::identity::PUBLIC_BYTES;
use friends_proto::ledger::{AccountRecord, StoreEpoch};
use serde::{Deserialize, Serialize};
use swarm_core::policy::quota::Book;

use super::codec::Record;

/// What a saved swarm is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwarmContent {
    /// The whole .torrent file as it came, at most [`super::MAX_TORRENT_FILE`] bytes.
    Metainfo(Vec<u8>),
    /// A magnet link; the metadata is asked of peers again after a start.
    Magnet(String),
}

/// Who named a swarm (promise 4: none is joined that nobody named).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmSource {
    /// The operator, through `slavectl swarms add` or the API.
    User,
    /// A feed, by its URL.
    Feed(String),
    /// A master, by its name.
    Master(String),
}

/// A swarm to be joined again after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSwarm {
    /// Metainfo or magnet.
    pub content: SwarmContent,
    /// Never left by policy.
    pub pinned: bool,
    /// Peers the operator named (`--peer`).
    pub peers: Vec<SocketAddr>,
    /// Who named it.
    pub source: SwarmSource,
    /// Seconds since the Unix epoch.
    pub added_at: u64,
}

/// A feed added with `slavectl`; what the configuration file names is not saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFeed {
    /// Seconds between polls.
    pub every_s: u64,
    /// Regular expressions on the title; empty = all.
    pub allow: Vec<String>,
    /// Regular expressions on the title that refuse an item.
    pub deny: Vec<String>,
    /// Largest payload of a torrent in bytes; None = unlimited.
    pub max_torrent_bytes: Option<u64>,
}

/// How to ask a saved master things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRpc {
    /// `transmission`, `qbittorrent`, …
    pub kind: String,
    /// Where it listens.
    pub url: String,
    /// User name; may be empty.
    pub user: String,
    /// File that holds the password; may be empty.
    pub password_file: String,
}

/// A master added with `slavectl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMaster {
    /// `host:port` as the operator wrote it.
    pub address: String,
    /// Thousandths of the upload, 0..=1000.
    pub share_permille: u16,
    /// Its RPC, where one is known.
    pub rpc: Option<SavedRpc>,
}

/// A rendezvous, saved under its infohash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRendezvous {
    /// The .torrent file; empty while only a magnet link is known.
    pub torrent: Vec<u8>,
    /// The magnet link that it was joined by, if it was.
    pub magnet: Option<String>,
    /// Peers the operator named (`--peer`).
    pub peers: Vec<SocketAddr>,
    /// What we host, if it is ours.
    pub host: Option<SavedHost>,
    /// Seconds since the Unix epoch.
    pub added_at: u64,
}

/// The host's part of a rendezvous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHost {
    /// The payload, byte for byte.
    pub page: Vec<u8>,
    /// Where the announce URL listens; none: there is none.
    pub listen: Option<SocketAddr>,
    /// The announce URL as the torrent names it.
    pub url: Option<String>,
}

/// Payload counted over all runs, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Given.
    pub uploaded: u64,
    /// Taken.
    pub downloaded: u64,
    /// Taken in vain: hash failures and duplicates.
    pub wasted: u64,
}

/// A friend, saved under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFriend {
    /// The operator's name for it.
    pub name: String,
    /// Where to look for it, `host:port`, as its code said.
    pub hints: Vec<String>,
    /// Seconds since the Unix epoch.
    pub added_at: u64,
    /// When a session with it last ended or stood, seconds since the Unix epoch.
    pub last_seen: Option<u64>,
}

/// The operator's word about help with one torrent, saved under its infohash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavedWish {
    /// Help, of so many bytes; None: all that a master lacks.
    Ask(Option<u64>),
    /// No help with it.
    Stop,
}

/// A statement about a new key, saved under the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedSuccession {
    /// As people hand it around.
    pub(super) statement: String,
}

/// What is signed between a friend and us, saved under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedAccount {
    /// Both directions.
    pub(super) record: AccountRecord,
    /// Calendar month of the last change: 12 × year + month − 1.
    pub(super) month: u32,
    /// What the friend had signed when that month began, in bytes.
    pub(super) given_before: u64,
    /// What we had signed when that month began, in bytes.
    pub(super) received_before: u64,
}

/// What the store knows of itself: whose it is, and its opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SelfRow {
    pub(super) public: [u8; PUBLIC_BYTES],
    pub(super) epoch: StoreEpoch,
}

/// A swarm as it stands in the journal: the metainfo itself is a file beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SwarmRow {
    pub(super) content: ContentRow,
    pub(super) pinned: bool,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) source: SwarmSource,
    pub(super) added_at: u64,
}

/// Where a swarm's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ContentRow {
    /// `torrents/<infohash>.torrent`, of this length and crc32c.
    File {
        bytes: u64,
        crc: u32,
    },
    Magnet(String),
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flag(pub(super) bool);

impl Record for SwarmRow {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved swarm";
}
impl Record for SavedFeed {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved feed";
}
impl Record for SavedMaster {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved master";
}
impl Record for SavedRendezvous {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved rendezvous";
}
impl Record for Totals {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved totals";
}
impl Record for Book {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved quota";
}
impl Record for Flag {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved switch";
}
impl Record for SavedFriend {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved friend";
}
impl Record for SavedWish {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved wish for help";
}
impl Record for SavedAccount {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "account with a friend";
}
impl Record for SelfRow {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "saved identity";
}
