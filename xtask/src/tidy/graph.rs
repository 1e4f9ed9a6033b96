//! Who imports whom, what the pure crates pull in, and what every crate's root declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::Report;
use crate::run;

/// The crates without sockets, files, clocks, threads and ambient randomness.
const PURE: &[&str] = &["bt-wire", "friends-proto", "swarm-core", "control-api"];

/// Crate, and the workspace crates that it may import. `tests` may import anything, nobody imports `tests`.
const ARROWS: &[(&str, &[&str])] = &[
    ("bt-wire", &[]),
    ("friends-proto", &["bt-wire"]),
    ("swarm-core", &["bt-wire", "friends-proto"]),
    ("control-api", &[]),
    ("master-link", &["bt-wire"]),
    (
        "repeater",
        &[
            "bt-wire",
            "control-api",
            "friends-proto",
            "master-link",
            "swarm-core",
        ],
    ),
    ("slavectl", &["bt-wire", "control-api"]),
    ("swarm-sim", &["bt-wire", "friends-proto", "swarm-core"]),
    ("xtask", &[]),
];

/// What a pure crate's clippy.toml has to ban; the root file's rules do not reach it.
const BANS: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::fs::File",
    "std::thread::spawn",
];

/// Crate roots that may do without `#![forbid(unsafe_code)]`, and why.
const UNSAFE_ROOTS: &[(&str, &str)] = &[];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency
    kind: Option<String>,
    /// Set for a dependency within the workspace
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    src_path: String,
}

/// Runs every check of this module.
///
/// # Errors
/// Cargo cannot describe the workspace.
pub(super) fn check(report: &mut Report) -> anyhow::Result<()> {
    let args = ["metadata", "--format-version", "1", "--no-deps"];
    let text = run::output(&mut run::cargo(args))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    for package in &metadata.packages {
        arrows(package, report);
        for target in &package.targets {
            forbids_unsafe(
                Path::new(&target.src_path),
                &metadata.workspace_root,
                report,
            )?;
        }
    }
    let allowed: BTreeMap<String, BTreeSet<String>> =
        toml::from_str(include_str!("allow.toml")).context("allow.toml")?;
    for name in PURE {
        let args = [
            "tree", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
        ];
        purity(name, &run::output(&mut run::cargo(args))?, &allowed, report);
        let clippy = std::fs::read_to_string(format!("{name}/clippy.toml")).unwrap_or_default();
        bans(name, &clippy, report);
    }
    Ok(())
}

fn arrows(package: &Package, report: &mut Report) {
    if package.name == "tests" {
        return;
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        let name = &package.name;
        report.error(
            "arrows",
            format!("{name} is unknown: add it to ARCHITECTURE.md and to tidy/graph.rs"),
        );
        return;
    };
    let inside = package.dependencies.iter().filter(|d| d.path.is_some());
    for dependency in inside.filter(|d| d.kind.is_none()) {
        if !allowed.contains(&dependency.name.as_str()) {
            let (from, to) = (&package.name, &dependency.name);
            report.error(
                "arrows",
                format!("{from} imports {to}, and ARCHITECTURE.md has no such arrow"),
            );
        }
    }
}

fn purity(
    name: &str,
    tree: &str,
    allowed: &BTreeMap<String, BTreeSet<String>>,
    report: &mut Report,
) {
    let imports = ARROWS
        .iter()
        .find(|(from, _)| *from == name)
        .map_or(&[][..], |(_, to)| to);
    let lists = imports
        .iter()
        .chain([&name])
        .filter_map(|of| allowed.get(*of));
    let known: BTreeSet<&str> = lists.flatten().map(String::as_str).collect();
    let found: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for dependency in found
        .iter()
        .filter(|d| !PURE.contains(d) && !known.contains(**d))
    {
        let list = "xtask/src/tidy/allow.toml";
        report.error(
            "purity",
            format!("{name} pulls in {dependency}, which {list} does not allow it"),
        );
    }
}

fn bans(name: &str, clippy: &str, report: &mut Report) {
    for ban in BANS
        .iter()
        .filter(|ban| !clippy.contains(&format!("\"{ban}\"")))
    {
        let message = format!("{name}/clippy.toml does not ban {ban}; see swarm-core/clippy.toml");
        report.error("purity", message);
    }
}

fn forbids_unsafe(root: &Path, workspace: &str, report: &mut Report) -> anyhow::Result<()> {
    let path = root
        .strip_prefix(workspace)
        .unwrap_or(root)
        .display()
        .to_string();
    let text = std::fs::read_to_string(root).with_context(|| path.clone())?;
    let excused = UNSAFE_ROOTS.iter().any(|(excused, _why)| *excused == path);
    if !excused && !text.contains("#![forbid(unsafe_code)]") {
        report.error("unsafe", format!("{path} lacks #![forbid(unsafe_code)]"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BANS, Dependency, Package, arrows, bans, purity};
    use crate::tidy::Report;
    use std::collections::{BTreeMap, BTreeSet};

    fn package(name: &str, imports: &str, kind: Option<&str>) -> Package {
        let dependency = Dependency {
            name: imports.into(),
            kind: kind.map(Into::into),
            path: Some(format!("/x/{imports}")),
        };
        Package {
            name: name.into(),
            dependencies: vec![dependency],
            targets: Vec::new(),
        }
    }

    #[test]
    fn a_forbidden_arrow_is_found() {
        let errors = |from, to, kind| {
            let mut report = Report::default();
            arrows(&package(from, to, kind), &mut report);
            report.errors.len()
        };
        assert_eq!(errors("swarm-core", "bt-wire", None), 0);
        assert_eq!(errors("bt-wire", "swarm-core", None), 1);
        assert_eq!(errors("slavectl", "repeater", None), 1);
        assert_eq!(errors("bt-wire", "swarm-core", Some("dev")), 0);
        assert_eq!(errors("newcomer", "bt-wire", None), 1);
    }

    #[test]
    fn an_impure_dependency_is_found() {
        let own = |name: &str| BTreeSet::from([name.to_owned()]);
        let allowed = BTreeMap::from([
            ("swarm-core".into(), own("serde")),
            ("bt-wire".into(), own("url")),
        ]);
        let mut report = Report::default();
        purity(
            "swarm-core",
            "swarm-core v0.1.0 (/x)\nserde v1.0.0\nbt-wire v0.1.0 (/x)\nurl v2.0.0",
            &allowed,
            &mut report,
        );
        assert!(report.errors.is_empty());
        purity(
            "swarm-core",
            "serde v1.0.0\ntokio v1.0.0 (*)",
            &allowed,
            &mut report,
        );
        assert_eq!(report.errors.len(), 1);
    }

    #[test]
    fn a_missing_ban_is_found() {
        let mut report = Report::default();
        let all: String = BANS
            .iter()
            .map(|ban| format!("{{ path = \"{ban}\" }},"))
            .collect();
        bans("bt-wire", &all, &mut report);
        assert!(report.errors.is_empty());
        bans(
            "bt-wire",
            &all.replace("std::fs::File", "std::fs::Fool"),
            &mut report,
        );
        assert_eq!(report.errors.len(), 1);
    }
}
