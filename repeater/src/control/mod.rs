//! The control API: what the HTTP layer asks of the daemon ([`Control`]), and the HTTP layer itself.
//!
//! The layer is `gate` (who may ask at all) in front of `routes` (what is asked), served by [`server`]. It opens no file
//! that a caller names and keeps no state but the token and the failures to show it.

mod aid_routes;
mod backoff;
mod friend_routes;
mod gate;
pub mod metrics;
mod openapi;
mod rendezvous_routes;
mod routes;
pub mod server;
pub mod token;

use std::net::SocketAddr;

use bt_wire::ids::InfoHash;
use bytes::Bytes;
use control_api::aid::{Aid, HelpAsked};
use control_api::error::Problem;
use control_api::feeds::{AddFeed, Feed, FeedsChanged};
use control_api::friends::{
    AddFriend, Friend, FriendsExport, Imported, LedgerAccount, LedgerCheck, OwnCode, OwnSuccession,
};
use control_api::masters::{AddMaster, Master, MasterTest};
use control_api::node::{CacheReport, Reloaded};
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous,
};
use control_api::status::Status;
use control_api::swarms::{Added, SwarmDetail, SwarmRow, Why};
use futures_util::future::BoxFuture;

pub use gate::Api;
pub use openapi::document;

/// An answer on its way.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// The daemon says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of no: decides the HTTP status.
    pub kind: RefusalKind,
    /// For a person.
    pub problem: Problem,
}

/// Kinds of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such swarm, feed, master or friend. 404.
    NotFound,
    /// The request makes no sense. 400.
    Invalid,
    /// It is well formed, and the state or the configuration file forbids it. 409.
    Conflict,
    /// A remote party or the disk failed us. 502.
    Failed,
}

impl Refusal {
    /// There is no such thing.
    pub fn not_found(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind: RefusalKind::NotFound,
            problem: Problem::new(what, why, hint),
        }
    }

    /// The request makes no sense.
    pub fn invalid(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind: RefusalKind::Invalid,
            problem: Problem::new(what, why, hint),
        }
    }

    /// The state or the configuration file forbids it.
    pub fn conflict(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind: RefusalKind::Conflict,
            problem: Problem::new(what, why, hint),
        }
    }

    /// A remote party or the disk failed.
    pub fn failed(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind: RefusalKind::Failed,
            problem: Problem::new(what, why, hint),
        }
    }
}

/// What comes with a torrent that the operator adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// Peers to dial.
    pub peers: Vec<SocketAddr>,
    /// Never leave it by policy.
    pub pin: bool,
}

/// With what friends are asked to help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelpWith {
    /// One torrent.
    Torrent(InfoHash),
    /// All that a master lacks.
    Master(String),
}

/// What the HTTP layer asks of the daemon. Changes are durable before their answer.
pub trait Control: Send + Sync + 'static {
    /// The node at a glance.
    fn status(&self) -> Reply<'_, Status>;
    /// Swarms joined or known, the neediest first.
    fn swarms(&self) -> Reply<'_, Vec<SwarmRow>>;
    /// One swarm.
    fn swarm(&self, hash: InfoHash) -> Reply<'_, SwarmDetail>;
    /// The need score of one swarm, term by term, and who named it.
    fn why(&self, hash: InfoHash) -> Reply<'_, Why>;
    /// Adds the torrent whose .torrent file these bytes are. Adding again adds peers and the pin.
    fn add_torrent(&self, file: Bytes, options: AddOptions) -> Reply<'_, Added>;
    /// Adds a magnet link, or the .torrent file behind an http(s) URL.
    fn add_source(&self, source: String, options: AddOptions) -> Reply<'_, Added>;
    /// Leaves and forgets a swarm.
    fn leave(&self, hash: InfoHash) -> Reply<'_, ()>;
    /// All feeds.
    fn feeds(&self) -> Reply<'_, Vec<Feed>>;
    /// Adds a feed; known already = no error.
    fn add_feed(&self, feed: AddFeed) -> Reply<'_, FeedsChanged>;
    /// Removes a feed that the configuration file does not own.
    fn remove_feed(&self, url: String) -> Reply<'_, FeedsChanged>;
    /// Polls one feed, or all, now.
    fn poll_feeds(&self, url: Option<String>) -> Reply<'_, FeedsChanged>;
    /// All masters.
    fn masters(&self) -> Reply<'_, Vec<Master>>;
    /// Adds a master, or changes one that the configuration file does not own.
    fn add_master(&self, master: AddMaster) -> Reply<'_, Master>;
    /// Removes a master that the configuration file does not own.
    fn remove_master(&self, name: String) -> Reply<'_, ()>;
    /// Tries a master: name, port, RPC.
    fn test_master(&self, name: String) -> Reply<'_, MasterTest>;
    /// All friends.
    fn friends(&self) -> Reply<'_, Vec<Friend>>;
    /// Adds a friend by its code.
    fn add_friend(&self, friend: AddFriend) -> Reply<'_, Friend>;
    /// Removes a friend by its name or code; what is signed is kept.
    fn remove_friend(&self, name: String) -> Reply<'_, ()>;
    /// This slave's own friend code.
    fn own_code(&self) -> Reply<'_, OwnCode>;
    /// The statement about our newest key.
    fn own_succession(&self) -> Reply<'_, OwnSuccession>;
    /// Makes a new key of ours, which counts from the next start on.
    fn replace_own_key(&self) -> Reply<'_, OwnSuccession>;
    /// Takes a friend's new key for its old one.
    fn follow_friend(&self, statement: String) -> Reply<'_, Friend>;
    /// What is signed between friends and us.
    fn ledger(&self) -> Reply<'_, Vec<LedgerAccount>>;
    /// Checks every signature on record again.
    fn verify_ledger(&self) -> Reply<'_, LedgerCheck>;
    /// Friends and ledger, without the secret key.
    fn export_friends(&self) -> Reply<'_, FriendsExport>;
    /// Takes an export in; all of it is checked first, and no total falls.
    fn import_friends(&self, export: FriendsExport) -> Reply<'_, Imported>;
    /// All rendezvous.
    fn rendezvous(&self) -> Reply<'_, Vec<Rendezvous>>;
    /// Makes a rendezvous, and hosts it.
    fn host_rendezvous(&self, host: HostRendezvous) -> Reply<'_, Hosted>;
    /// Joins a rendezvous; again = adds peers.
    fn join_rendezvous(&self, join: JoinRendezvous) -> Reply<'_, JoinedRendezvous>;
    /// Leaves a rendezvous.
    fn leave_rendezvous(&self, leave: LeaveRendezvous) -> Reply<'_, LeftRendezvous>;
    /// Help between friends.
    fn aid(&self) -> Reply<'_, Aid>;
    /// Asks friends for help now.
    fn ask_for_help(&self, with: HelpWith, bytes: Option<u64>) -> Reply<'_, HelpAsked>;
    /// Ends help with a torrent in both directions, until it is asked for.
    fn stop_help(&self, hash: InfoHash) -> Reply<'_, ()>;
    /// What the cache holds.
    fn cache(&self) -> Reply<'_, CacheReport>;
    /// Stops all transfers (`true`) or goes on (`false`); survives a restart.
    fn pause(&self, paused: bool) -> Reply<'_, ()>;
    /// Reads the configuration again.
    fn reload(&self) -> Reply<'_, Reloaded>;
}

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;
