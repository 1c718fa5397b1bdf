//! Where the workspace, its target directory and the `pxed` binary are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{anyhow, bail};

/// Names a `pxed` binary to test instead of building one.
pub const BINARY: &str = "PXED_BINARY";

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The `pxed` binary: what [`BINARY`] names, else built now from the workspace, in the profile that
/// we ourselves were built in.
///
/// # Errors
///
/// When it cannot be built.
pub fn pxed() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| match env::var_os(BINARY) {
            Some(path) => Ok(PathBuf::from(path)),
            None => build(!cfg!(debug_assertions)).map_err(|error| format!("{error:#}")),
        })
        .clone()
        .map_err(|error| anyhow!(error))
}

/// Builds `pxed` and returns where it is.
///
/// # Errors
///
/// When it cannot be built.
pub fn build(release: bool) -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "pxe-userspace", "--bin", "pxed"]).current_dir(workspace());
    if release {
        command.arg("--release");
    }
    let status = command.status()?;
    if !status.success() {
        bail!("cannot build pxed: {command:?}: {status}");
    }
    Ok(target().join(if release { "release" } else { "debug" }).join("pxed"))
}
