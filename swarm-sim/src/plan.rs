//! A plan: what a run is made of, read from a TOML file.

mod cases;
mod quantity;
mod slaves;

use std::collections::BTreeSet;

use serde::Deserialize;
use swarm_core::params::Ablation;

pub use self::cases::{Case, PlanError, load};
use self::quantity::{bytes, maybe_bytes};
pub use self::slaves::{Conduct, FriendsPlan, Meeting, SlavePlan};

/// One scene: swarms, their peers, and the repeaters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Runs of each case, with seeds 1, 2, 3 …
    #[serde(default = "one")]
    pub runs: u32,
    /// A run ends here at the latest, seconds.
    pub seconds: f64,
    /// A run ends when this part of the leechers is complete, 0 to 1; over 1: never before `seconds`.
    #[serde(default = "whole")]
    pub until: f64,
    /// One way, between any two nodes, milliseconds.
    #[serde(default)]
    pub latency_ms: f64,
    /// Part of a line that goes into headers of TCP and IP.
    #[serde(default = "headers")]
    pub overhead: f64,
    /// Bytes of acknowledgement on the up line per byte that comes down.
    #[serde(default = "headers")]
    pub acknowledge: f64,
    /// All addresses are of one network of 256, as in a rig: all are allowed the same pieces while choked (BEP 6).
    #[serde(default)]
    pub one_network: bool,
    /// Mean life of a connection, seconds; absent: they last.
    pub connection_s: Option<f64>,
    /// The case without repeaters that the others are compared with, to see whether any leecher is later because of them. A
    /// case of another scene names its own.
    pub against: Option<String>,
    /// The swarms.
    pub swarm: Vec<SwarmPlan>,
    /// Between two looks at where the run stands, seconds.
    #[serde(default = "half")]
    pub sample_s: f64,
    /// Our own nodes, where they are free repeaters.
    pub repeater: Option<RepeaterPlan>,
    /// Our own nodes, where they have masters or friends.
    #[serde(default)]
    pub slave: Vec<SlavePlan>,
    /// How friends help each other.
    #[serde(default)]
    pub friends: FriendsPlan,
}

/// One swarm, or several of the same make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmPlan {
    /// What it is called; several of a make are numbered.
    pub name: String,
    /// How many of this make.
    #[serde(default = "one")]
    pub count: u32,
    /// Bytes of content.
    #[serde(deserialize_with = "bytes")]
    pub size: u64,
    /// Bytes in a piece.
    #[serde(deserialize_with = "bytes")]
    pub piece: u64,
    /// Bytes that ordinary peers ask for at a time: 16 KiB as in life, more to be fast.
    #[serde(default = "block", deserialize_with = "bytes")]
    pub block: u64,
    /// Its peers.
    pub group: Vec<Group>,
}

/// Peers of one make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What they are called.
    pub name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What they are.
    pub kind: Kind,
    /// Whose behaviour they have.
    #[serde(default)]
    pub client: Client,
    /// Up, bytes/s.
    #[serde(deserialize_with = "bytes")]
    pub up: u64,
    /// Down, bytes/s; absent: as fast as others send.
    #[serde(default, deserialize_with = "maybe_bytes")]
    pub down: Option<u64>,
    /// Peers that are unchoked at a time, the optimistic one among them.
    #[serde(default = "slots")]
    pub slots: u32,
    /// Connections they seek.
    #[serde(default = "fifty")]
    pub peers: u32,
    /// They come between these two moments, seconds.
    #[serde(default)]
    pub joins: [f64; 2],
    /// They go so long after they are complete, seconds; absent: they stay and seed.
    pub stays_s: Option<f64>,
    /// They go after a random time with this mean, complete or not, seconds.
    pub life_s: Option<f64>,
    /// What they hold when they come, 0 to 1 of the pieces. Seeds: all.
    #[serde(default)]
    pub begins_with: f64,
    /// The client limits its rate up, by libtorrent's half seconds; otherwise the line does, block by block.
    #[serde(default)]
    pub limited: bool,
    /// Whether leechers count for the end of the run and its times.
    #[serde(default = "yes")]
    pub counted: bool,
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Has everything and gives.
    Seed,
    /// A whole swarm in one peer: has everything, and gives every connection its `up` for itself.
    Crowd,
    /// Wants everything and gives what it has.
    Leecher,
    /// Wants everything and gives nothing.
    FreeRider,
    /// Says it has everything, and has nothing.
    Braggart,
    /// Says it has everything; what it gives is wrong.
    Poisoner,
    /// Says it is interested in everybody, and asks for nothing.
    Tease,
}

/// Whose behaviour a peer has. Sources: libtorrent 2.0 `choker.cpp`, `piece_picker.cpp`, `peer_connection.cpp`,
/// `request_blocks.cpp`; Transmission 3.00 `peer-mgr.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Rounds of 15 s, an optimistic slot that turns every 30 s, honours `lt_donthave`, 2,000 requests queued.
    #[default]
    Libtorrent,
    /// Rounds of 10 s, never forgets a HAVE, 512 requests queued, asks in pulses of half a second.
    Transmission,
}

/// Our own nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeaterPlan {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// The line and `limits.upload`, bytes/s.
    #[serde(deserialize_with = "bytes")]
    pub up: u64,
    /// Down, bytes/s; absent: as fast as others send.
    #[serde(default, deserialize_with = "maybe_bytes")]
    pub down: Option<u64>,
    /// `cache.size`, bytes.
    #[serde(deserialize_with = "bytes")]
    pub cache: u64,
    /// `limits.connections`.
    #[serde(default = "connections")]
    pub connections: u32,
    /// `repeater.max_swarms`.
    #[serde(default = "four")]
    pub max_swarms: u32,
    /// They come between these two moments, seconds.
    #[serde(default)]
    pub joins: [f64; 2],
    /// Each peer dials them, the first this many seconds into the run and each next one so many later, and no tracker
    /// names anybody to them; absent: they ask the tracker like everybody else.
    pub dialled: Option<[f64; 2]>,
    /// Named by a feed and so theirs to choose; otherwise by the user, and kept to.
    #[serde(default)]
    pub feed: bool,
    /// Of the feed: torrents joined at a time at most, and bytes of cache that they may take; absent: no cap.
    pub feed_torrents: Option<u32>,
    /// See there.
    #[serde(default, deserialize_with = "maybe_bytes")]
    pub feed_cache: Option<u64>,
    /// Policies switched off.
    #[serde(default)]
    pub off: BTreeSet<Ablation>,
    /// Instead of choosing swarms itself, it is put every 10 s into those where a byte saves most, by one who knows all.
    #[serde(default)]
    pub oracle: bool,
    /// Scrapes of swarms whose name begins so claim this many leechers more than there are.
    pub fake_scrape: Option<(String, u32)>,
}

fn half() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn four() -> u32 {
    4
}

fn slots() -> u32 {
    8
}

fn fifty() -> u32 {
    50
}

fn connections() -> u32 {
    200
}

fn whole() -> f64 {
    1.0
}

fn headers() -> f64 {
    0.03
}

fn block() -> u64 {
    16 << 10
}
