//! A short soak. `cargo xtask soak` runs longer ones.

use std::{env, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    chance,
    soak::{self, Plan},
};

/// The variable that names the seconds of the soak.
const SECONDS: &str = "PXED_SOAK_SECONDS";
/// The last storm takes some seconds more.
const USUAL: u64 = 180;

pub(crate) fn loses_nothing() -> anyhow::Result<()> {
    let seconds = env::var(SECONDS).map_or(Ok(USUAL), |text| text.parse()).context(SECONDS)?;
    let plan = Plan { duration: Duration::from_secs(seconds), machines: 200, seed: chance::seed() };
    println!("{}={}", chance::SEED, plan.seed);
    let report = soak::run(&plan, &mut |line| println!("{line}"))?;
    println!("{report}");
    ensure!(report.is_success(), "{report}");
    ensure!(report.restarts > 0, "pxed was never killed: {report}");
    Ok(())
}
