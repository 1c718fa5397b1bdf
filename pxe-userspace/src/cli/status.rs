//! `pxed status`, `watch`, `explain`, `hold`, `release`: clients of the admin listener.

use std::process::ExitCode;

/// What `pxed status` takes.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {}

/// What `pxed watch` takes.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {}

/// What the subcommands about one machine take.
#[derive(Debug, clap::Args)]
pub struct MachineArgs {}

/// Shows the fleet by stage.
///
/// # Errors
///
/// When the admin listener cannot be reached.
pub fn status(_: StatusArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}

/// Follows events.
///
/// # Errors
///
/// When the admin listener cannot be reached.
pub fn watch(_: WatchArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}

/// Explains one machine.
///
/// # Errors
///
/// When the admin listener cannot be reached or does not know the machine.
pub fn explain(_: MachineArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}

/// Holds one machine.
///
/// # Errors
///
/// When the admin listener cannot be reached or does not know the machine.
pub fn hold(_: MachineArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}

/// Releases one machine.
///
/// # Errors
///
/// When the admin listener cannot be reached or does not know the machine.
pub fn release(_: MachineArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
