//! Missing packages, read from the output of dpkg and apt.

use std::{fmt::Write as _, path::Path};

use pxe_lab::packages::Package;

/// The format that [`Missing::of`] reads.
pub(super) const FORMAT: &str = "${Package} ${db:Status-Status}\\n";

/// The packages that are not installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// In the order of the table.
    pub(super) packages: Vec<&'static Package>,
    /// An installation was interrupted: dpkg has to finish it before apt does anything.
    pub(super) unfinished: bool,
    /// A package is installed without a file that it should have: dpkg was told to leave it out, as in slim images of Debian.
    pub(super) incomplete: bool,
}

impl Missing {
    /// Compares the packages with the output of `dpkg-query --show` in [`FORMAT`], which has one line per architecture and none
    /// for packages that dpkg does not know. An installed package is missing nevertheless unless its files exist.
    pub(super) fn of(
        packages: impl IntoIterator<Item = &'static Package>,
        dpkg: &str,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        let mut missing = Self::default();
        for package in packages {
            let states =
                || dpkg.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name == package.name);
            if states().any(|(_, state)| state == "installed") {
                let mut files = package.has.iter().map(Path::new).filter(|path| path.is_absolute());
                if files.all(&exists) {
                    continue;
                }
                missing.incomplete = true;
            }
            // A removed package may have left its configuration.
            missing.unfinished |=
                states().any(|(_, state)| !matches!(state, "installed" | "not-installed" | "config-files"));
            missing.packages.push(package);
        }
        missing
    }

    /// Returns the packages' names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.packages.iter().map(|package| package.name).collect()
    }
}

/// Returns the packages that apt cannot install, from the output of `apt-cache policy`: apt does not know the package or has
/// no version of it.
pub(super) fn unavailable(packages: &[&'static Package], policy: &str) -> Vec<&'static Package> {
    let available = |package: &Package| {
        let heading = format!("{}:", package.name);
        let mut lines = policy.lines().skip_while(|line| *line != heading).skip(1);
        lines
            .by_ref()
            .take_while(|line| line.starts_with(' '))
            .find_map(|line| line.trim().strip_prefix("Candidate: "))
            .is_some_and(|candidate| candidate != "(none)")
    };
    packages.iter().filter(|package| !available(package)).copied().collect()
}

/// Returns one line for each package: its name and its use.
pub(super) fn list(packages: &[&'static Package]) -> String {
    let width = packages.iter().map(|package| package.name.len()).max().unwrap_or_default();
    packages.iter().fold(String::new(), |mut text, Package { name, why, .. }| {
        let _ = writeln!(text, "  {name:width$}  {why}");
        text
    })
}

#[cfg(test)]
mod tests {
    use pxe_lab::packages::PACKAGES;

    use super::*;

    fn packages(names: &[&str]) -> Vec<&'static Package> {
        let all = PACKAGES.iter().filter(|package| names.contains(&package.name)).collect::<Vec<_>>();
        assert_eq!(all.len(), names.len(), "{names:?}");
        all
    }

    #[test]
    fn package_is_missing_unless_dpkg_says_installed() {
        let asked = packages(&["curl", "ovmf", "ipxe", "seabios"]);
        // dpkg does not know ipxe; curl is installed for one of two architectures.
        let dpkg = "curl not-installed\ncurl installed\novmf config-files\nseabios not-installed\n";
        let missing = Missing::of(asked, dpkg, |_| true);
        assert_eq!(missing.names(), ["ovmf", "seabios", "ipxe"]);
        assert!(!missing.unfinished && !missing.incomplete);
    }

    #[test]
    fn installed_package_is_missing_without_its_files() {
        let dpkg = "curl installed\ngroff-base installed\novmf installed\n";
        let missing =
            Missing::of(packages(&["curl", "ovmf", "groff-base"]), dpkg, |path| !path.starts_with("/usr/share/groff"));
        assert_eq!(missing.names(), ["groff-base"]);
        assert!(missing.incomplete && !missing.unfinished);
    }

    #[test]
    fn package_is_missing_while_it_is_half_installed() {
        for state in ["half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"] {
            let dpkg = format!("curl installed\novmf {state}\n");
            let missing = Missing::of(packages(&["curl", "ovmf"]), &dpkg, |_| true);
            assert_eq!((missing.names(), missing.unfinished), (vec!["ovmf"], true), "{state}");
        }
    }

    #[test]
    fn package_without_a_candidate_is_unavailable() {
        let policy = "\
curl:
  Installed: (none)
  Candidate: 7.88.1-10
  Version table:
     7.88.1-10 500
ovmf:
  Installed: (none)
  Candidate: (none)
  Version table:
";
        let asked = packages(&["curl", "ovmf", "ipxe"]);
        assert_eq!(unavailable(&asked, policy), packages(&["ovmf", "ipxe"]));
    }

    #[test]
    fn list_says_what_each_package_is_for() {
        assert_eq!(
            list(&packages(&["curl", "ipxe-qemu"])),
            "  curl       HTTP and TFTP client\n  ipxe-qemu  ROMs of the guests' network cards\n"
        );
    }
}
