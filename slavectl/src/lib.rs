//! `slavectl` as a function: arguments in, text and an exit status out.
//!
//! It talks to a daemon over the HTTP API only, and does the offline jobs (`torrent …`) by itself.

#![forbid(unsafe_code)]

mod aid;
mod cli;
mod client;
mod commands;
mod failure;
mod friends;
mod rendezvous;
mod show;
mod torrent;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use clap::Parser as _;
use clap::error::ErrorKind;
use control_api::text::{is_unsafe, printable};
use serde::Serialize;

use cli::{Cli, Command};
use failure::Failure;

/// Where the text goes.
#[allow(missing_debug_implementations, reason = "writers have no Debug")]
pub struct Io<'w> {
    /// Standard output: answers.
    pub out: &'w mut dyn Write,
    /// Standard error: failures.
    pub err: &'w mut dyn Write,
    /// Colour is wanted.
    pub colour: bool,
    /// Standard output is a terminal: tables are fitted to its width.
    pub terminal: bool,
}

/// Does what `args` say (the first is the program's name). Exit status: 0 done, 1 the daemon or a local file said no,
/// 2 usage, 3 no daemon answered.
pub async fn run(args: impl IntoIterator<Item = OsString>, io: &mut Io<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, io),
    };
    match execute(cli, io).await {
        Ok(()) => 0,
        Err(failure) => {
            // Nobody is left to tell when standard error is closed as well.
            let _ = failure.write(io.err);
            failure.status()
        }
    }
}

fn usage(error: &clap::Error, io: &mut Io<'_>) -> u8 {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let text = error.render();
        let _ = if io.colour {
            write!(io.out, "{}", text.ansi())
        } else {
            write!(io.out, "{text}")
        };
        return 0;
    }
    let _ = write!(io.err, "{}", error.render());
    2
}

async fn execute(cli: Cli, io: &mut Io<'_>) -> Result<(), Failure> {
    match cli.command {
        Command::Torrent { command } => torrent::run(&command, cli.json, io),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                shell,
                &mut <Cli as clap::CommandFactory>::command(),
                "slavectl",
                &mut script,
            );
            io.out.write_all(&script).map_err(Failure::output)
        }
        command @ (Command::Status
        | Command::Swarms { .. }
        | Command::Feeds { .. }
        | Command::Cache
        | Command::Master { .. }
        | Command::Friends { .. }
        | Command::Rendezvous { .. }
        | Command::Aid { .. }
        | Command::Pause
        | Command::Resume
        | Command::Reload) => {
            commands::run(
                command,
                &client::Client::new(&cli.connection)?,
                cli.json,
                io,
            )
            .await
        }
    }
}

impl Io<'_> {
    /// One JSON document, with nothing in it that a terminal could obey (row A3): what JSON leaves raw is escaped.
    fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut out = Escaping(BufWriter::new(&mut *self.out));
        serde_json::to_writer_pretty(&mut out, value).map_err(|e| Failure::output(e.into()))?;
        out.0
            .write_all(b"\n")
            .and_then(|()| out.0.flush())
            .map_err(Failure::output)
    }

    /// Text of ours; foreign names in it went through [`printable`] before.
    fn text(&mut self, text: &str) -> Result<(), Failure> {
        let newline = if text.ends_with('\n') || text.is_empty() {
            ""
        } else {
            "\n"
        };
        write!(self.out, "{text}{newline}").map_err(Failure::output)
    }
}

/// Escapes what JSON allows in strings and a terminal might obey. A document can be large: it is never held whole.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // serde_json writes whole characters.
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        let mut rest = text;
        while let Some(at) = rest.find(|c| c != '\n' && is_unsafe(c)) {
            let (safe, evil) = rest.split_at(at);
            self.0.write_all(safe.as_bytes())?;
            let mut chars = evil.chars();
            for unit in chars
                .next()
                .into_iter()
                .flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec())
            {
                write!(self.0, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        self.0.write_all(rest.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
