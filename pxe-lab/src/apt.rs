//! apt with sources, lists and a package database of its own, so that the host's are not touched.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::namespace::output;

/// A Debian release, as a private apt configuration sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    /// The code name.
    pub(crate) name: &'static str,
    /// The architectures, the host's first.
    pub(crate) architectures: &'static [&'static str],
    /// Source packages are wanted, too.
    pub(crate) sources: bool,
}

/// A private apt configuration.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// Makes the configuration in this directory, where it also keeps its lists, and fetches the lists unless they are there.
    ///
    /// # Errors
    ///
    /// Fails if the archive cannot be reached.
    pub(crate) fn new(root: &Path, release: Release) -> anyhow::Result<Self> {
        for directory in ["sources", "lists/partial", "archives/partial"] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::write(root.join("status"), "")?;
        fs::write(root.join("sources/lab.sources"), sources(release)?)?;
        let configuration = root.join("apt.conf");
        let architectures: String = release.architectures.iter().map(|name| format!("\"{name}\"; ")).collect();
        let first = release.architectures.first().context("a release without an architecture")?;
        let directory = root.display();
        // An archive that does not answer must not delay the tests by minutes.
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{directory}/sources\";\nDir::State \"{directory}\";\n\
                 Dir::State::lists \"{directory}/lists\";\nDir::State::status \"{directory}/status\";\nDir::Cache \"{directory}\";\n\
                 Dir::Cache::archives \"{directory}/archives\";\nAPT::Architecture \"{first}\";\n\
                 APT::Architectures {{ {architectures}}};\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"20\";\n"
            ),
        )?;
        let apt = Self { configuration };
        if !root.join("pkgcache.bin").exists() {
            apt.update()?;
        }
        Ok(apt)
    }

    /// Fetches a binary package and unpacks it to this path, which must not exist.
    ///
    /// # Errors
    ///
    /// Fails with the output of apt or dpkg.
    pub(crate) fn unpack(&self, package: &str, architecture: &str, destination: &Path) -> anyhow::Result<()> {
        let parent = destination.parent().context("no parent directory")?;
        let scratch = TempDir::new_in(parent)?;
        self.with_new_lists(|| self.download(package, architecture, scratch.path()))?;
        let archive = fs::read_dir(scratch.path())?.next().context("nothing was downloaded")??.path();
        let unpacked = scratch.path().join("unpacked");
        output(Command::new("dpkg").arg("-x").args([&archive, &unpacked]))?;
        fs::rename(unpacked, destination).context("cannot move the unpacked package into the cache")
    }

    /// Fetches the upstream archive of a source package into this directory, and returns its path.
    ///
    /// # Errors
    ///
    /// Fails with the output of apt.
    pub(crate) fn upstream_source(&self, package: &str, directory: &Path) -> anyhow::Result<PathBuf> {
        self.with_new_lists(|| {
            let mut command = self.command("apt-get");
            command.args(["--quiet", "--download-only", "source", package]).current_dir(directory);
            output(&mut command).map(drop)
        })?;
        let names = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
        let mut archives = names.filter(|path| path.to_string_lossy().contains(".orig.tar."));
        archives.next().with_context(|| format!("the source package {package} has no upstream archive"))
    }

    /// Runs the download, and again with new lists if it fails: they may be outdated and name packages that are gone.
    fn with_new_lists(&self, download: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        if download().is_ok() {
            return Ok(());
        }
        self.update()?;
        download()
    }

    fn update(&self) -> anyhow::Result<()> {
        output(self.command("apt-get").args(["--quiet", "update"])).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }

    fn download(&self, package: &str, architecture: &str, directory: &Path) -> anyhow::Result<()> {
        let wanted = format!("{}:{architecture}", self.newest(package, architecture)?);
        output(self.command("apt-get").args(["--quiet", "download", &wanted]).current_dir(directory))?;
        ensure!(fs::read_dir(directory)?.next().is_some(), "nothing was downloaded");
        Ok(())
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

/// Returns a sources file for the release, on the mirror that this system's Debian uses.
fn sources(release: Release) -> anyhow::Result<String> {
    let format = "$(SITE) $(ORIGIN) $(LABEL)";
    let text = output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let sites: BTreeSet<_> = text.lines().filter_map(|line| line.strip_suffix(" Debian Debian")).collect();
    let Some(site) = sites.first() else {
        bail!("this system's apt knows no Debian archive (apt-get update?)");
    };
    let types = if release.sources { "deb deb-src" } else { "deb" };
    Ok(format!(
        "Types: {types}\nURIs: {site}\nSuites: {}\nComponents: main\nArchitectures: {}\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        release.name,
        release.architectures.join(" ")
    ))
}
