//! `cargo xtask bench`: pxed beside its peers, on the same machine, in the same minute.

use std::process::ExitCode;

use crate::privilege::become_root;

mod load;
mod peers;
mod tftp;

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    tftp: tftp::Args,
}

/// Runs it.
///
/// # Errors
///
/// Without root, or when the network cannot be made.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    become_root("the network is made of namespaces")?;
    tftp::run(&args.tftp)?;
    Ok(ExitCode::SUCCESS)
}
