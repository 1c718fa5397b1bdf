//! dpkg and apt: what is asked of them, and what they are told.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use pxe_lab::{
    packages::{Package, Purpose},
    requires,
};

use super::{
    decision::Privilege,
    missing::{self, Missing},
};

/// Somebody else may be installing.
const PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// What to do about an apt that has failed.
const REPAIR: &str = "What it wrote above says why. Often one of these helps: dpkg --configure -a; apt-get --fix-broken install; \
                      the network and /etc/apt/sources.list. Then: cargo xtask install";

/// Returns whether this host has both.
pub(super) fn is_here() -> bool {
    ["dpkg-query", "apt-get"].iter().all(|program| requires::find(program).is_some())
}

/// Asks dpkg which of these packages are missing.
///
/// # Errors
///
/// When dpkg-query cannot be started.
pub(super) fn missing(packages: &[&'static Package]) -> anyhow::Result<Missing> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", missing::FORMAT]).args(packages.iter().map(|package| package.name));
    // It fails when it does not know one of them, and prints the others all the same.
    let output = query.output().with_context(|| format!("cannot start {query:?}"))?;
    Ok(Missing::of(packages.iter().copied(), &String::from_utf8_lossy(&output.stdout)))
}

/// Returns whether apt has downloaded lists of packages. The tests fetch newer firmware from where these came from.
pub(super) fn has_lists() -> bool {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]);
    targets.output().is_ok_and(|output| !output.stdout.trim_ascii().is_empty())
}

/// Downloads the lists and installs what is missing and can be had; says what cannot.
///
/// # Errors
///
/// When apt fails, or has no such package; with what to do.
pub(super) fn install(missing: &Missing, privilege: Privilege) -> anyhow::Result<()> {
    if missing.unfinished {
        eprintln!("xtask: finishing an interrupted installation");
        run(privilege, &["dpkg", "--configure", "-a"])?;
    }
    // A source that does not answer need not be the one that has what is missing.
    let updated = run(privilege, &["apt-get", "--quiet=2", "-o", PATIENCE, "update"]);
    let mut policy = Command::new("apt-cache");
    policy.arg("policy").args(missing.names()).env("LC_ALL", "C");
    let policy = policy.output().context("cannot start apt-cache")?;
    let unavailable = missing::unavailable(&missing.packages, &String::from_utf8_lossy(&policy.stdout));
    // Apart from each other: that the compiler cannot be installed must not keep the tests from running.
    let mut failure = updated.err();
    for purpose in [Purpose::Tests, Purpose::Ebpf, Purpose::Lint, Purpose::Fuzz] {
        let wanted =
            missing.packages.iter().filter(|package| package.purpose == purpose && !unavailable.contains(package));
        let names: Vec<_> = wanted.map(|package| package.name).collect();
        if !names.is_empty() {
            eprintln!("xtask: installing {}", names.join(" "));
            let command = ["apt-get", "--quiet=2", "--yes", "-o", PATIENCE, "install", "--no-install-recommends"];
            failure = run(privilege, &[&command[..], &names].concat()).err().or(failure);
        }
    }
    if let Some(failure) = failure {
        bail!("{failure:#}. {REPAIR}");
    }
    if !unavailable.is_empty() {
        bail!("this system's apt sources do not have:\n{}", missing::list(&unavailable).trim_end());
    }
    Ok(())
}

/// Returns what installs these packages, as root would type it.
pub(super) fn to_type(missing: &Missing) -> String {
    let configure = if missing.unfinished { "dpkg --configure -a; " } else { "" };
    let names = missing.names();
    let install = if names.is_empty() {
        String::new()
    } else {
        format!(" && apt-get install --no-install-recommends {}", names.join(" "))
    };
    format!("{configure}apt-get update{install}")
}

/// Runs a command as root; its errors are shown, its progress is not.
fn run(privilege: Privilege, words: &[&str]) -> anyhow::Result<()> {
    let mut command = match privilege {
        Privilege::Root => Command::new("env"),
        Privilege::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.arg("env");
            sudo
        }
        Privilege::None => bail!("{} needs root", words.join(" ")),
    };
    command.arg("DEBIAN_FRONTEND=noninteractive").args(words).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{}: {status}", words.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use pxe_lab::packages::PACKAGES;

    use super::*;

    #[test]
    fn command_to_type_repairs_updates_and_installs() {
        let mut missing = Missing::of(&PACKAGES[..2], "");
        assert_eq!(to_type(&missing), "apt-get update && apt-get install --no-install-recommends iproute2 ethtool");
        missing.unfinished = true;
        missing.packages.clear();
        assert_eq!(to_type(&missing), "dpkg --configure -a; apt-get update");
    }
}
