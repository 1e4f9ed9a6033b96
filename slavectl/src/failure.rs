//! How `slavectl` fails: `error: WHAT: WHY` and `hint: …`.

use std::io::{self, Write};

use control_api::error::Problem;

use crate::printable;

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The daemon, or a local file, said no.
    Refused(Problem),
    /// The arguments make no sense.
    Usage(Problem),
    /// No daemon answered.
    NoDaemon(Problem),
    /// Standard output is closed, as by `| head`.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn refused(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Refused(Problem::new(what, why, hint))
    }

    pub(crate) fn usage(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Usage(Problem::new(what, why, hint))
    }

    pub(crate) fn output(error: io::Error) -> Self {
        Self::Output(error)
    }

    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NoDaemon(_) => 3,
            // A reader that has seen enough is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
        }
    }

    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Refused(problem) | Self::Usage(problem) | Self::NoDaemon(problem) => {
                writeln!(
                    to,
                    "error: {}: {}",
                    printable(&problem.what),
                    printable(&problem.why)
                )?;
                if problem.hint.is_empty() {
                    Ok(())
                } else {
                    writeln!(to, "hint: {}", printable(&problem.hint))
                }
            }
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Self::Output(error) => writeln!(to, "error: standard output: {error}"),
        }
    }
}
