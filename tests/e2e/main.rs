//! The end-to-end tests. `cargo xtask test` runs them; plain `cargo test` leaves them out.
//!
//! A new test: a function in a module here, and its line in the module's `TESTS`.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, missing_docs, reason = "a test program has no API")]
#![allow(clippy::print_stdout, reason = "a test tells what it measured")]

mod eviction;
mod favours;
mod friends;
mod harness;
mod hostile;
mod kill;
mod limits;
mod neediest;
mod payback;
mod privacy;
mod rendezvous;
mod slave;
mod support;
mod taker;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [
        harness::TESTS,
        slave::TESTS,
        neediest::TESTS,
        eviction::TESTS,
        friends::TESTS,
        payback::TESTS,
        hostile::TESTS,
        privacy::TESTS,
        kill::TESTS,
        favours::TESTS,
        rendezvous::TESTS,
        limits::TESTS,
    ];
    let mut all = all.concat();
    // `cargo xtask torture` wants more kills than its usual time allows.
    let longer = u32::try_from(kill::kills().saturating_sub(50)).unwrap_or(u32::MAX);
    for test in all.iter_mut().filter(|test| {
        ["kill::", "favours::"]
            .iter()
            .any(|of| test.name.starts_with(of))
    }) {
        test.seconds = test.seconds.saturating_add(longer.saturating_mul(6));
    }
    tests::runner::main(&all)
}
