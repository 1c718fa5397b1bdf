//! A load in numbers.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::{
    latency::{Histogram, Latencies},
    load::plan::{Load, Pace},
    report::{Step, seconds},
    summary::write_latency,
    tally::Traffic,
};

/// What is counted while the load runs.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) begun: u64,
    pub(super) not_begun: u64,
    pub(super) completed: u64,
    pub(super) lost_discovers: u64,
    pub(super) lost_requests: u64,
    pub(super) refused: u64,
    pub(super) strays: u64,
    /// When the last exchange was completed.
    pub(super) last: Duration,
    offers: Histogram,
    acknowledgements: Histogram,
    pub(super) traffic: Traffic,
}

impl Meter {
    pub(super) fn took(&mut self, step: Step, time: Duration) {
        match step {
            Step::Offer => self.offers.add(time),
            _ => self.acknowledgements.add(time),
        }
    }

    #[cfg(test)]
    pub(super) const fn lost(&self) -> u64 {
        self.lost_discovers + self.lost_requests
    }
}

/// What came of a load.
#[derive(Debug, Serialize)]
pub struct LoadSummary {
    /// How many machines took turns.
    pub machines: usize,
    /// The rate that was asked for, exchanges a second, of an open loop.
    pub wanted_per_second: Option<f64>,
    /// How many exchanges were under way at any time, in a closed loop.
    pub outstanding: Option<usize>,
    /// How long exchanges were begun.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Exchanges begun.
    pub begun: u64,
    /// Those that could not, because the machine whose turn it was had one under way.
    pub not_begun: u64,
    /// Ended by the right ACK.
    pub completed: u64,
    /// Not over a second after they were begun: no OFFER, and no ACK.
    pub lost_discovers: u64,
    /// See there.
    pub lost_requests: u64,
    /// Ended by an answer that does not fit: NAK, another address or server than offered.
    pub refused: u64,
    /// Answers to nothing that was under way: late or repeated ones.
    pub strays: u64,
    /// Completed in a second, over the time until the last one was.
    pub exchanges_per_second: f64,
    /// From the request to its answer.
    pub latencies: BTreeMap<Step, Latencies>,
    /// What passed.
    pub traffic: Traffic,
    /// What all chance follows from.
    pub seed: u64,
    /// What the simulator itself has computed, in user and in kernel mode.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub cpu: Duration,
}

impl LoadSummary {
    pub(super) fn of(load: &Load, meter: &Meter, duration: Duration, cpu: Duration) -> Self {
        let (wanted_per_second, outstanding) = match load.pace {
            Pace::PerSecond(rate) => (Some(rate), None),
            Pace::Outstanding(exchanges) => (None, Some(exchanges)),
        };
        let latencies = [(Step::Offer, &meter.offers), (Step::Acknowledgement, &meter.acknowledgements)];
        // Of a load that was ended early or lost its last, the rate is that of the whole.
        let over = meter.last.max(duration).as_secs_f64();
        Self {
            machines: load.machines.len(),
            wanted_per_second,
            outstanding,
            duration,
            begun: meter.begun,
            not_begun: meter.not_begun,
            completed: meter.completed,
            lost_discovers: meter.lost_discovers,
            lost_requests: meter.lost_requests,
            refused: meter.refused,
            strays: meter.strays,
            exchanges_per_second: if over > 0.0 { meter.completed as f64 / over } else { 0.0 },
            latencies: latencies.into_iter().filter_map(|(step, times)| Some((step, times.latencies()?))).collect(),
            traffic: meter.traffic,
            seed: load.seed,
            cpu,
        }
    }

    /// Exchanges that were begun and not completed.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_discovers + self.lost_requests + self.refused
    }

    /// Whether exchanges were made, and all of them completed.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.completed > 0 && self.lost() == 0
    }
}

impl fmt::Display for LoadSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machines, begun, completed, exchanges_per_second, .. } = self;
        let percent = self.lost() as f64 * 100.0 / (*begun).max(1) as f64;
        writeln!(
            f,
            "{exchanges_per_second:.0} exchanges/s: {completed} of {begun} completed, {percent:.2} % lost, by {machines} machines"
        )?;
        for (count, what) in [
            (self.lost_discovers, "DISCOVERs without an OFFER within a second"),
            (self.lost_requests, "REQUESTs without an ACK within it"),
            (self.refused, "answers that do not fit"),
            (self.not_begun, "exchanges not begun: their machines had one under way"),
            (self.strays, "answers to nothing that was under way"),
            (self.traffic.unsent_frames, "frames that had no room on the interface"),
        ] {
            if count > 0 {
                writeln!(f, "  {count} {what}")?;
            }
        }
        writeln!(f, "{:<16} {:>9} {:>9} {:>9} {:>9} {:>8}", "latency, ms", "p50", "p90", "p99", "max", "times")?;
        for (step, times) in &self.latencies {
            write_latency(f, step.name(), times)?;
        }
        let micros = self.cpu.as_secs_f64() * 1e6 / (*completed).max(1) as f64;
        writeln!(f, "simulator: {:.2} s of CPU, {micros:.2} µs an exchange, seed {}", self.cpu.as_secs_f64(), self.seed)
    }
}
