//! Jobs that CI does not do: advisories, fuzzing, writing test vectors, a thousand kills, virtual swarms.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;

use crate::{ci, run};

/// Compares the lock file with the RustSec advisories.
///
/// # Errors
/// The database cannot be fetched, or an advisory applies.
pub(crate) fn audit() -> anyhow::Result<()> {
    ci::installed("cargo-deny")?;
    run::stream(&mut run::cargo(["deny", "check", "advisories"]))
}

/// Writes `spec/vectors`, by the test that compares them; then runs every case.
///
/// # Errors
/// The writer does not build, or a case does not hold.
pub(crate) fn vectors() -> anyhow::Result<()> {
    let test = "test --release -p friends-proto --test vectors -- ";
    let cargo = |name: &str| run::cargo(test.split_whitespace().chain([name]));
    let mut write = cargo("the_files_are_what_is_generated");
    run::stream(write.env("BTSLAVE_WRITE_VECTORS", "1"))?;
    run::stream(&mut cargo("every_case_of_every_file_holds"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// One target; all of them in turn when absent
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes each target from its seeds in fuzz/seeds.
///
/// # Errors
/// A target crashed, or does not build.
pub(crate) fn fuzz(args: &Fuzz) -> anyhow::Result<()> {
    ci::installed("cargo-fuzz")?;
    let list = run::output(&mut run::cargo(["fuzz", "list"]))?;
    let wanted = |name: &&str| args.target.as_deref().is_none_or(|target| target == *name);
    let targets: Vec<&str> = list.lines().filter(wanted).collect();
    if targets.is_empty() {
        bail!(
            "no such fuzz target; these exist: {}",
            list.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    for target in targets {
        let (corpus, seeds) = (
            format!("fuzz/corpus/{target}"),
            format!("fuzz/seeds/{target}"),
        );
        std::fs::create_dir_all(&corpus)?;
        let mut command = run::cargo(["fuzz", "run", target, &corpus]);
        if Path::new(&seeds).exists() {
            command.arg(&seeds);
        }
        // Sanitizers are unstable; this lets the stable compiler have them.
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["--", &format!("-max_total_time={}", args.seconds)]);
        println!("fuzz: {target} for {} s …", args.seconds);
        run::stream(&mut command)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Torture {
    /// How often the daemon is killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// Repeats a run's moments and changes; a new one when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Not one daemon under load, but friends that exchange help and IOUs
    #[arg(long)]
    friends: bool,
}

/// Kills the daemon at seeded random moments: the end-to-end test of it, for longer.
///
/// # Errors
/// It does not build, or something acknowledged was lost.
pub(crate) fn torture(args: &Torture) -> anyhow::Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = args
        .seed
        .unwrap_or_else(|| now().map_or(1, |since| u64::from(since.subsec_nanos())));
    let (kills, seed) = (args.kills.to_string(), seed.to_string());
    let (flag, tests) = if args.friends {
        (" --friends", "favours::")
    } else {
        ("", "kill::")
    };
    println!("torture: {kills} kills; again with --kills {kills} --seed {seed}{flag}");
    run::stream(&mut run::cargo([
        "build",
        "--release",
        "--workspace",
        "--bins",
    ]))?;
    let test = "test --release --workspace --test e2e -- --nocapture";
    let mut command = run::cargo(test.split(' ').chain([tests]));
    command
        .env("BTSLAVE_E2E", "1")
        .env("BTSLAVE_KILLS", &kills)
        .env("BTSLAVE_SEED", &seed);
    run::stream(&mut command)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sim {
    /// A plan of swarm-sim/plans, and swarm-sim's own options (`--help` among them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    args: Vec<String>,
}

/// Plays a plan.
///
/// # Errors
/// It does not build, or the plan cannot be played.
pub(crate) fn sim(args: &Sim) -> anyhow::Result<()> {
    let mut command = run::cargo([
        "run",
        "--release",
        "--quiet",
        "--package",
        "swarm-sim",
        "--",
    ]);
    command.args(&args.args);
    run::stream(&mut command)
}
