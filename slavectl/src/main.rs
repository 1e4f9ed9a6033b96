//! `slavectl`: the command line of BTSlave.

#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, stderr, stdout};
use std::process::ExitCode;

use slavectl::Io;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The only TLS provider in the tree has to be named before a client is built.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let colour = anstream::AutoStream::choice(&stdout()) != anstream::ColorChoice::Never
        && stdout().is_terminal();
    let (mut out, mut err) = (stdout().lock(), stderr().lock());
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        colour,
        terminal: stdout().is_terminal(),
    };
    ExitCode::from(slavectl::run(std::env::args_os(), &mut io).await)
}
