//! Debian packages that are unpacked instead of installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use pxe_lab::{Namespace, assets, namespace::output, requires};

/// The file beside the unpacked ones that lists the packages' file names, one per line; they contain the versions.
pub(super) const CONTENTS: &str = "packages.txt";

/// The unpacked files of some packages and of their dependencies that are not installed.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    /// Unpacks these packages; the first time, apt downloads them.
    ///
    /// # Errors
    ///
    /// Fails if apt does not know one of the packages, or cannot download it.
    pub(crate) fn of(packages: &[&str]) -> anyhow::Result<Self> {
        requires::tools(&["apt-get", "dpkg"])?;
        let parent = assets::cache().join("peers");
        let root = parent.join(packages.join("+"));
        if !root.join(CONTENTS).exists() {
            fs::create_dir_all(&parent)?;
            let scratch = tempfile::TempDir::new_in(&parent)?;
            let unpacked = scratch.path().join("root");
            fs::create_dir(&unpacked)?;
            eprintln!("xtask: fetching {}", packages.join(", "));
            download(packages, scratch.path())
                .with_context(|| format!("cannot fetch {} (apt-get update?)", packages.join(", ")))?;
            let mut names = String::new();
            for file in fs::read_dir(scratch.path())? {
                let file = file?;
                if let Some(name) = file.file_name().to_str().filter(|name| name.ends_with(".deb")) {
                    output(Command::new("dpkg").arg("-x").args([&file.path(), &unpacked]))?;
                    names += &format!("{name}\n");
                }
            }
            fs::write(unpacked.join(CONTENTS), names)?;
            if root.exists() {
                fs::remove_dir_all(&root)?;
            }
            fs::rename(unpacked, &root)?;
        }
        Ok(Self { root })
    }

    /// Returns a command that runs an unpacked or installed program in a namespace.
    ///
    /// # Errors
    ///
    /// Fails if there is no such program.
    pub(crate) fn command(&self, namespace: &Namespace, program: &str) -> anyhow::Result<Command> {
        let path = self.program(program)?;
        let mut command = namespace.command(path);
        command.env("LD_LIBRARY_PATH", self.libraries());
        Ok(command)
    }

    /// Returns the path of a program.
    ///
    /// # Errors
    ///
    /// Fails if the program is neither among the packages' files nor installed.
    pub(crate) fn program(&self, program: &str) -> anyhow::Result<PathBuf> {
        let candidates =
            ["usr/sbin", "usr/bin", "sbin", "bin"].map(|directory| self.root.join(directory).join(program));
        let found = candidates.into_iter().find(|path| path.is_file()).or_else(|| requires::find(program));
        found.with_context(|| format!("{} has no {program}, nor is it installed", self.root.display()))
    }

    /// Returns the directories of the shared libraries, for `LD_LIBRARY_PATH`.
    fn libraries(&self) -> String {
        let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
        let directories = ["usr/lib", "lib"].map(|directory| self.root.join(directory).join(&architecture));
        directories.map(|directory| directory.display().to_string()).join(":")
    }
}

/// Downloads the packages and everything that apt would install with them.
fn download(packages: &[&str], directory: &Path) -> anyhow::Result<()> {
    let mut simulate = Command::new("apt-get");
    simulate.env("LC_ALL", "C").args(["--simulate", "--no-install-recommends", "install"]).args(packages);
    let mut wanted: BTreeSet<_> = output(&mut simulate)?.lines().filter_map(installed_by).collect();
    // An installed package is unpacked too: the installed program may be a newer or changed one.
    wanted.extend(packages.iter().map(|package| (*package).to_owned()));
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "download"]).args(&wanted).current_dir(directory);
    output(&mut command)?;
    ensure!(fs::read_dir(directory)?.count() > 1, "nothing was downloaded");
    Ok(())
}

/// Returns the name in `Inst NAME (VERSION …)`, a line of a simulated installation.
fn installed_by(line: &str) -> Option<String> {
    line.strip_prefix("Inst ")?.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_package_is_read() {
        assert_eq!(installed_by("Inst kea-common (2.2.0-6 Debian:12 [amd64])"), Some("kea-common".to_owned()));
        assert_eq!(installed_by("Conf kea-common (2.2.0-6 Debian:12 [amd64])"), None);
    }
}
