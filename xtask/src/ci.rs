//! `cargo xtask ci`: everything a change must pass, cheap checks first.

use std::process::Command;
use std::time::Instant;

use crate::{run, test, tidy};

/// Runs the steps in order; the first that fails ends it. The tests are the last.
///
/// # Errors
/// The first failed step's; failed tests are told in the outcome.
pub(crate) fn run() -> anyhow::Result<test::Outcome> {
    let started = Instant::now();
    step("fmt", || {
        run::stream(&mut run::cargo(["fmt", "--all", "--check"]))
    })?;
    step("deny", deny)?;
    step("clippy", || {
        let args = [
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        run::stream(&mut run::cargo(args))
    })?;
    step("doc", || {
        let mut doc = run::cargo(["doc", "--release", "--workspace", "--no-deps"]);
        run::stream(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    // Needs the program for its default configuration, so it comes after what needs no build.
    step("tidy", tidy::run)?;
    let tests = step("test", || {
        test::run(&test::Args {
            install_clients: true,
            filter: None,
        })
    })?;
    let word = if tests.green { "all green" } else { "FAILED" };
    println!("ci: {word} after {} s", started.elapsed().as_secs());
    Ok(tests)
}

fn step<T>(name: &str, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("ci: {name} …");
    let started = Instant::now();
    let result = body();
    let word = if result.is_ok() { "done" } else { "FAILED" };
    println!(
        "ci: {name} {word} after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    result
}

fn deny() -> anyhow::Result<()> {
    installed("cargo-deny")?;
    run::stream(&mut run::cargo([
        "deny",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// Builds a cargo subcommand from the registry when it is not there.
///
/// # Errors
/// It could not be built.
pub(crate) fn installed(tool: &str) -> anyhow::Result<()> {
    if Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success())
    {
        return Ok(());
    }
    run::stream(&mut run::cargo(["install", "--locked", tool]))
}
