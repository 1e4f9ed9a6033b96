//! Help between friends: what is asked of them, what is given to them, what the operator wants.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/aid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Aid {
    /// Helps under way: those asked of friends, then those given to them.
    pub helps: Vec<Help>,
    /// Torrents that a master lacks pieces of, or that the operator said something about.
    pub wants: Vec<Want>,
    /// What all acquaintances together may still have, bytes.
    pub pool_bytes: u64,
}

/// One help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Help {
    /// The friend's name.
    pub friend: String,
    /// Who helps whom.
    pub direction: Direction,
    /// v1 infohash; null = the friend asked, and the torrent is not known here yet.
    pub info_hash: Option<String>,
    /// As the torrent calls itself; null with `info_hash`.
    pub name: Option<String>,
    /// `asked` (no answer yet), `offered`, `running` or `ending`.
    pub state: String,
    /// Pieces given to the helper and not delivered.
    pub reserved_pieces: u32,
    /// What the helper counts as delivered.
    pub delivered_bytes: u64,
    /// What of it is signed for or, as the asker, credited.
    pub signed_bytes: u64,
    /// Of a help that we give, why it waits for others, for a person; null = it does not.
    pub waits: Option<String>,
}

/// Who helps whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A friend helps us.
    Asked,
    /// We help a friend.
    Given,
}

/// A torrent with which help may be wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Want {
    /// v1 infohash.
    pub info_hash: String,
    /// As the torrent calls itself; null = not known now.
    pub name: Option<String>,
    /// Whether friends are asked.
    pub asking: Asking,
    /// The master that lacks something; null = none is connected there.
    pub master: Option<String>,
    /// What it lacks.
    pub missing_bytes: u64,
    /// Of what the operator asked for, what is not had yet; null = all that the master lacks.
    pub left_bytes: Option<u64>,
}

/// Whether friends are asked for help with a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asking {
    /// The operator asked.
    ByHand,
    /// A master is short.
    Short,
    /// No master is short.
    No,
    /// The operator wants none, in either direction.
    Stopped,
}

/// `POST /api/v1/aid/ask`: exactly one of `info_hash` and `master`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskForHelp {
    /// With this torrent: v1 infohash, 40 hex digits.
    #[serde(default)]
    pub info_hash: Option<String>,
    /// With every torrent that this master lacks pieces of.
    #[serde(default)]
    pub master: Option<String>,
    /// So many bytes of each torrent; null = all that is lacking.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HelpAsked {
    /// Torrent by torrent.
    pub torrents: Vec<TorrentAsked>,
    /// Friends with whom a session stands now; the others are asked when they come.
    pub online: u32,
}

/// One torrent that help is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TorrentAsked {
    /// v1 infohash.
    pub info_hash: String,
    /// As the torrent calls itself.
    pub name: String,
    /// Friends asked, or helping already.
    pub friends: Vec<String>,
}

/// `POST /api/v1/aid/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopHelp {
    /// v1 infohash, 40 hex digits.
    pub info_hash: String,
}
