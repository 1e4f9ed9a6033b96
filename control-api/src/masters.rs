//! Pairing with the user's client.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::feeds::Owner;

/// One master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Master {
    /// The operator's name for it.
    pub name: String,
    /// `host:port`, as the operator wrote it.
    pub address: String,
    /// `connected`, `idle` (no swarm in common now), `unreachable` or `unresolved`.
    pub state: String,
    /// Its RPC; null = none configured.
    pub rpc: Option<MasterRpc>,
    /// Payload given to it, this run.
    pub to_master_bytes: u64,
    /// Pieces it misses in the swarms we share with it.
    pub missing_pieces: u64,
    /// Share of the upload while it misses something, 0 to 1.
    pub share: f64,
    /// Whose word it stands by.
    pub owner: Owner,
}

/// The RPC of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MasterRpc {
    /// `transmission` or `qbittorrent`.
    pub kind: String,
    /// Where it listens.
    pub url: String,
    /// `waiting` (not asked yet), `ok` or `failed`.
    pub state: String,
    /// The last failure; null when the last call was good.
    pub error: Option<String>,
}

/// `POST /api/v1/masters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMaster {
    /// A name of your choice.
    pub name: String,
    /// `host:port` of its BitTorrent listener.
    pub address: String,
    /// Share of the upload while it misses something, 0 to 1; null = 0.5.
    #[serde(default)]
    pub share: Option<f64>,
    /// Its RPC, where it needs no password (one with a password belongs in the configuration file).
    #[serde(default)]
    pub rpc: Option<AddRpc>,
}

/// An RPC without a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRpc {
    /// `transmission` or `qbittorrent`.
    pub kind: String,
    /// Where it listens.
    pub url: String,
}

/// A master by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MasterName {
    /// As it was added.
    pub name: String,
}

/// What a test of a master found, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MasterTest {
    /// The operator's name for it.
    pub name: String,
    /// All steps succeeded.
    pub ok: bool,
    /// In the order taken.
    pub steps: Vec<TestStep>,
}

/// One step of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestStep {
    /// `name`, `port`, `rpc`.
    pub step: String,
    /// It succeeded.
    pub ok: bool,
    /// What was found, or why not, for a person.
    pub detail: String,
}
