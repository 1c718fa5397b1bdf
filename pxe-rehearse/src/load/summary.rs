//! The numbers of a load.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::{
    latency::{Histogram, Latencies},
    load::plan::{Load, Pace},
    report::{Step, seconds},
    summary::write_latency,
    tally::Traffic,
};

/// The counters of a running load.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) begun: u64,
    pub(super) not_begun: u64,
    pub(super) completed: u64,
    pub(super) lost_discovers: u64,
    pub(super) lost_requests: u64,
    pub(super) refused: u64,
    pub(super) strays: u64,
    /// The time at which the last exchange was completed.
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

/// The result of a load.
#[derive(Debug, Serialize)]
pub struct LoadSummary {
    /// The number of machines that took turns.
    pub machines: usize,
    /// The requested rate of an open loop, in exchanges per second.
    pub wanted_per_second: Option<f64>,
    /// The number of exchanges that a closed loop kept under way.
    pub outstanding: Option<usize>,
    /// The time in which exchanges began.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Exchanges that began.
    pub begun: u64,
    /// Exchanges that could not begin, because the machine had one under way.
    pub not_begun: u64,
    /// Exchanges that ended with the right ACK.
    pub completed: u64,
    /// Exchanges without an OFFER a second after they began.
    pub lost_discovers: u64,
    /// Exchanges with an OFFER, but without an ACK, a second after they began.
    pub lost_requests: u64,
    /// Exchanges that ended with an answer that does not fit, such as a NAK, another address or another server.
    pub refused: u64,
    /// Answers to no exchange under way: late or repeated ones.
    pub strays: u64,
    /// The rate of completed exchanges per second, up to the last of them.
    pub exchanges_per_second: f64,
    /// The times from a request to its answer.
    pub latencies: BTreeMap<Step, Latencies>,
    /// The frames that passed.
    pub traffic: Traffic,
    /// The seed of the transaction identifiers.
    pub seed: u64,
    /// The CPU time of the simulator itself, in user and kernel mode.
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
        // If the load was ended early or lost its last exchanges, the rate is over the whole time.
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

    /// Returns the number of exchanges that began and were not completed.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_discovers + self.lost_requests + self.refused
    }

    /// Returns `true` if exchanges began and all of them were completed.
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
