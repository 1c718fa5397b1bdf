//! `cargo xtask lint`: static checks of the source and its dependencies.

use std::{
    env,
    ffi::OsStr,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use pxe_lab::{build, packages::Purpose};

use crate::install::{self, Consent, cargo_tool::CARGO_DENY};

/// The options of `cargo xtask lint`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Install cargo-deny without asking, if it is missing
    #[arg(long)]
    yes: bool,
}

/// The manifests with a lock file of their own.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "pxe-ebpf/Cargo.toml"];

/// Runs all checks, the quick ones first.
///
/// # Errors
///
/// Fails with the first failing check, which has printed the reason.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { yes } = args;
    install::prepare(&[Purpose::Lint], if yes { Consent::Yes } else { Consent::Ask });
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    check("format", &cargo, &["fmt", "--all", "--check"])?;
    let deny = CARGO_DENY.find().context("cargo-deny is not installed. To install it: cargo xtask install")?;
    for manifest in MANIFESTS {
        let arguments = ["--manifest-path", manifest, "--locked", "--config", "deny.toml"];
        let checks = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
        check(&format!("the dependencies in {manifest}"), deny.as_os_str(), &[&arguments[..], &checks].concat())?;
    }
    check("lints", &cargo, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    Ok(ExitCode::SUCCESS)
}

/// Runs one check in the workspace's root.
fn check(what: &str, program: &OsStr, arguments: &[&str]) -> Result<()> {
    eprintln!("xtask: checking {what}");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(build::workspace());
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{what}: {command:?}: {status}");
    Ok(())
}
