//! A short soak. `cargo xtask soak` runs longer ones.

use std::{
    env,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use pxe_lab::{
    chance,
    requires::Skip,
    soak::{self, Plan},
};

/// The variable that names the seconds of the soak.
const SECONDS: &str = "PXED_SOAK_SECONDS";
/// The last storm takes some seconds more.
const USUAL: u64 = 180;

/// The variable that makes a process of this program do nothing but the soak.
const ALONE: &str = "PXED_SOAK_ALONE";
/// The status with which it ends if this host lacks something.
const LACKS: u8 = 77;

/// Runs the soak in a process of its own: its attacker holds thousands of connections, and other tests need all descriptors of theirs.
pub(crate) fn loses_nothing() -> anyhow::Result<()> {
    let status = Command::new(env::current_exe()?).env(ALONE, "1").status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(LACKS) => {
            Err(Skip("the soak has printed what this host lacks".to_owned()).into())
        }
        _ => bail!("{status}; the soak has printed the reason"),
    }
}

/// Runs the soak if that is all that this process is for.
pub(crate) fn alone() -> Option<ExitCode> {
    env::var_os(ALONE)?;
    Some(match soak() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the soak: {error:#}");
            if error.is::<Skip>() { ExitCode::from(LACKS) } else { ExitCode::FAILURE }
        }
    })
}

fn soak() -> anyhow::Result<()> {
    let seconds = env::var(SECONDS).map_or(Ok(USUAL), |text| text.parse()).context(SECONDS)?;
    let plan = Plan { duration: Duration::from_secs(seconds), machines: 200, seed: chance::seed() };
    println!("{}={}", chance::SEED, plan.seed);
    let report = soak::run(&plan, &mut |line| println!("{line}"))?;
    println!("{report}");
    ensure!(report.is_success(), "{report}");
    ensure!(report.restarts > 0, "pxed was never killed: {report}");
    Ok(())
}
