//! `btslave`: the daemon.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    repeater::cli::main()
}
