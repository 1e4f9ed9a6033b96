//! What shell and tracker task tell each other.

use std::net::{Ipv6Addr, SocketAddr};

use bt_wire::address::AddressSource;
use bt_wire::ids::{InfoHash, PeerId};
use bt_wire::tracker::ScrapeEntry;
use tokio::sync::oneshot;

/// The caller's number for a swarm.
pub type SwarmNumber = u64;
/// What we say of ourselves to trackers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Our peer id.
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Our global IPv6 address, where known (BEP 7).
    pub ipv6: Option<Ipv6Addr>,
    /// Shuffles tiers, and makes the `key`; from the system's randomness.
    pub seed: u64,
}

/// A swarm to know of. Nothing is announced before [`TrackerCommand::Join`].
#[derive(Debug, Clone)]
pub struct Registration {
    /// The caller's number.
    pub swarm: SwarmNumber,
    /// The torrent.
    pub info_hash: InfoHash,
    /// Its announce URLs by tier, unchecked.
    pub tiers: Vec<Vec<String>>,
    /// Who named them.
    pub named_by: AddressSource,
    /// Private (BEP 27): the caller hears of it when the tracker changes.
    pub private: bool,
}

/// What the shell tells the task.
#[derive(Debug)]
pub enum TrackerCommand {
    /// A swarm to know of; replaces one of the same number.
    Register(Registration),
    /// Start announcing.
    Join {
        /// The swarm.
        swarm: SwarmNumber,
        /// Bytes not held: total − held (promise 6).
        left: u64,
    },
    /// Stop announcing: every tracker that may know of us is told `stopped`.
    Leave {
        /// The swarm.
        swarm: SwarmNumber,
    },
    /// Leave, and forget the swarm.
    Forget {
        /// The swarm.
        swarm: SwarmNumber,
    },
    /// True figures for the next announce, in payload bytes since the join.
    Update {
        /// The swarm.
        swarm: SwarmNumber,
        /// Given.
        uploaded: u64,
        /// Taken.
        downloaded: u64,
        /// Not held.
        left: u64,
    },
    /// Announce as soon as the tracker allows.
    NeedPeers {
        /// The swarm.
        swarm: SwarmNumber,
    },
    /// Scrape soon, joined or not.
    Scrape {
        /// The swarm.
        swarm: SwarmNumber,
    },
    /// Leave all swarms and end; answered when the trackers were told, after 5 s at most.
    Stop(oneshot::Sender<()>),
}

/// What the task tells the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackerEvent {
    /// A tracker answered an announce.
    Announced {
        /// The swarm.
        swarm: SwarmNumber,
        /// Peers that may be dialled; may be empty.
        peers: Vec<SocketAddr>,
        /// Seeds, where said.
        complete: Option<u32>,
        /// Others, where said.
        incomplete: Option<u32>,
    },
    /// A tracker answered a scrape.
    Scraped {
        /// The swarm.
        swarm: SwarmNumber,
        /// Its counts.
        counts: ScrapeEntry,
    },
    /// A private torrent's tracker changed: drop its peers (BEP 27).
    Switched {
        /// The swarm.
        swarm: SwarmNumber,
    },
    /// Something failed; for people.
    Failed {
        /// The swarm.
        swarm: SwarmNumber,
        /// What, why, and what happens next. No passkeys.
        text: String,
    },
}
