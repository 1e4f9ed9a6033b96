//! The brain: every decision BTSlave makes, without a socket, a file, a clock, a thread or ambient randomness.
//!
//! Two machines live here. [`session::Session`] runs one connection: request queues, choke flags, pipeline.
//! [`node::Node`] decides: which swarm, which piece, whom to unchoke, what to evict, what to forward to a master.
//! The shell (`repeater`) and the simulator drive both through [`io`] alone.
#![forbid(unsafe_code)]

mod ablation;
pub mod bucket;
pub mod io;
pub mod node;
pub mod params;
mod peer;
pub mod policy;
pub mod session;
mod swarm;
pub mod time;
pub mod view;
