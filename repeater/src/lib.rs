//! The daemon: sockets, disk, clocks and the loop that drives the brain.

#![forbid(unsafe_code)]

pub mod aid;
pub mod allowance;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod discover;
pub mod driver;
pub mod friends;
pub mod net;
pub mod record;
pub mod rendezvous;
pub mod store;
pub mod swarms;
