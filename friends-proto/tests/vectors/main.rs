//! The test vectors of `spec/vectors`: written from fixed seeds, compared with the files, and every case run against the
//! code. `cargo xtask vectors` writes them anew.
//!
//! One module per subject. Its `generate` makes the file's text; its `check` reads the file and runs each case in it.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this test reads and writes the vectors' files"
)]

mod curve;
mod friend_codes;
mod ious;
mod keys;
mod ledgers;
mod messages;
mod noise;
mod pairs;
mod pex;
mod recognition;
mod session_ends;
mod sessions;
mod support;

use std::path::PathBuf;

struct Subject {
    /// In `spec/vectors`, without `.json`.
    name: &'static str,
    generate: fn() -> String,
    check: fn(&str),
}

const SUBJECTS: &[Subject] = &[
    Subject {
        name: "keys",
        generate: keys::generate,
        check: keys::check,
    },
    Subject {
        name: "friend_codes",
        generate: friend_codes::generate,
        check: friend_codes::check,
    },
    Subject {
        name: "pairs",
        generate: pairs::generate,
        check: pairs::check,
    },
    Subject {
        name: "ious",
        generate: ious::generate,
        check: ious::check,
    },
    Subject {
        name: "ledgers",
        generate: ledgers::generate,
        check: ledgers::check,
    },
    Subject {
        name: "recognition",
        generate: recognition::generate,
        check: recognition::check,
    },
    Subject {
        name: "sessions",
        generate: sessions::generate,
        check: sessions::check,
    },
    Subject {
        name: "messages",
        generate: messages::generate,
        check: messages::check,
    },
    Subject {
        name: "pex",
        generate: pex::generate,
        check: pex::check,
    },
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors")
}

#[test]
fn the_files_are_what_is_generated() {
    let write = std::env::var_os("BTSLAVE_WRITE_VECTORS").is_some();
    for subject in SUBJECTS {
        let file = folder().join(subject.name).with_extension("json");
        let generated = (subject.generate)();
        if write {
            std::fs::write(&file, &generated).expect("written");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == generated,
            "{} is not what is generated: run `cargo xtask vectors` and look at the difference",
            file.display()
        );
    }
}

#[test]
fn every_case_of_every_file_holds() {
    for subject in SUBJECTS {
        let file = folder().join(subject.name).with_extension("json");
        (subject.check)(&std::fs::read_to_string(&file).expect("file"));
    }
}

#[test]
fn no_file_is_without_a_subject() {
    for entry in std::fs::read_dir(folder()).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        assert!(
            SUBJECTS.iter().any(|subject| Some(subject.name) == name),
            "{} is checked by nothing",
            path.display()
        );
    }
}
