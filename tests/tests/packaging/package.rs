//! The package as a file.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    build::{self, Profile},
    deb::Package,
    namespace::output,
    requires,
};
use tempfile::TempDir;

/// Where groff describes its devices: without it, lintian takes every manual page for broken.
const GROFF: &str = "/usr/share/groff/current/font/devutf8/DESC";

/// Lintian finds neither errors nor warnings, and two builds have the same bytes.
pub(crate) fn is_sound() -> anyhow::Result<()> {
    requires::tools(&["lintian", "dpkg-deb", "dpkg-shlibdeps", "dpkg-parsechangelog"])?;
    let pxed = build::choose(Profile::Debug)?;
    let directory = TempDir::new()?;
    let [one, other] = ["one.deb", "other.deb"].map(|name| directory.path().join(name));
    Package::of(&pxed.path).build(&one)?;
    Package::of(&pxed.path).build(&other)?;
    ensure!(fs::read(&one)? == fs::read(&other)?, "the bytes of two builds differ");
    has_no_faults(&one)?;

    let conffiles = output(Command::new("dpkg-deb").args(["--info"]).arg(&one).arg("conffiles"))?;
    ensure!(conffiles.trim() == "/etc/pxed/pxed.toml", "{conffiles}");
    let files = output(Command::new("dpkg-deb").arg("--contents").arg(&one))?;
    for file in [
        "./usr/bin/pxed",
        "./lib/systemd/system/pxed.service",
        "./usr/share/man/man1/pxed.1.gz",
        "./usr/share/man/man1/pxed-run.1.gz",
        "./usr/share/bash-completion/completions/pxed",
        "./usr/share/zsh/vendor-completions/_pxed",
        "./usr/share/fish/vendor_completions.d/pxed.fish",
    ] {
        ensure!(files.lines().any(|line| line.ends_with(&format!(" {file}"))), "{file} is missing in {files}");
    }
    // What is everybody's to change must not be in it, or removing it would take a person's files away.
    ensure!(!files.contains("./var/"), "{files}");
    Ok(())
}

/// Lintian finds neither errors nor warnings, whatever the language of this machine is.
fn has_no_faults(package: &Path) -> anyhow::Result<()> {
    ensure!(
        Path::new(GROFF).exists(),
        "{GROFF} is missing, so that lintian cannot read manual pages: dpkg left it out at the installation of groff-base, as it is told to \
         in slim images of Debian. `cargo xtask install` installs it"
    );
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--info"]).arg(package).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let output = lintian.output().with_context(|| format!("cannot start {lintian:?}"))?;
    let [said, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    ensure!(output.status.success(), "{lintian:?}: {}\n{said}\n{errors}", output.status);
    Ok(())
}
