//! The node at a glance. The field names are promised to scripts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::feeds::Feed;
use crate::masters::Master;
use crate::swarms::SwarmRow;

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The peer id of this run (BEP 20), bytes that are no printable ASCII escaped as `\xNN`.
    pub peer_id: String,
    /// Addresses it listens on, as bound.
    pub listen: Vec<String>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Paused by the operator.
    pub paused: bool,
    /// The month's quota.
    pub month: MonthStatus,
    /// Payload given, all time.
    pub uploaded_bytes: u64,
    /// Payload taken, all time.
    pub downloaded_bytes: u64,
    /// The same two, this run.
    pub session: Session,
    /// Payload taken in vain (hash failures and duplicates), all time.
    pub wasted_bytes: u64,
    /// Payload given, bytes per second.
    pub upload_rate_bps: u64,
    /// Payload taken, bytes per second.
    pub download_rate_bps: u64,
    /// Upload limit in force, by limit and schedule, bytes per second; null = unlimited.
    pub upload_limit_bps: Option<u64>,
    /// Download limit in force.
    pub download_limit_bps: Option<u64>,
    /// The cache.
    pub cache: CacheStatus,
    /// Open connections to peers.
    pub connections: u32,
    /// Swarms joined or known.
    pub swarms: Vec<SwarmRow>,
    /// The clients this slave serves.
    pub masters: Vec<Master>,
    /// Friends.
    pub friends: FriendsStatus,
    /// Torrent feeds.
    pub feeds: Vec<Feed>,
}

/// The month's quota: peers, trackers and feeds, both directions together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MonthStatus {
    /// The month, as `2026-11`; null before the clock was looked at.
    pub month: Option<String>,
    /// The quota; null = unlimited.
    pub limit_bytes: Option<u64>,
    /// Used this month. After a kill, what had been reserved counts as used.
    pub used_bytes: u64,
    /// Not used yet; null = unlimited.
    pub left_bytes: Option<u64>,
    /// Used up: nothing is transferred until the day named by `until`, or a larger quota.
    pub spent: bool,
    /// The day the next month begins, as `2026-12-01`, in `time_zone`.
    pub until: Option<String>,
    /// The time zone by which months begin and end.
    pub time_zone: String,
}

/// Payload of this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Given.
    pub uploaded_bytes: u64,
    /// Taken.
    pub downloaded_bytes: u64,
}

/// The cache in three numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheStatus {
    /// The hard cap.
    pub limit_bytes: u64,
    /// Bytes accounted for now, fetches in flight included.
    pub used_bytes: u64,
    /// Whole, verified pieces held.
    pub pieces: u32,
}

/// Friends in four numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FriendsStatus {
    /// Friends on the list.
    pub known: u32,
    /// Of these, reachable now.
    pub online: u32,
    /// Signed help they owe us.
    pub owed_to_us_bytes: u64,
    /// Signed help we owe them.
    pub owed_by_us_bytes: u64,
}
