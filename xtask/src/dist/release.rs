//! The facts about a release that everything distributed has in common.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

/// The variable that sets the time of everything that is made (reproducible-builds.org).
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) version: String,
    /// The commit that it is made of.
    pub(super) revision: String,
    /// The time of all files, in seconds since 1970.
    pub(super) time: u64,
    /// The target as rustc names it.
    pub(super) target: String,
}

impl Release {
    /// Reads the release from the workspace: its version, and its last commit with the commit's time, which [`EPOCH`] overrides.
    ///
    /// # Errors
    ///
    /// Fails without a git repository and [`EPOCH`].
    pub(super) fn read(workspace: &Path, target: &str) -> Result<Self> {
        let git = |arguments: &[&str]| -> Result<String> {
            let mut git = Command::new("git");
            git.arg("-C").arg(workspace).args(arguments);
            let output = git.output().with_context(|| format!("cannot start {git:?}"))?;
            ensure!(output.status.success(), "{git:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        let (time, revision) = match env::var(EPOCH) {
            Ok(epoch) => (epoch, git(&["rev-parse", "HEAD"]).unwrap_or_default()),
            Err(_) => (git(&["log", "-1", "--format=%ct"])?, git(&["rev-parse", "HEAD"])?),
        };
        let time = time.parse().with_context(|| format!("{EPOCH}: {time} is not a number of seconds"))?;
        Ok(Self { version: env!("CARGO_PKG_VERSION").to_owned(), revision, time, target: target.to_owned() })
    }

    /// Returns `true` if its programs do not run on this machine.
    pub(super) fn is_foreign(&self) -> bool {
        !self.target.starts_with(env::consts::ARCH)
    }

    /// Returns the architecture as Debian and container tools name it.
    pub(super) fn architecture(&self) -> &str {
        match self.target.split('-').next().unwrap_or_default() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    /// Returns the time in the form of RFC 3339.
    pub(super) fn timestamp(&self) -> String {
        let seconds = i64::try_from(self.time).unwrap_or_default();
        Timestamp::from_second(seconds).unwrap_or_default().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architecture_is_named_as_debian_does() {
        for (target, architecture) in [
            ("x86_64-unknown-linux-gnu", "amd64"),
            ("aarch64-unknown-linux-gnu", "arm64"),
            ("riscv64gc-x", "riscv64gc"),
        ] {
            let release =
                Release { version: String::new(), revision: String::new(), time: 0, target: target.to_owned() };
            assert_eq!((release.architecture(), &*release.timestamp()), (architecture, "1970-01-01T00:00:00Z"));
        }
    }
}
