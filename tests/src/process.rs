//! A program under test: started with a log, stopped by its pid, never left behind.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::runner;
use crate::wait::eventually;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard error, and standard output unless the caller took it, go to `logs/NAME.log`.
    ///
    /// # Errors
    /// The program is not there, or the log cannot be made.
    pub fn start(name: &str, command: &mut Command, take_streams: bool) -> anyhow::Result<Self> {
        let log = runner::logs().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| log.display().to_string())?;
        if take_streams {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file.try_clone()?);
        }
        // Of its own group, so that a terminal's ^C reaches the test first.
        let child = command.stderr(file).process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, log })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, when it has ended by itself.
    ///
    /// # Errors
    /// The operating system refuses to say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no pid")?, signal)?)
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// It did not end within `limit`; it is killed then.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        eventually("exit after SIGTERM", limit, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
