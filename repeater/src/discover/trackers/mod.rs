//! Trackers over HTTP: announce and scrape.
//!
//! Pure: [`TierState`] (which tracker, when). IO: [`TrackerClient`] asks one thing, [`start`] runs the task that
//! announces for all swarms.

mod client;
mod messages;
mod task;
mod tiers;

pub use client::{Announced, AskError, DEADLINE, SCRAPE_AT_ONCE, STOP_DEADLINE, TrackerClient};
pub use messages::{Identity, Registration, SwarmNumber, TrackerCommand, TrackerEvent};
pub use task::{COMMANDS, start};
pub use tiers::{BACK_OFF_FIRST, BACK_OFF_MAX, Due, Failed, MAX_TRACKERS, TierState};
