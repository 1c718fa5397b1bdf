//! The Debian package of pxed, built from any binary of it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::{
    build::{self, Profile},
    namespace::output,
};

/// The program that builds the package.
pub const CARGO_DEB: &str = "cargo-deb";

/// A package to build.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// The binary, of whatever profile. Manual pages and completions are those that it generates, so it has to run on this machine unless
    /// `generator` does.
    pub binary: &'a Path,
    /// A binary of the same source that runs on this machine, if the first one does not.
    pub generator: Option<&'a Path>,
    /// The target triple, if it is not that of this machine.
    pub target: Option<&'a str>,
    /// The version, if it is not that of the changelog.
    pub version: Option<&'a str>,
    /// The time of everything in it, in seconds since 1970; by default, that of the changelog. The same input gives the same bytes.
    pub time: Option<u64>,
}

impl<'a> Package<'a> {
    /// Returns a package of this binary, with the version and the time of the changelog.
    #[must_use]
    pub fn of(binary: &'a Path) -> Self {
        Self { binary, generator: None, target: None, version: None, time: None }
    }

    /// Builds the package as this file, with cargo-deb.
    ///
    /// # Errors
    ///
    /// Fails if cargo-deb is not installed or fails, or if the binary cannot be run.
    pub fn build(&self, file: &Path) -> anyhow::Result<()> {
        let Self { binary, generator, target, version, time } = *self;
        // cargo-deb takes what it packs from a target directory, in which it looks for a release build.
        let directory = TempDir::new()?;
        let release = directory.path().join(target.unwrap_or_default()).join("release");
        fs::create_dir_all(&release)?;
        let copied = release.join("pxed");
        fs::copy(binary, &copied).with_context(|| format!("cannot copy {}", binary.display()))?;
        // Not the copy: a process that another thread is just starting may have it open for writing, and the kernel runs no such file.
        output(Command::new(generator.unwrap_or(binary)).arg("generate").arg(release.join("generated")))?;
        let generated = release.join("generated");
        let pages = fs::read_dir(generated.join("man"))?.map(|page| Ok(page?.path()));
        output(Command::new("gzip").args(["--best", "--no-name"]).args(pages.collect::<std::io::Result<Vec<_>>>()?))?;
        let (changelog_version, changelog_time) = changelog()?;
        let mut command = Command::new(find()?);
        command.args(["--no-build", "--locked", "--offline", "--quiet", "--package", "pxe-userspace"]);
        command.arg("--deb-version").arg(version.unwrap_or(&changelog_version)).arg("--output").arg(file);
        if let Some(target) = target {
            command.args(["--target", target]);
        }
        // The binary's symbols are those that its profile leaves, as in the image. A debug build is for tests, and packed fast.
        let profile = Profile::of(generator.unwrap_or(&copied))?;
        command.args(if profile == Profile::Release { &["--no-strip"][..] } else { &["--strip", "--fast"] });
        command.current_dir(build::workspace()).env("CARGO_TARGET_DIR", directory.path());
        command.env("SOURCE_DATE_EPOCH", time.unwrap_or(changelog_time).to_string());
        output(&mut command).map(drop)
    }
}

/// Returns the path of cargo-deb: in PATH, or in cargo's bin directory, which may not be in PATH.
///
/// # Errors
///
/// Fails if it is not installed.
fn find() -> anyhow::Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let in_path = env::var_os("PATH").unwrap_or_default();
    let mut directories = env::split_paths(&in_path).chain(home.map(|home| home.join("bin")));
    let found = directories.find_map(|directory| Some(directory.join(CARGO_DEB)).filter(|program| program.is_file()));
    found
        .ok_or_else(|| crate::requires::Skip(format!("not installed: {CARGO_DEB}; cargo xtask install does it")).into())
}

/// Returns the version and the time of the newest entry of the changelog.
fn changelog() -> anyhow::Result<(String, u64)> {
    let path = build::workspace().join("deploy/debian/changelog");
    let field = |name: &str| {
        let mut command = Command::new("dpkg-parsechangelog");
        let text = output(command.arg("--file").arg(&path).args(["--show-field", name]))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let (version, time) = (field("Version")?, field("Timestamp")?);
    let own = env!("CARGO_PKG_VERSION");
    ensure!(
        version.split('-').next() == Some(own),
        "{}: the newest entry is of {version}, the workspace of {own}: add an entry",
        path.display()
    );
    Ok((version, time.parse().context("the time of the changelog")?))
}
