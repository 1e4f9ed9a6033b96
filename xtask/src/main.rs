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
mod tidy;
mod tools;

use std::process::ExitCode;

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
    /// The invariants of ARCHITECTURE.md
    Tidy,
    /// Known vulnerabilities in what we depend on (fetches the advisory database)
    Audit,
    /// Fuzz the parsers, from the seeds in fuzz/seeds
    Fuzz(tools::Fuzz),
    /// Write the test vectors of spec/vectors anew
    Vectors,
    /// Kill the daemon under load, a thousand times at random moments
    Torture(tools::Torture),
    /// Play a plan of virtual swarms (swarm-sim/plans); what follows PLAN goes to swarm-sim
    Sim(tools::Sim),
}

fn main() -> ExitCode {
    match dispatch(Menu::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    std::env::set_current_dir(run::root())?;
    match command {
        Command::Ci => return Ok(ended(&ci::run()?)),
        Command::Test(args) => return Ok(ended(&test::run(&args)?)),
        Command::Tidy => tidy::run()?,
        Command::Audit => tools::audit()?,
        Command::Fuzz(args) => tools::fuzz(&args)?,
        Command::Vectors => tools::vectors()?,
        Command::Torture(args) => tools::torture(&args)?,
        Command::Sim(args) => tools::sim(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The tests' sums are the last line of all.
fn ended(outcome: &test::Outcome) -> ExitCode {
    println!("{}", outcome.last_line);
    if outcome.green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
