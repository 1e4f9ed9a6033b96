//! Installing the real clients that the end-to-end tests talk to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::run;

/// Debian asks this program before a package starts its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs Debian packages without letting any of them start a service.
///
/// # Errors
/// Not root, or apt-get failed.
pub(crate) fn install(packages: &[String]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "--install-clients needs root: run `apt-get install -y {}` as root",
            packages.join(" ")
        );
    }
    let _policy = ServicesDenied::new()?;
    if apt_install(packages, Stdio::null()).is_err() {
        // The usual reason is a package list that is old or was never fetched.
        run::stream(Command::new("apt-get").arg("update").stdout(Stdio::null()))?;
        apt_install(packages, Stdio::inherit())?;
    }
    Ok(())
}

fn apt_install(packages: &[String], errors: Stdio) -> anyhow::Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends"])
        .args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .stderr(errors);
    run::stream(&mut apt)
}

/// While this lives, no package may start a service; afterwards the machine's own policy is back.
struct ServicesDenied {
    before: Option<(Vec<u8>, fs::Permissions)>,
}

impl ServicesDenied {
    fn new() -> anyhow::Result<Self> {
        let before = match fs::metadata(POLICY) {
            Ok(meta) => Some((fs::read(POLICY)?, meta.permissions())),
            Err(_) => None,
        };
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { before })
    }
}

impl Drop for ServicesDenied {
    fn drop(&mut self) {
        let restored = match self.before.take() {
            Some((text, mode)) => {
                fs::write(POLICY, text).and_then(|()| fs::set_permissions(POLICY, mode))
            }
            None => fs::remove_file(Path::new(POLICY)),
        };
        if let Err(e) = restored {
            eprintln!("cannot restore {POLICY}: {e}");
        }
    }
}
