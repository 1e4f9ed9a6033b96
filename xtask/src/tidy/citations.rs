//! The specification and the code cite each other: every rule with a MUST has an anchor, is cited by the code that obeys
//! it and by a test that proves it (`//= spec/iou.md#signing`), and no citation leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use super::{Report, Source};

/// The texts whose every MUST is cited.
const COVERED: &[&str] = &[
    "spec/friends.md",
    "spec/identity.md",
    "spec/iou.md",
    "spec/rendezvous.md",
];

/// A text of the specification.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text {
    anchors: BTreeSet<String>,
    /// Anchors of rules with a MUST.
    musts: BTreeSet<String>,
    /// Lines with a MUST before any anchor of their paragraph or list item.
    bare: Vec<usize>,
    /// Anchors that stand twice.
    doubled: Vec<String>,
}

/// What is cited: by code, by tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cited {
    by_code: BTreeSet<String>,
    by_tests: BTreeSet<String>,
}

/// Compares the texts of `spec` with the citations in the sources.
///
/// # Errors
/// A text cannot be read.
pub(super) fn check(sources: &[Source], report: &mut Report) -> anyhow::Result<()> {
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir("spec").context("spec")? {
        let path = entry?.path().display().to_string();
        if path.ends_with(".md") {
            let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
            texts.insert(path, parse(&text));
        }
    }
    compare(&texts, COVERED, &cited(sources), report);
    Ok(())
}

fn compare(texts: &BTreeMap<String, Text>, covered: &[&str], cited: &Cited, report: &mut Report) {
    let mut error = |message: String| report.error("citations", message);
    for citation in cited.by_code.union(&cited.by_tests) {
        let known = citation.split_once('#').is_some_and(|(path, anchor)| {
            texts
                .get(path)
                .is_some_and(|text| text.anchors.contains(anchor))
        });
        if !known {
            error(format!("{citation} is cited and does not exist"));
        }
    }
    for path in covered {
        let Some(text) = texts.get(*path) else {
            error(format!("{path} is gone"));
            continue;
        };
        for line in &text.bare {
            error(format!(
                "{path}:{line} has a MUST without an anchor before it"
            ));
        }
        for anchor in &text.doubled {
            error(format!("{path} has the anchor {anchor} twice"));
        }
        for anchor in &text.musts {
            let citation = format!("{path}#{anchor}");
            if !cited.by_code.contains(&citation) {
                error(format!("no code cites {citation}"));
            }
            if !cited.by_tests.contains(&citation) {
                error(format!("no test cites {citation}"));
            }
        }
    }
}

/// A rule is what follows an anchor, up to the next one or the end of the paragraph or list item.
fn parse(text: &str) -> Text {
    let mut found = Text::default();
    let mut rule: Option<String> = None;
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        if line.trim().is_empty() || line.starts_with("- ") || line.starts_with('#') {
            rule = None;
        }
        let mut parts = line.split("<a id=\"");
        let mut must = |part: &str, rule: &Option<String>| match rule {
            _ if !has_must(part) => {}
            Some(anchor) => {
                found.musts.insert(anchor.clone());
            }
            None => found.bare.push(index + 1),
        };
        must(parts.next().unwrap_or_default(), &rule);
        for part in parts {
            let anchor = part.split('"').next().unwrap_or_default().to_owned();
            rule = Some(anchor.clone());
            must(part, &rule);
            if !found.anchors.insert(anchor.clone()) {
                found.doubled.push(anchor);
            }
        }
    }
    found
}

fn has_must(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .any(|word| word == "MUST")
}

fn cited(sources: &[Source]) -> Cited {
    let mut found = Cited::default();
    for source in sources {
        let end_to_end = source.path.starts_with("tests/");
        let mut test = end_to_end || super::sources::is_test(&source.path);
        let mut lines = source.text.lines().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            // From an inline module on; `mod tests;` only names another file.
            let inline = lines.peek().is_some_and(|next| !next.ends_with(';'));
            test |= line == "#[cfg(test)]" && inline;
            if let Some(citation) = line.strip_prefix("//= ") {
                let into = if test {
                    &mut found.by_tests
                } else {
                    &mut found.by_code
                };
                into.insert(citation.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Text, cited, compare, parse};
    use crate::tidy::{Report, Source};
    use std::collections::BTreeMap;

    fn source(path: &str, lines: &[&str]) -> Source {
        // Split, so that this file cites nothing itself.
        let text: Vec<String> = lines.iter().map(|l| l.replace("//@", "//=")).collect();
        Source::new(path.into(), text.join("\n"))
    }

    fn errors(spec: &str, sources: &[Source]) -> Vec<String> {
        let mut report = Report::default();
        let texts = BTreeMap::from([("spec/a.md".to_owned(), parse(spec))]);
        compare(&texts, &["spec/a.md"], &cited(sources), &mut report);
        report
            .errors
            .into_iter()
            .map(|(_, message)| message)
            .collect()
    }

    #[test]
    fn rules_are_read() {
        let text = parse(
            "MUST early\n\n- <a id=\"x\"></a>You MUST.\n  More.\n- MUST bare\n- <a id=\"y\"></a>MAY\n  <a id=\"z\"></a>over\n  \
             two lines MUST NOT\n\n```\nMUST in code\n```\nMUSTARD\n<a id=\"x\"></a>again",
        );
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = Text {
            anchors: set(&["x", "y", "z"]),
            musts: set(&["x", "z"]),
            bare: vec![1, 5],
            doubled: vec!["x".into()],
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn a_must_needs_code_and_a_test() {
        let spec = "- <a id=\"x\"></a>You MUST.\n- <a id=\"y\"></a>You MAY.";
        let code = source("a/src/lib.rs", &["//@ spec/a.md#x", "fn f() {}"]);
        let inline = source(
            "a/src/b.rs",
            &["#[cfg(test)]", "mod tests {", "//@ spec/a.md#x", "}"],
        );
        let file = source("a/tests/b.rs", &["//@ spec/a.md#x"]);
        let parent = ["#[cfg(test)]", "mod tests;", "//@ spec/a.md#x", "fn f() {}"];
        let parent = source("a/src/mod.rs", &parent);
        assert_eq!(
            errors(spec, &[]),
            ["no code cites spec/a.md#x", "no test cites spec/a.md#x"]
        );
        let both = [code, inline];
        assert!(errors(spec, &both).is_empty());
        let [code, inline] = both;
        assert_eq!(errors(spec, &[code]), ["no test cites spec/a.md#x"]);
        assert_eq!(errors(spec, &[parent]), ["no test cites spec/a.md#x"]);
        let end_to_end = source("tests/e2e/c.rs", &["//@ spec/a.md#x"]);
        assert_eq!(errors(spec, &[end_to_end]), ["no code cites spec/a.md#x"]);
        assert_eq!(errors(spec, &[inline, file]), ["no code cites spec/a.md#x"]);
    }

    #[test]
    fn a_citation_leads_somewhere() {
        let code = source("a/src/lib.rs", &["//@ spec/a.md#gone", "//@ spec/b.md#x"]);
        assert_eq!(
            errors("", &[code]),
            [
                "spec/a.md#gone is cited and does not exist",
                "spec/b.md#x is cited and does not exist"
            ]
        );
    }
}
