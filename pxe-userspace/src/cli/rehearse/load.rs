//! `pxed rehearse --exchanges-per-second` and `--outstanding`.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::ensure;
use pxe_common::MacAddr;
use pxe_rehearse::{Firmware, Load, Pace, load};

use super::{json::print_json, values::seconds};

/// A sustained load of DHCP exchanges in place of boots.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Instead of booting, the machines take turns with DHCP exchanges from DISCOVER to ACK. This many begin each second,
    /// whether or not they succeed. An answer after more than a second counts as lost, and nothing is retransmitted. Against
    /// pxed, consider its --machine-rate
    #[arg(long, value_name = "RATE", conflicts_with_all = LEFT_OUT)]
    exchanges_per_second: Option<f64>,
    /// The same, but with this many exchanges in progress at any time, as fast as possible
    #[arg(long, value_name = "EXCHANGES", conflicts_with = "exchanges_per_second", conflicts_with_all = LEFT_OUT)]
    outstanding: Option<usize>,
    /// Time during which exchanges begin
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
}

/// The options of boots, which a load does not have.
const LEFT_OUT: [&str; 7] = ["arrival", "over_seconds", "until", "drop", "duplicate", "reorder", "progress"];

impl LoadArgs {
    /// Returns the load that the arguments ask for, if any.
    pub(super) fn of(
        &self,
        interface: &str,
        machines: &[(MacAddr, Firmware)],
        seed: u64,
    ) -> anyhow::Result<Option<Load>> {
        let pace = match (self.exchanges_per_second, self.outstanding) {
            (Some(rate), _) => {
                ensure!(rate.is_finite() && rate > 0.0, "--exchanges-per-second {rate} is not a rate");
                Pace::PerSecond(rate)
            }
            (_, Some(exchanges)) => {
                let most = machines.len();
                ensure!(exchanges > 0, "no exchange is under way: --outstanding 0");
                ensure!(exchanges <= most, "--outstanding {exchanges}: {most} machines have one exchange each");
                Pace::Outstanding(exchanges)
            }
            _ => return Ok(None),
        };
        let duration = Duration::from_secs_f64(self.seconds);
        Ok(Some(Load { interface: interface.to_owned(), machines: machines.to_vec(), pace, duration, seed }))
    }
}

/// Runs the load. Returns success if every exchange was completed.
pub(super) fn run(asked: &Load, json: bool) -> anyhow::Result<ExitCode> {
    let summary = load(asked)?;
    let mut out = std::io::stdout();
    if json {
        print_json(&mut out, "load", &summary)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
