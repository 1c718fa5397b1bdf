//! `pxed run`.

use std::process::ExitCode;

/// What `pxed run` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
///
/// What went wrong, for a person.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {} = args;
    anyhow::bail!("not there yet")
}
