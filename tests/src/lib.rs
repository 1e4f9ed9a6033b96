//! The harness of the end-to-end tests: real clients, real sockets, a network of their own.
//!
//! The tests themselves are in `e2e/`. Each runs in a process of its own, in a network and process namespace that
//! holds nothing but a loopback device with 198.18.0.0/16, and everything it started dies with it. See [`runner`].
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the runner reports on standard output"
)]

pub mod clients;
pub mod content;
pub mod http;
pub mod http_gate;
pub mod process;
pub mod raw;
pub mod runner;
pub mod wait;
