//! The Python packages of the tests, which pip installs into a virtual environment of their own.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use pxe_lab::python::{self, REQUIREMENTS};

/// The words for the user who is asked.
pub(super) const WHY: &str = "Helm, which renders and checks the chart; axe-core, which checks the dashboard";

/// The interpreter that Debian's package python3-venv is for.
const PYTHON: &str = "/usr/bin/python3";

/// Returns `true` if the packages are installed in the versions of the list.
pub(super) fn is_here() -> bool {
    python::interpreter().is_ok()
}

/// Installs the packages, in place of other versions.
///
/// # Errors
///
/// Fails if the environment cannot be made or pip fails; their output says why.
pub(super) fn install() -> anyhow::Result<()> {
    let environment = python::environment();
    let mut venv = Command::new(PYTHON);
    // Without what an interrupted installation or another version of Python left.
    venv.args(["-m", "venv", "--clear"]).arg(&environment);
    let status = venv.status().with_context(|| format!("cannot start {venv:?} (package python3-venv)"))?;
    ensure!(status.success(), "{venv:?}: {status} (package python3-venv)");
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--requirement",
        "/dev/stdin",
    ]);
    let mut child = pip.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot start {pip:?}"))?;
    if let Some(mut list) = child.stdin.take() {
        list.write_all(REQUIREMENTS.as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{pip:?}: {status}");
    let installed = python::installed();
    fs::write(&installed, REQUIREMENTS).with_context(|| format!("writing {}", installed.display()))
}
