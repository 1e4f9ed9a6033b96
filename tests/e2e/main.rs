//! The end-to-end tests. `cargo xtask test` runs them; plain `cargo test` leaves them out.
#![forbid(unsafe_code)]
fn main() {}
