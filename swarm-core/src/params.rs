//! What a [`crate::node::Node`] is made with. Part of every recording, because a replay needs the same.

use crate::io::Limits;
use crate::io::friends::FriendsLimits;
use crate::policy::quota::Book;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Fixed parameters of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// The operator's limits at the start; [`crate::io::Input::Limits`] changes them later.
    pub limits: Limits,
    /// Our own peer id: a connection that shows it is one to ourselves.
    pub peer_id: [u8; 20],
    /// `[friends]` at the start.
    #[serde(default)]
    pub friends: FriendsLimits,
    /// What the line carried in earlier runs.
    pub book: Book,
    /// Turns the ranking of swarms upside down. Only for tests that must be seen to fail with it.
    #[doc(hidden)]
    #[serde(default)]
    pub invert_need: bool,
    /// Policies switched off. Only for showing what each one is worth.
    #[doc(hidden)]
    #[serde(default)]
    pub off: BTreeSet<Ablation>,
}

/// A policy that can be switched off, and what is done then instead.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ablation {
    /// Fetch whatever the cache has room for.
    Gate,
    /// Risk any debt.
    StopLoss,
    /// Take for hours without giving.
    NeverHarm,
    /// Fetch any piece that somebody lacks, in any order.
    Yield,
    /// Give up any piece that nothing binds.
    Evict,
    /// Never say an unchoke anew.
    Remind,
    /// Unchoke in the order of coming, for good.
    Choke,
    /// Interest ends with its reason, and is never said anew.
    Interest,
    /// Finish pieces that came too late.
    Late,
    /// Join swarms in the order of coming.
    Need,
    /// Stay in a swarm that returns nothing.
    Leave,
}

impl Params {
    /// Ordinary parameters: these limits, this peer id.
    #[must_use]
    pub fn new(limits: Limits, peer_id: [u8; 20]) -> Self {
        Self {
            limits,
            peer_id,
            friends: FriendsLimits::default(),
            book: Book::default(),
            invert_need: false,
            off: BTreeSet::new(),
        }
    }
}
