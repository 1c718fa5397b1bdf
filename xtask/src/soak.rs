//! `cargo xtask soak`: fleets that boot while an attacker is at work and things go wrong.

use std::{process::ExitCode, time::Duration};

use anyhow::ensure;
use pxe_lab::{
    build::{self, Profile},
    chance, requires,
    soak::{self, Plan},
};

use crate::privilege::become_root;

/// The options of `cargo xtask soak`.
///
/// The binary is the one that PXED_BINARY names, or a new release build.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes in which machines boot. The machines that are left then get as long as they need
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Number of machines
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(2..=50_000))]
    machines: u16,
    /// Seed of what happens by chance [default: a new one each time]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs a soak and prints its report.
///
/// # Errors
///
/// Fails if the lab cannot be made, or pxed ends. Fails by its exit code if a machine was lost, or memory grew without bound.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { minutes, machines, seed } = *args;
    ensure!(minutes > 0.0 && minutes < 100_000.0, "--minutes {minutes}: must be more than 0");
    requires::tools(&["ip", "ethtool", "mount"])?;
    let binary = build::choose(Profile::Release)?;
    eprintln!("xtask: {binary}");
    become_root("the lab is made of network namespaces, and pxed attaches an XDP program in it", &binary)?;
    let seed = seed.unwrap_or_else(chance::seed);
    let plan = Plan { duration: Duration::from_secs_f64(minutes * 60.0), machines, seed };
    println!("to repeat it: cargo xtask soak --minutes {minutes} --machines {machines} --seed {seed}");
    let report = soak::run(&plan, &mut |line| println!("{line}"))?;
    println!("\n{report}");
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
