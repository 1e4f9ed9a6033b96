//! Running other programs: streamed, timed, and stopped by pid when they outlive their welcome.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// A command line of cargo's, with the very cargo that runs us.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` describes this package in our environment. Build scripts that watch these names (ring's does)
    // would be rebuilt, with all that needs them, each time cargo is called from here and then from a shell.
    for (name, _) in std::env::vars_os() {
        let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if about_us
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command.args(args);
    command
}

/// Runs with our own standard streams.
///
/// # Errors
/// The program cannot be started, or does not end with status 0.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", show(command));
    }
    Ok(())
}

/// Standard output of a program that has to succeed; its standard error is ours.
///
/// # Errors
/// The program cannot be started, or does not end with status 0.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let out = command.stderr(Stdio::inherit()).output();
    let out = out.with_context(|| format!("cannot start {}", show(command)))?;
    if !out.status.success() {
        bail!("{} ended with {}", show(command), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Hands each line of standard output to `line`, as it comes; true = status 0.
/// When `limit` has passed, the program and all its descendants are killed.
///
/// # Errors
/// The program cannot be started, or was killed for taking too long.
pub(crate) fn lines(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> anyhow::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn();
    let child = child
        .as_mut()
        .map_err(|e| anyhow::anyhow!("cannot start {}: {e}", show(command)))?;
    let (ended, watch) = mpsc::sync_channel::<()>(1);
    let pid = child.id();
    let watchdog = thread::spawn(move || {
        let expired = watch.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if expired {
            kill_tree(pid);
        }
        expired
    });
    if let Some(out) = child.stdout.take() {
        for text in BufReader::new(out).split(b'\n') {
            line(&String::from_utf8_lossy(&text?));
        }
    }
    let status = child.wait()?;
    drop(ended);
    if watchdog.join().unwrap_or(false) {
        bail!("{} was stopped after {} s", show(command), limit.as_secs());
    }
    Ok(status.success())
}

/// Kills a process that we started, and its descendants, youngest first.
fn kill_tree(pid: u32) {
    let mut all = vec![pid];
    let mut seen = BTreeSet::from([pid]);
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let new = children
                .split_whitespace()
                .filter_map(|c| c.parse().ok())
                .filter(|c| seen.insert(*c));
            all.extend(new.collect::<Vec<u32>>());
        }
    }
    for pid in all.iter().rev() {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
