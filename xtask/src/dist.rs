//! `cargo xtask dist`: everything that is distributed, in one directory.

mod archive;
mod certificates;
mod check;
mod checksum;
mod files;
mod image;
mod program;
mod release;
mod sbom;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Result;
use pxe_lab::build;

use self::{
    files::{Build, Part},
    release::Release,
};

/// The arguments of `cargo xtask dist`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Cargo's profile. With `dev` the program is the one of the tests, which is built in seconds, and neither small nor reproducible
    #[arg(long, default_value = "release")]
    profile: String,
    /// The target to build for. Another architecture needs Rust's library for it, and Debian's cross compiler
    #[arg(long, default_value_t = format!("{}-unknown-linux-gnu", env::consts::ARCH))]
    target: String,
    /// The directory for the files
    #[arg(long, default_value_os_t = build::target().join("dist"))]
    output: PathBuf,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Image, Part::Deb, Part::Archive, Part::Sbom])]
    only: Vec<Part>,
    /// Build the last commit a second time, in a copy at another path, and fail unless every file is the same
    #[arg(long, conflicts_with = "target")]
    check: bool,
}

/// Builds everything.
///
/// # Errors
///
/// Fails if a part cannot be built, or if a second build differs.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { profile, target, output, only, check } = args;
    let release = Release::read(build::workspace(), &target)?;
    if check {
        check::check(&release, &profile, &only, &output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (workspace, target_directory) = (build::workspace(), &build::target());
    let files = Build { workspace, target_directory, release: &release, profile: &profile, parts: &only }.files()?;
    files::write(&files, &output)?;
    Ok(ExitCode::SUCCESS)
}
