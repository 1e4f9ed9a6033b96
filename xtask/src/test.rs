//! `cargo xtask test`: unit and integration tests, then the end-to-end tests with real clients.

use std::time::{Duration, Instant};

use crate::{clients, run};

/// All tests together may take this long.
const LIMIT: Duration = Duration::from_secs(35 * 60);

/// Of the whole workspace, so that the features, and with them the builds, are those of the other tests.
const E2E: &str = "test --release --workspace --test e2e";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// First install the real clients that are missing (Debian, as root; no service is started)
    #[arg(long)]
    pub(crate) install_clients: bool,
    /// Only tests whose name contains this
    pub(crate) filter: Option<String>,
}

/// Sums over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// "NAME: why", of each test that was left out
    left_out: Vec<String>,
}

impl Count {
    /// Reads one line of a test program's output.
    fn read(&mut self, line: &str) {
        if let Some(sums) = line.strip_prefix("test result: ") {
            let sums = sums.split_once(". ").map_or("", |(_, sums)| sums);
            for sum in sums.split("; ") {
                let (number, what) = sum.split_once(' ').unwrap_or_default();
                let number = number.parse::<u64>().unwrap_or(0);
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.skipped += number,
                    _ => {}
                }
            }
        } else if let Some((name, why)) = line
            .strip_prefix("test ")
            .and_then(|test| test.split_once(" ... ignored, "))
        {
            self.left_out.push(format!("{name}: {why}"));
        }
    }
}

/// How all tests ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) green: bool,
    /// `N passed, N failed, N skipped`: to be the last line that anyone prints
    pub(crate) last_line: String,
}

/// Runs everything. What does not build or crashes counts as one failure.
///
/// # Errors
/// The clients cannot be installed, or the tests take too long.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut count = Count::default();
    // The end-to-end tests start the programs as a user would.
    let built = run::stream(&mut run::cargo([
        "build",
        "--release",
        "--workspace",
        "--bins",
    ]));
    if let Err(e) = &built {
        println!("{e:#}");
    }
    let mut green = built.is_ok();
    if green {
        if args.install_clients {
            clients::install(&missing_packages()?)?;
        }
        let filter = args.filter.as_deref();
        let all = ["test", "--release", "--workspace", "--no-fail-fast", "--"];
        green &= cargo_test(all.into_iter().chain(filter), None, started, &mut count)?;
        let e2e = E2E.split(' ').chain(["--"]);
        green &= cargo_test(e2e.chain(filter), Some("1"), started, &mut count)?;
    }
    if !green && count.failed == 0 {
        println!("a program does not build, or crashed");
        count.failed = 1;
    }
    left_out(&count)?;
    let last_line = format!(
        "{} passed, {} failed, {} skipped",
        count.passed, count.failed, count.skipped
    );
    Ok(Outcome {
        green: count.failed == 0,
        last_line,
    })
}

fn cargo_test<'a>(
    args: impl Iterator<Item = &'a str>,
    e2e: Option<&str>,
    started: Instant,
    count: &mut Count,
) -> anyhow::Result<bool> {
    let mut command = run::cargo(args);
    match e2e {
        Some(on) => command.env("BTSLAVE_E2E", on),
        None => command.env_remove("BTSLAVE_E2E"),
    };
    run::lines(
        &mut command,
        LIMIT.saturating_sub(started.elapsed()),
        |line| {
            println!("{line}");
            count.read(line);
        },
    )
}

/// The Debian packages that the end-to-end tests want and this machine lacks, by their own word.
fn missing_packages() -> anyhow::Result<Vec<String>> {
    let args = E2E.split(' ').chain(["--quiet", "--", "--missing"]);
    Ok(run::output(&mut run::cargo(args))?
        .split_whitespace()
        .map(String::from)
        .collect())
}

/// Names the tests that were left out, and what would bring them.
fn left_out(count: &Count) -> anyhow::Result<()> {
    println!();
    if count.left_out.is_empty() {
        return Ok(());
    }
    println!("left out, {} in number:", count.left_out.len());
    for line in &count.left_out {
        println!("  {line}");
    }
    let missing = missing_packages()?;
    if !missing.is_empty() {
        println!("to bring them: apt-get install -y {}", missing.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn sums_results_and_names_what_was_left_out() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test clients::a ... ok",
            "test clients::b ... ignored, transmission-daemon is not installed",
            "test result: FAILED. 1 passed; 2 failed; 3 ignored; 0 measured; 9 filtered out; finished in 0.00s",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.23s",
        ] {
            count.read(line);
        }
        assert_eq!((count.passed, count.failed, count.skipped), (41, 2, 3));
        assert_eq!(
            count.left_out,
            ["clients::b: transmission-daemon is not installed"]
        );
    }
}
