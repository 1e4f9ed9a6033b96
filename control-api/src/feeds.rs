//! Torrent feeds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whose word a feed or master stands by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The configuration file: change it there.
    File,
    /// The daemon's store: `slavectl` put it there and may remove it.
    Store,
}

/// One feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Feed {
    /// Where it is.
    pub url: String,
    /// `waiting` (not polled yet), `ok`, `failed` or `paused`.
    pub state: String,
    /// Torrents it names.
    pub items: u32,
    /// Last good poll, seconds since the Unix epoch; null = none yet.
    pub last_ok: Option<u64>,
    /// The last failure; null when the last poll was good.
    pub error: Option<String>,
    /// Seconds between polls.
    pub every_s: u64,
    /// Whose word it stands by.
    pub owner: Owner,
}

/// `POST /api/v1/feeds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFeed {
    /// `http://…` or `https://…` (a local folder only the configuration file may name).
    pub url: String,
}

/// A feed by its URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedUrl {
    /// As it was added.
    pub url: String,
}

/// `POST /api/v1/feeds/poll`: one feed, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollFeeds {
    /// Which; null = all.
    #[serde(default)]
    pub url: Option<String>,
}

/// What came of adding, removing or polling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedsChanged {
    /// The feeds it was about.
    pub urls: Vec<String>,
}
