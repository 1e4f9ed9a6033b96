//! The daemon: sockets, disk, clocks and the loop that drives the brain.

pub mod discover;
pub mod store;
