//! Firmware, kernels and loaders of two Debian releases: what is installed, and what is newer.
//!
//! The newer ones are fetched with a private apt configuration and unpacked into a cache below the
//! target directory; nothing of it is installed on the system.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::{build, namespace::output, requires, requires::Skip};

/// The Debian release whose packages are fetched.
const RELEASE: &str = "trixie";

/// Of firmware and loaders, the installed ones or the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// Debian 12 as installed: OVMF 2022.11, iPXE 1.0.0 of 2019.
    Installed,
    /// From Debian 13: OVMF 2025.02, iPXE 1.21.1.
    Newer,
}

/// A processor architecture, as Debian and Talos spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// `amd64` or `arm64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Where what is fetched is kept.
#[must_use]
pub fn cache() -> PathBuf {
    build::target().join("lab-cache")
}

/// A file of an installed Debian package.
///
/// # Errors
///
/// [`Skip`] names the package.
pub fn installed(package: &str, path: &str) -> Result<PathBuf, Skip> {
    let path = PathBuf::from(path);
    if path.is_file() { Ok(path) } else { Err(Skip(format!("{} is missing (package {package})", path.display()))) }
}

/// The unpacked files of a package of the newer release; fetched at the first call.
///
/// # Errors
///
/// [`Skip`] when it cannot be fetched: no apt, no network.
pub fn unpacked(package: &str, architecture: Architecture) -> anyhow::Result<PathBuf> {
    let architecture = architecture.name();
    let cache = cache();
    let done = cache.join(RELEASE).join(format!("{package}_{architecture}"));
    let _lock = lock(&cache)?;
    if !done.exists() {
        requires::tools(&["apt-get", "apt-cache", "dpkg"])?;
        let fetched = Apt::new(&cache)?.unpack(package, architecture, &done);
        fetched.map_err(|error| Skip(format!("cannot fetch {package}/{RELEASE}: {error:#}")))?;
    }
    Ok(done)
}

/// One at a time, of all test programs.
fn lock(cache: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(cache.join(RELEASE))?;
    let file = File::create(cache.join("lock"))?;
    file.lock()?;
    Ok(file)
}

/// apt with sources, lists and a package database of its own.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(cache: &Path) -> anyhow::Result<Self> {
        let root = cache.join("apt");
        for directory in ["sources", "lists/partial", "archives/partial"] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::write(root.join("status"), "")?;
        fs::write(root.join("sources/lab.sources"), sources()?)?;
        let configuration = root.join("apt.conf");
        let root = root.display();
        // An archive that does not answer must not hold up the tests for minutes.
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{root}/sources\";\nDir::State \"{root}\";\n\
                 Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\nDir::Cache \"{root}\";\n\
                 Dir::Cache::archives \"{root}/archives\";\nAPT::Architecture \"amd64\";\n\
                 APT::Architectures {{ \"amd64\"; \"arm64\"; }};\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"20\";\n"
            ),
        )?;
        let apt = Self { configuration };
        if !cache.join("apt/pkgcache.bin").exists() {
            apt.update()?;
        }
        Ok(apt)
    }

    fn update(&self) -> anyhow::Result<()> {
        output(self.command("apt-get").args(["--quiet", "update"])).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }

    fn unpack(&self, package: &str, architecture: &str, destination: &Path) -> anyhow::Result<()> {
        let parent = destination.parent().context("no parent directory")?;
        let scratch = TempDir::new_in(parent)?;
        if self.download(package, architecture, scratch.path()).is_err() {
            // The lists may be of last month, and what they name no longer there.
            self.update()?;
            self.download(package, architecture, scratch.path())?;
        }
        let archive = fs::read_dir(scratch.path())?.next().context("nothing was downloaded")??.path();
        let unpacked = scratch.path().join("unpacked");
        output(Command::new("dpkg").arg("-x").args([&archive, &unpacked]))?;
        fs::rename(unpacked, destination).context("cannot keep what was unpacked")
    }

    fn download(&self, package: &str, architecture: &str, directory: &Path) -> anyhow::Result<()> {
        let wanted = format!("{}:{architecture}", self.newest(package, architecture)?);
        output(self.command("apt-get").args(["--quiet", "download", &wanted]).current_dir(directory)).map(drop)
    }

    /// A kernel's name holds its version; the package without one depends on the newest.
    fn newest(&self, package: &str, architecture: &str) -> anyhow::Result<String> {
        if !package.starts_with("linux-image-") {
            return Ok(package.to_owned());
        }
        let text = output(self.command("apt-cache").args(["depends", &format!("{package}:{architecture}")]))?;
        let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let name = name.with_context(|| format!("{package} depends on nothing:\n{text}"))?;
        Ok(name.split(':').next().unwrap_or(name).to_owned())
    }
}

/// A sources file for the newer release, from the mirror that this system's own Debian comes from.
fn sources() -> anyhow::Result<String> {
    let format = "$(SITE) $(ORIGIN) $(LABEL)";
    let text = output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let sites: BTreeSet<_> = text.lines().filter_map(|line| line.strip_suffix(" Debian Debian")).collect();
    let Some(site) = sites.first() else {
        bail!("this system's apt knows no Debian archive (apt-get update?)");
    };
    Ok(format!(
        "Types: deb\nURIs: {site}\nSuites: {RELEASE}\nComponents: main\nArchitectures: amd64 arm64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ))
}
