//! What each source file may hold: its size, its words, and who may name sled, reqwest, rss and sockets.

use super::{Report, Source};

/// A file over this many lines fails.
const FILE_LIMIT: usize = 1000;
/// A file over this many lines is named in the report.
const FILE_AIM: usize = 400;

/// A name, and the only folders of the programs whose code may use it.
const HOMES: &[(&str, &[&str])] = &[
    ("sled", &["repeater/src/store"]),
    ("rss", &["repeater/src/discover"]),
    ("atom_syndication", &["repeater/src/discover"]),
    (
        "reqwest",
        &["repeater/src/discover", "master-link/src", "slavectl/src"],
    ),
    // The demo's leechers and master are ordinary peers that meet the daemon from outside.
    ("TcpStream", &["repeater/src/net", "repeater/src/demo"]),
];

/// Where [`HOMES`] does not look: tests and tools meet the daemon from outside.
const OUTSIDE: &[&str] = &["tests/", "xtask/", "fuzz/"];

/// Half-done work has no place in the tree. (Split, so that this file does not accuse itself.)
const WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
const CODE_WORDS: &[&str] = &["todo!", "unimplemented!", "#[ignore"];

/// Runs every check of this module; also notes the sizes.
pub(super) fn check(sources: &[Source], report: &mut Report) {
    let mut sizes: Vec<usize> = Vec::new();
    for source in sources {
        size(source, report);
        words(source, report);
        homes(source, report);
        sizes.push(source.text.lines().count());
    }
    sizes.sort_unstable();
    let (sum, median) = (
        sizes.iter().sum::<usize>(),
        sizes.get(sizes.len() / 2).copied().unwrap_or(0),
    );
    report.note(format!(
        "{} source files, {sum} lines, median {median}",
        sizes.len()
    ));
}

fn size(source: &Source, report: &mut Report) {
    let lines = source.text.lines().count();
    if lines > FILE_LIMIT {
        report.error(
            "file-size",
            format!(
                "{} has {lines} lines, over {FILE_LIMIT}: split it",
                source.path
            ),
        );
    } else if lines > FILE_AIM {
        report.note(format!(
            "{} has {lines} lines (aim: {FILE_AIM})",
            source.path
        ));
    }
}

fn words(source: &Source, report: &mut Report) {
    let found = (WORDS.iter().filter(|w| source.text.contains(**w)))
        .chain(CODE_WORDS.iter().filter(|w| source.code.contains(**w)));
    for word in found {
        report.error(
            "words",
            format!("{} holds `{word}`: finish it or file an issue", source.path),
        );
    }
}

fn homes(source: &Source, report: &mut Report) {
    if OUTSIDE.iter().any(|folder| source.path.starts_with(folder)) || is_test(&source.path) {
        return;
    }
    let code = without_test_module(&source.code);
    for (name, folders) in HOMES {
        if names(code, name) && !folders.iter().any(|folder| source.path.starts_with(folder)) {
            let only = folders.join(", ");
            report.error(
                "homes",
                format!("{} names `{name}`, which only {only} may", source.path),
            );
        }
    }
}

pub(super) fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// The test module is the last item of a file.
fn without_test_module(code: &str) -> &str {
    code.split_once("#[cfg(test)]\nmod ")
        .map_or(code, |(before, _)| before)
}

/// Whether `name` occurs as a whole identifier.
fn names(code: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        !code[..at].ends_with(inside) && !code[at + name.len()..].starts_with(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::{Report, Source};

    #[track_caller]
    fn errors(path: &str, text: &str, expected: &[&str]) {
        let mut report = Report::default();
        check(&[Source::new(path.into(), text.into())], &mut report);
        assert_eq!(
            report
                .errors
                .iter()
                .map(|(check, _)| *check)
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_name_outside_its_home_is_found() {
        errors("repeater/src/store/index.rs", "use sled::Db;", &[]);
        errors("repeater/src/cache/mod.rs", "use sled::Db;", &["homes"]);
        errors("repeater/src/cache/mod.rs", "use sledge; // sled::Db", &[]);
        errors(
            "repeater/src/control/mod.rs",
            "fn f(s: TcpStream) {}",
            &["homes"],
        );
        errors(
            "repeater/src/driver.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use std::net::TcpStream; }",
            &[],
        );
        errors("tests/src/raw.rs", "use std::net::TcpStream;", &[]);
        errors("swarm-core/src/lib.rs", "use reqwest::Client;", &["homes"]);
    }

    #[test]
    fn half_done_work_is_found() {
        errors("a/src/lib.rs", concat!("// TO", "DO: later"), &["words"]);
        errors("a/src/lib.rs", "fn f() { todo!() }", &["words"]);
        errors("a/src/lib.rs", "#[ignore]\nfn f() {}", &["words"]);
        errors("a/src/lib.rs", "let s = \"#[ignore]\";", &[]);
    }

    #[test]
    fn a_huge_file_is_found() {
        errors("a/src/lib.rs", &"x\n".repeat(1000), &[]);
        errors("a/src/lib.rs", &"x\n".repeat(1001), &["file-size"]);
    }
}
