//! The container image that `cargo xtask dist` makes, of the program that the tests use.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, anyhow};

use crate::{build, namespace::output};

/// The directory of this process's build, once there is one.
static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Builds the image, once in each process, and returns its archive.
///
/// # Errors
///
/// Fails if it cannot be built.
pub fn image() -> anyhow::Result<PathBuf> {
    let directory = BUILT.get_or_init(|| dist().map_err(|error| format!("{error:#}"))).clone();
    let directory = directory.map_err(|error| anyhow!(error))?;
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.to_string_lossy().ends_with(".image.tar"))
        .with_context(|| format!("no image in {}", directory.display()))
}

fn dist() -> anyhow::Result<PathBuf> {
    let pxed = build::pxed()?.path;
    let directory = build::target().join("lab/dist");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    // Other test programs may be building the same.
    let lock = File::create(build::target().join("lab/dist.lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.context("cannot lock target/lab/dist")?;
    let mut xtask = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    xtask.current_dir(build::workspace()).env(build::BINARY, pxed);
    xtask
        .args(["run", "--quiet", "--package", "xtask", "--", "dist", "--profile", "dev", "--only", "image", "--output"])
        .arg(&directory);
    output(&mut xtask)?;
    Ok(directory)
}
