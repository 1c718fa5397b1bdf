//! The package as a file.

use std::{fs, process::Command};

use anyhow::ensure;
use pxe_lab::{
    build::{self, Profile},
    deb::Package,
    namespace::output,
    requires,
};
use tempfile::TempDir;

/// Lintian finds neither errors nor warnings, and two builds have the same bytes.
pub(crate) fn is_sound() -> anyhow::Result<()> {
    requires::tools(&["lintian", "dpkg-deb", "dpkg-shlibdeps", "dpkg-parsechangelog"])?;
    let pxed = build::choose(Profile::Debug)?;
    let directory = TempDir::new()?;
    let [one, other] = ["one.deb", "other.deb"].map(|name| directory.path().join(name));
    Package::of(&pxed.path).build(&one)?;
    Package::of(&pxed.path).build(&other)?;
    ensure!(fs::read(&one)? == fs::read(&other)?, "the bytes of two builds differ");
    output(Command::new("lintian").args(["--fail-on", "error,warning"]).arg(&one))?;

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
