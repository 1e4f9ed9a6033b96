//! A simulator of swarms: the daemon's own brain (`swarm_core::node::Node`), sessions and bucket tree among ordinary
//! peers, on virtual lines and in virtual time.
//!
//! A [`plan::Plan`] says who is there; [`run`] plays it with a seed and gives an [`Outcome`]. The same plan and seed give
//! the same outcome, event by event: its hash says so. Nothing here opens a socket, reads a clock or starts a thread;
//! whoever wants many runs at once starts the threads.
//!
//! What is modelled: each node's line up and down, shared block by block among its connections; latency; connections
//! that break and peers that come and go; and of ordinary peers the picker, the request queues and the choking of
//! libtorrent 2.0 (sources named in the code). What is not: TCP's own behaviour, disks, the time that hashing takes, the
//! HAVEs between ordinary peers (they know at once). `README.md` says how far that is from life.
#![forbid(unsafe_code)]

mod bits;
mod events;
pub mod harm;
mod limiter;
mod link;
mod outcome;
mod peer;
pub mod plan;
mod plot;
mod repeater;
mod report;
mod rng;
mod world;

pub use outcome::{Outcome, SlavesOutcome, run};
pub use plot::plot;
pub use report::{later, slaves_table, table};
