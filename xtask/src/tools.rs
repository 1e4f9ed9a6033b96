//! Long or networked jobs that CI does not do: advisories and fuzzing.

use std::path::Path;

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
