//! The cache, and the switches of the whole node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/cache`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheReport {
    /// The hard cap.
    pub limit_bytes: u64,
    /// Bytes accounted for now, fetches in flight included.
    pub used_bytes: u64,
    /// The most that ever was, this run.
    pub high_water_bytes: u64,
    /// How much of the cap may lie in memory.
    pub memory_limit_bytes: u64,
    /// Whole, verified pieces held.
    pub pieces: u32,
    /// What each swarm has of it.
    pub swarms: Vec<CacheSwarm>,
}

/// A swarm's part of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheSwarm {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// As the torrent calls itself.
    pub name: String,
    /// Verified pieces held.
    pub held_pieces: u32,
    /// Bytes of them.
    pub held_bytes: u64,
}

/// The body of a command that needs none: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Keys and entries that changed; empty = all as before.
    pub changed: Vec<String>,
}
