//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md, each a named check.

mod citations;
mod functions;
mod graph;
mod mask;
mod sources;

use std::path::Path;

use anyhow::{Context, bail};

use crate::run;

/// What the checks found: errors by the name of their check, and notes that fail nothing.
#[derive(Debug, Default)]
struct Report {
    errors: Vec<(&'static str, String)>,
    notes: Vec<String>,
}

impl Report {
    fn error(&mut self, check: &'static str, message: String) {
        self.errors.push((check, message));
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// A Rust file of ours.
#[derive(Debug)]
struct Source {
    /// From the workspace's root, with `/`
    path: String,
    text: String,
    /// The text with comments and literals blanked
    code: String,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let code = mask::code_only(&text);
        Self { path, text, code }
    }
}

/// Runs all checks and prints everything they found.
///
/// # Errors
/// At least one invariant is broken, or a check could not be made.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut report = Report::default();
    let mut sources = Vec::new();
    read_sources(Path::new("."), &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources::check(&sources, &mut report);
    functions::check(&sources, &mut report)?;
    citations::check(&sources, &mut report)?;
    graph::check(&mut report)?;
    if let Err(e) = default_config(&mut report) {
        report.error("default-config", format!("{e:#}"));
    }
    for note in &report.notes {
        println!("tidy: {note}");
    }
    for (check, message) in &report.errors {
        println!("tidy: {check}: {message}");
    }
    if !report.errors.is_empty() {
        bail!("tidy: {} invariants broken", report.errors.len());
    }
    Ok(())
}

fn read_sources(folder: &Path, into: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                read_sources(&path, into)?;
            }
        } else if name.ends_with(".rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let path = path.display().to_string();
            into.push(Source::new(path.trim_start_matches("./").to_owned(), text));
        }
    }
    Ok(())
}

/// The file that documents every key is what the program itself prints.
fn default_config(report: &mut Report) -> anyhow::Result<()> {
    let file = "config/default.toml";
    if !Path::new(file).exists() {
        report.note(format!("{file} is not there yet, so it was not compared"));
        return Ok(());
    }
    let args = [
        "run",
        "--release",
        "--quiet",
        "--bin",
        "btslave",
        "--",
        "print-config",
    ];
    let printed = run::output(&mut run::cargo(args))?;
    if printed != std::fs::read_to_string(file)? {
        let cure = format!("`cargo run --release --bin btslave -- print-config > {file}`");
        report.error(
            "default-config",
            format!("{file} is not what the program prints: {cure}"),
        );
    }
    Ok(())
}
