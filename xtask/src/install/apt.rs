//! dpkg and apt: queries and installation.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use pxe_lab::{
    packages::{Package, Purpose},
    requires,
};

use super::{
    decision::Privilege,
    missing::{self, Missing},
};

/// Waits for dpkg's lock, as another installation may be running.
const PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// Slim images of Debian tell dpkg to leave out documentation, and groff's data with it. An installed package without it is installed again.
const WHOLE: [&str; 3] = ["--reinstall", "-o", "DPkg::Options::=--path-include=/usr/share/groff/*"];

/// The advice after a failure of apt.
const REPAIR: &str = "Its output above says why. Often one of these helps: dpkg --configure -a; apt-get --fix-broken install; \
                      the network and /etc/apt/sources.list. Then: cargo xtask install";

/// Returns `true` if this host has dpkg and apt.
pub(super) fn is_here() -> bool {
    ["dpkg-query", "apt-get"].iter().all(|program| requires::find(program).is_some())
}

/// Asks dpkg which of these packages are missing.
///
/// # Errors
///
/// Fails if dpkg-query cannot be started.
pub(super) fn missing(packages: &[&'static Package]) -> anyhow::Result<Missing> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", missing::FORMAT]).args(packages.iter().map(|package| package.name));
    // dpkg-query fails if it does not know one of them, but still prints the others.
    let output = query.output().with_context(|| format!("cannot start {query:?}"))?;
    Ok(Missing::of(packages.iter().copied(), &String::from_utf8_lossy(&output.stdout), Path::exists))
}

/// Returns `true` if apt has downloaded package lists. The tests fetch newer firmware from the lists' sources.
pub(super) fn has_lists() -> bool {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]);
    targets.output().is_ok_and(|output| !output.stdout.trim_ascii().is_empty())
}

/// Downloads the lists, installs the missing packages that are available, and reports the others.
///
/// # Errors
///
/// Fails if apt fails or does not know a package; the error says what to do.
pub(super) fn install(missing: &Missing, privilege: Privilege) -> anyhow::Result<()> {
    if missing.unfinished {
        eprintln!("xtask: finishing an interrupted installation");
        run(privilege, &["dpkg", "--configure", "-a"])?;
    }
    // Continue after a failure: the source that does not answer may not be the one that is needed.
    let updated = run(privilege, &["apt-get", "--quiet=2", "-o", PATIENCE, "update"]);
    let mut policy = Command::new("apt-cache");
    policy.arg("policy").args(missing.names()).env("LC_ALL", "C");
    let policy = policy.output().context("cannot start apt-cache")?;
    let unavailable = missing::unavailable(&missing.packages, &String::from_utf8_lossy(&policy.stdout));
    // In separate steps: a compiler that cannot be installed must not keep the tests from running.
    let mut failure = updated.err();
    for purpose in [Purpose::Tests, Purpose::Ebpf, Purpose::Lint, Purpose::Fuzz] {
        let wanted =
            missing.packages.iter().filter(|package| package.purpose == purpose && !unavailable.contains(package));
        let names: Vec<_> = wanted.map(|package| package.name).collect();
        if !names.is_empty() {
            eprintln!("xtask: installing {}", names.join(" "));
            let command = ["apt-get", "--quiet=2", "--yes", "-o", PATIENCE, "install", "--no-install-recommends"];
            failure = run(privilege, &[&command[..], &WHOLE, &names].concat()).err().or(failure);
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

/// Returns the command that installs these packages, as root would type it.
pub(super) fn to_type(missing: &Missing) -> String {
    let configure = if missing.unfinished { "dpkg --configure -a; " } else { "" };
    let names = missing.names();
    let install = if names.is_empty() {
        String::new()
    } else {
        let [reinstall, option, whole] = WHOLE;
        let again = if missing.incomplete { format!("{reinstall} {option} '{whole}' ") } else { String::new() };
        format!(" && apt-get install --no-install-recommends {again}{}", names.join(" "))
    };
    format!("{configure}apt-get update{install}")
}

/// Runs a command as root. Shows its errors, but not its progress.
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
        let mut missing = Missing::of(&PACKAGES[..2], "", |_| true);
        assert_eq!(to_type(&missing), "apt-get update && apt-get install --no-install-recommends iproute2 ethtool");
        missing.incomplete = true;
        let again = "--reinstall -o 'DPkg::Options::=--path-include=/usr/share/groff/*' iproute2";
        assert!(to_type(&missing).contains(again), "{}", to_type(&missing));
        missing.unfinished = true;
        missing.packages.clear();
        assert_eq!(to_type(&missing), "dpkg --configure -a; apt-get update");
    }
}
