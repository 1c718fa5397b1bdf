//! Firmware, kernels and loaders of two Debian releases: installed packages, and newer ones.
//!
//! The newer ones are fetched with a private apt configuration and unpacked into a cache below the
//! target directory, not installed on the system.

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

/// The edition of firmware and loaders.
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
    /// Returns `amd64` or `arm64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Returns the directory of fetched packages.
#[must_use]
pub fn cache() -> PathBuf {
    build::target().join("lab-cache")
}

/// Returns the path of a file of an installed Debian package.
///
/// # Errors
///
/// Fails with [`Skip`], which names the package, if the file is missing.
pub fn installed(package: &str, path: &str) -> Result<PathBuf, Skip> {
    let path = PathBuf::from(path);
    if path.is_file() { Ok(path) } else { Err(Skip(format!("{} is missing (package {package})", path.display()))) }
}

/// Returns the unpacked files of a package of the newer release, which the first call fetches.
///
/// # Errors
///
/// Fails with [`Skip`] if it cannot be fetched: no apt, no network.
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

/// Locks the cache, so that only one of all test programs fetches at a time.
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
        // An archive that does not answer must not delay the tests by minutes.
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
            // The lists may be outdated and name packages that are gone.
            self.update()?;
            self.download(package, architecture, scratch.path())?;
        }
        let archive = fs::read_dir(scratch.path())?.next().context("nothing was downloaded")??.path();
        let unpacked = scratch.path().join("unpacked");
        output(Command::new("dpkg").arg("-x").args([&archive, &unpacked]))?;
        fs::rename(unpacked, destination).context("cannot move the unpacked package into the cache")
    }

    fn download(&self, package: &str, architecture: &str, directory: &Path) -> anyhow::Result<()> {
        let wanted = format!("{}:{architecture}", self.newest(package, architecture)?);
        output(self.command("apt-get").args(["--quiet", "download", &wanted]).current_dir(directory)).map(drop)
    }

    /// Returns the name of the newest kernel package: it contains the version, and the package without one depends on it.
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

/// Returns a sources file for the newer release, on the mirror that this system's Debian uses.
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
