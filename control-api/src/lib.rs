//! What the daemon and its clients say to each other over `/api/v1`: request and response types, the paths, and the
//! units in which people write sizes, rates and durations. Pure: no sockets, files, clocks or randomness.
//!
//! Sizes are in bytes, rates in bytes per second, durations in seconds, moments in seconds since the Unix epoch.

#![forbid(unsafe_code)]

pub mod aid;
pub mod error;
pub mod feeds;
pub mod friends;
pub mod masters;
pub mod node;
pub mod paths;
pub mod rendezvous;
pub mod status;
pub mod swarms;
pub mod text;
pub mod units;
