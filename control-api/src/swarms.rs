//! Swarms joined or known.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where a swarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwarmState {
    /// Named by somebody, not joined now.
    Known,
    /// Joined, its metadata still to come from a peer.
    Metadata,
    /// Joined.
    Joined,
    /// Left for a while because it returned too little.
    Resting,
    /// Not to be joined: a piece is over half the cache.
    TooBig,
    /// Would be joined if the daemon were not paused.
    Paused,
}

impl SwarmState {
    /// The word as it stands in JSON, for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Metadata => "metadata",
            Self::Joined => "joined",
            Self::Resting => "resting",
            Self::TooBig => "too_big",
            Self::Paused => "paused",
        }
    }
}

/// One swarm in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwarmRow {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// As the torrent calls itself; not to be trusted with a terminal.
    pub name: String,
    /// Where it stands.
    pub state: SwarmState,
    /// Need score: how much a byte of ours does there; null = not known yet.
    pub need: Option<f64>,
    /// Connected peers.
    pub peers: u32,
    /// Of these, the ones that want what we hold.
    pub interested_peers: u32,
    /// Verified pieces held.
    pub held_pieces: u32,
    /// Payload given, this run.
    pub uploaded_bytes: u64,
    /// Payload taken, this run.
    pub downloaded_bytes: u64,
    /// Of what was given, the part that masters got.
    pub to_master_bytes: u64,
    /// Never left by policy.
    pub pinned: bool,
}

/// `GET /api/v1/swarms/{hash}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwarmDetail {
    /// The row of the list.
    pub row: SwarmRow,
    /// BEP 27.
    pub private: bool,
    /// Bytes in a piece; null until the metadata is there.
    pub piece_length: Option<u32>,
    /// Number of pieces; null until the metadata is there.
    pub piece_count: Option<u32>,
    /// Bytes in all; null until the metadata is there.
    pub total_bytes: Option<u64>,
    /// Seeds by the trackers' word; null = not said.
    pub seeds: Option<u32>,
    /// Downloaders by the trackers' word; null = not said.
    pub downloaders: Option<u32>,
    /// Who named it.
    pub origins: Vec<String>,
    /// Its trackers, without their secrets.
    pub trackers: Vec<TrackerRow>,
}

/// A tracker of a swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrackerRow {
    /// Scheme, host and port; the path may hold a passkey and is left out.
    pub url: String,
    /// Tier, from 0 (BEP 12).
    pub tier: u32,
    /// `idle`, `working`, `ok` or `failed`.
    pub state: String,
    /// The last failure; null = none.
    pub error: Option<String>,
}

/// `GET /api/v1/swarms/{hash}/why`: the need score, term by term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// As the torrent calls itself.
    pub name: String,
    /// Where it stands.
    pub state: SwarmState,
    /// The score; null = not known yet.
    pub need: Option<f64>,
    /// Its place among all known swarms by need, from 1.
    pub rank: u32,
    /// How many there are.
    pub of: u32,
    /// What the score is made of.
    pub terms: Vec<WhyTerm>,
    /// Who named it: `user`, `feed URL`, `master NAME`.
    pub origins: Vec<String>,
}

/// One term of the need score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyTerm {
    /// What it is, in a few words.
    pub term: String,
    /// What was observed; null = not known.
    pub value: Option<f64>,
    /// By how much it multiplies the score (the first: what it contributes).
    pub weight: f64,
}

/// `POST /api/v1/swarms`: a magnet link, or the URL of a .torrent file that the daemon shall fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSwarm {
    /// `magnet:?…`, `http://…` or `https://…`.
    pub source: String,
    /// Peers to dial, `address:port`.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Never leave it by policy. Sticks.
    #[serde(default)]
    pub pin: bool,
}

/// The query of `POST /api/v1/swarms/torrent`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AddTorrentQuery {
    /// Peers to dial, `address:port`, separated by commas.
    #[serde(default)]
    pub peers: String,
    /// Never leave it by policy. Sticks.
    #[serde(default)]
    pub pin: bool,
}

/// What came of adding a swarm. Adding again adds peers and the pin, and is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Added {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
    /// As the torrent calls itself; empty where a magnet link does not say.
    pub name: String,
    /// It was not known before.
    pub new: bool,
    /// Never left by policy.
    pub pinned: bool,
}
