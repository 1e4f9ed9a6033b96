//! The developer's menu: `cargo xtask <command>`.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks on standard output"
)]

mod ci;
mod clients;
mod run;
mod test;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The developer's menu of BTSlave")]
struct Menu {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything a change must pass, cheap checks first (what .ci/run calls)
    Ci,
    /// All tests: unit, integration, then those with real BitTorrent clients
    Test(test::Args),
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(run::root())?;
    match Menu::parse().command {
        Command::Ci => ci::run(),
        Command::Test(args) => test::run(&args),
    }
}
