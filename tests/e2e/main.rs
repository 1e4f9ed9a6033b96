//! The end-to-end tests. `cargo xtask test` runs them; plain `cargo test` leaves them out.
//!
//! A new test: a function in a module here, and its line in the module's `TESTS`.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, missing_docs, reason = "a test program has no API")]

mod harness;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [harness::TESTS];
    tests::runner::main(&all.concat())
}
