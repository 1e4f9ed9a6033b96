//! Runs the end-to-end tests one after another, each in a process, a network and a process namespace of its own.
//!
//! So tests cannot meet each other's ports, nothing they start can reach the outside, and whatever they start is gone
//! when they end, however they end. Output follows Rust's own test harness, which `cargo xtask test` adds up.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::clients::Program;

/// Set while the end-to-end tests are wanted; plain `cargo test` leaves them out.
const WANTED: &str = "BTSLAVE_E2E";
/// The test's scratch folder, for the process inside the namespace.
const SCRATCH: &str = "BTSLAVE_E2E_SCRATCH";

/// An end-to-end test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// `module::what_it_shows`
    pub name: &'static str,
    /// Programs that it cannot do without.
    pub needs: &'static [Program],
    /// It fails when it takes longer.
    pub seconds: u32,
    /// The test.
    pub run: fn() -> anyhow::Result<()>,
}

impl Test {
    /// One that needs no other program.
    #[must_use]
    pub const fn alone(name: &'static str, seconds: u32, run: fn() -> anyhow::Result<()>) -> Self {
        Self {
            name,
            needs: &[],
            seconds,
            run,
        }
    }
}

/// The test network's address number `n`, 1 to 254: a peer each.
#[must_use]
pub fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, n)
}

/// The running test's scratch folder, in memory where possible. It goes when the test ends.
#[must_use]
pub fn scratch() -> PathBuf {
    std::env::var_os(SCRATCH).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// The running test's logs, kept when it fails.
#[must_use]
pub fn logs() -> PathBuf {
    scratch().join("logs")
}

/// The `main` of the test program.
#[must_use]
pub fn main(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    match args.first().map(String::as_str) {
        Some("--missing") => {
            println!("{}", missing_packages().join(" "));
            ExitCode::SUCCESS
        }
        Some("--inside") => inside(tests, filters.first().map_or("", |name| name.as_str())),
        Some("--list") => {
            tests
                .iter()
                .for_each(|test| println!("{}: test", test.name));
            ExitCode::SUCCESS
        }
        _ => {
            // As Rust's own harness has it: what a test that went well printed is shown, too.
            let shown = args.iter().any(|arg| arg == "--nocapture");
            run_all(tests, &filters, shown)
        }
    }
}

fn missing_packages() -> Vec<&'static str> {
    Program::ALL
        .iter()
        .filter(|program| !program.is_installed())
        .map(|program| program.package())
        .collect()
}

fn run_all(tests: &[Test], filters: &[&String], shown: bool) -> ExitCode {
    let started = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    let wanted = std::env::var_os(WANTED).is_some();
    let chosen =
        |test: &&Test| filters.is_empty() || filters.iter().any(|f| test.name.contains(f.as_str()));
    let chosen: Vec<&Test> = tests.iter().filter(|test| wanted && chosen(test)).collect();
    if !wanted {
        println!("\nend-to-end tests: `cargo xtask test` runs them");
    }
    println!("\nrunning {} tests", chosen.len());
    for test in &chosen {
        if let Some(why) = obstacle(test) {
            println!("test {} ... ignored, {why}", test.name);
            ignored += 1;
            continue;
        }
        let started = Instant::now();
        let outcome = outside(test).map(|said| {
            if shown {
                print!("{said}");
            }
        });
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {} ... {word} ({:.1} s)",
            test.name,
            started.elapsed().as_secs_f64()
        );
        match outcome {
            Ok(()) => passed += 1,
            Err(e) => failed.push((test.name, e)),
        }
    }
    for (name, error) in &failed {
        println!("\n---- {name} ----\n{error:#}");
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        tests.len() - chosen.len(),
        started.elapsed().as_secs_f64()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Why a test cannot run here.
fn obstacle(test: &Test) -> Option<String> {
    if let Some(program) = test.needs.iter().find(|program| !program.is_installed()) {
        return Some(format!("{} is not installed", program.package()));
    }
    if !Program::IpRoute.is_installed() {
        return Some(format!("{} is not installed", Program::IpRoute.package()));
    }
    let probe = namespace()
        .arg("true")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let made = probe.is_ok_and(|status| status.success());
    (!made).then(|| {
        "no network namespace can be made here (root, or user namespaces, are needed)".to_owned()
    })
}

/// What runs a program in new namespaces, which end with it; and it ends when we do.
fn namespace() -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// Runs one test in its own namespaces, and cleans up after it. Gives what it printed.
fn outside(test: &Test) -> anyhow::Result<String> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    let scratch = tempfile::Builder::new()
        .prefix("btslave-e2e-")
        .tempdir_in(parent)?;
    fs::create_dir(scratch.path().join("logs"))?;
    let limit = test.seconds.to_string();
    let inner = namespace();
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "timeout",
        "--foreground",
        "--signal=KILL",
        &limit,
    ]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(std::env::current_exe()?);
    command
        .args(["--inside", test.name])
        .env(SCRATCH, scratch.path())
        .stdin(Stdio::null());
    let started = Instant::now();
    let out = command.output().context("cannot start setpriv")?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let logs = keep_logs(test, scratch.path())?;
    let mut report = String::from_utf8_lossy(&out.stdout).into_owned();
    report.push_str(&String::from_utf8_lossy(&out.stderr));
    if started.elapsed().as_secs() >= u64::from(test.seconds) {
        report.push_str(&format!("stopped after {limit} s\n"));
    }
    anyhow::bail!("{report}{}; logs: {}", out.status, logs.display())
}

/// Saves a failed test's logs from the scratch folder to `target/e2e/NAME`.
fn keep_logs(test: &Test, scratch: &Path) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe
        .ancestors()
        .nth(3)
        .context("this program is not in target/release/deps")?;
    let kept = target.join("e2e").join(test.name.replace("::", "-"));
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    fs::create_dir_all(&kept)?;
    for log in fs::read_dir(scratch.join("logs"))? {
        let log = log?;
        fs::copy(log.path(), kept.join(log.file_name()))?;
    }
    Ok(kept)
}

/// Runs one test; we are inside the namespaces.
fn inside(tests: &[Test], name: &str) -> ExitCode {
    let Some(test) = tests.iter().find(|test| test.name == name) else {
        eprintln!("no test is called {name}");
        return ExitCode::FAILURE;
    };
    match bring_up_network().and_then(|()| (test.run)()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn bring_up_network() -> anyhow::Result<()> {
    for args in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", "198.18.0.1/16", "dev", "lo"][..],
    ] {
        let status = Command::new("ip")
            .args(args)
            .status()
            .context("cannot start ip")?;
        ensure!(
            status.success(),
            "ip {} ended with {status}",
            args.join(" ")
        );
    }
    Ok(())
}
