//! The numbers of a rehearsal.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::{
    latency::Latencies,
    losses::Done,
    plan::Rehearsal,
    report::{Again, Bytes, MachineReport, Milestone, Outcome, Stage, Step, seconds},
    tally::{Tally, Traffic},
};

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Machines of the rehearsal.
    pub machines: usize,
    /// Machines that run their operating system.
    pub booted: usize,
    /// Machines that reached the milestone at which they were to end, unless that is the last one.
    pub reached: usize,
    /// Machines that were sent to their disk.
    pub disk: usize,
    /// Machines that failed, by the stage in which they failed.
    pub failed: BTreeMap<Stage, usize>,
    /// The reasons of failures, the most frequent ones first.
    pub reasons: Vec<Reason>,
    /// The times at which machines were done, counted from the start of the rehearsal. Failed machines are left out.
    pub done_after: Option<Quantiles>,
    /// The times at which machines reached each milestone, counted from the start of the rehearsal.
    pub milestones: BTreeMap<Milestone, Quantiles>,
    /// The times that each stage took, over the machines that left it.
    pub stages: BTreeMap<Stage, Quantiles>,
    /// The times that each step took, from the first request to its answer.
    pub latencies: BTreeMap<Step, Latencies>,
    /// Messages that were repeated.
    pub retransmissions: BTreeMap<Again, u64>,
    /// The bytes that were fetched.
    pub bytes: u64,
    /// The traffic, by protocol.
    pub traffic: Traffic,
    /// The deliberate faults of the simulated link, from the machines and to them.
    pub losses: [Done; 2],
    /// The seed of the rehearsal.
    pub seed: u64,
    /// The time from the start of the rehearsal to the end of the last machine.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// The CPU time of the simulator itself, in user and kernel mode.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub cpu: Duration,
}

/// A reason of failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stage in which the machines failed.
    pub stage: Stage,
    /// The reason, for people.
    pub reason: String,
    /// The number of machines.
    pub machines: usize,
}

/// The number of reasons that are listed. Others are only counted by stage.
const MAX_REASONS: usize = 20;

/// Quantiles of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// The number of durations.
    pub count: usize,
    /// The shortest.
    #[serde(rename = "first_seconds", serialize_with = "seconds")]
    pub first: Duration,
    /// The median.
    #[serde(rename = "half_seconds", serialize_with = "seconds")]
    pub half: Duration,
    /// The 99th percentile.
    #[serde(rename = "p99_seconds", serialize_with = "seconds")]
    pub p99: Duration,
    /// The longest.
    #[serde(rename = "all_seconds", serialize_with = "seconds")]
    pub all: Duration,
}

impl Quantiles {
    /// Returns the quantiles by the nearest-rank method, or `None` if there are no durations.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let rank = |percent: usize| durations.get((durations.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count: durations.len(),
            first: *durations.first()?,
            half: rank(50)?,
            p99: rank(99)?,
            all: *durations.last()?,
        })
    }
}

impl Summary {
    /// Sums up the results of the machines.
    pub(crate) fn of(
        rehearsal: &Rehearsal,
        reports: impl Iterator<Item = MachineReport>,
        mut tally: Tally,
        losses: [Done; 2],
    ) -> Self {
        let mut counts = BTreeMap::from([("booted", 0), ("reached", 0), ("disk", 0)]);
        let mut failed: BTreeMap<Stage, usize> = BTreeMap::new();
        let mut reasons: BTreeMap<(Stage, String), usize> = BTreeMap::new();
        let mut stages: BTreeMap<Stage, Vec<Duration>> = BTreeMap::new();
        let (mut done, mut bytes, mut took) = (Vec::new(), 0, Duration::ZERO);
        for report in reports {
            let began = report.stages.first().map_or(Duration::ZERO, |stage| stage.started);
            let end = began + report.took;
            took = took.max(end);
            let mut count = |what| *counts.entry(what).or_default() += 1;
            let failed_in = match report.outcome {
                Outcome::Failed { stage, ref reason } => {
                    *failed.entry(stage).or_default() += 1;
                    *reasons.entry((stage, without_names(reason, &report))).or_default() += 1;
                    Some(stage)
                }
                Outcome::Booted => {
                    count("booted");
                    None
                }
                Outcome::Reached => {
                    count("reached");
                    None
                }
                Outcome::Disk => {
                    count("disk");
                    None
                }
            };
            if failed_in.is_none() {
                done.push(end);
            }
            bytes += report.stages.iter().map(|stage| stage.bytes).sum::<u64>();
            for time in report.stages.iter().filter(|time| Some(time.stage) != failed_in) {
                stages.entry(time.stage).or_default().push(time.took);
            }
        }
        let reason = |((stage, reason), machines)| Reason { stage, reason, machines };
        let mut reasons: Vec<Reason> = reasons.into_iter().map(reason).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.machines));
        reasons.truncate(MAX_REASONS);
        let reached = tally.take_reached();
        Self {
            machines: rehearsal.machines.len(),
            booted: counts["booted"],
            reached: counts["reached"],
            disk: counts["disk"],
            failed,
            reasons,
            done_after: Quantiles::of(done),
            milestones: reached.filter_map(|(milestone, at)| Some((milestone, Quantiles::of(at)?))).collect(),
            stages: stages.into_iter().filter_map(|(stage, times)| Some((stage, Quantiles::of(times)?))).collect(),
            latencies: tally.latencies(),
            retransmissions: std::mem::take(&mut tally.again),
            bytes,
            traffic: tally.traffic,
            losses,
            seed: rehearsal.seed,
            took,
            cpu: tally.cpu(),
        }
    }

    /// Returns `true` if no machine failed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Returns a reason without the names of the machine, so that equal reasons can be counted.
fn without_names(reason: &str, report: &MachineReport) -> String {
    let mac = report.mac.to_string();
    let reason = reason.replace(&mac, "MAC").replace(&mac.replace(':', "-"), "MAC");
    report.address.map_or(reason.clone(), |address| reason.replace(&address.to_string(), "ADDRESS"))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: usize = self.failed.values().sum();
        write!(
            f,
            "{} {}: {} booted",
            self.machines,
            if self.machines == 1 { "machine" } else { "machines" },
            self.booted
        )?;
        if self.reached > 0 {
            write!(f, ", {} came as far as asked", self.reached)?;
        }
        if self.disk > 0 {
            write!(f, ", {} sent to their disk", self.disk)?;
        }
        write!(f, ", {failures} failed")?;
        for (stage, count) in &self.failed {
            write!(f, " ({count} in {stage})")?;
        }
        writeln!(f, "; {}, {:.1} s", Bytes(self.bytes), self.took.as_secs_f64())?;
        for Reason { stage, reason, machines } in &self.reasons {
            writeln!(f, "  {machines} failed in {stage}: {reason}")?;
        }
        self.write_times(f)?;
        self.write_latencies(f)?;
        self.write_traffic(f)
    }
}

impl Summary {
    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, times: &Quantiles| {
            let [first, half, p99, all] =
                [times.first, times.half, times.p99, times.all].map(|time| time.as_secs_f64());
            writeln!(f, "  {name:<14} {first:9.3} {half:9.3} {p99:9.3} {all:9.3} {:8}", times.count)
        };
        let head = |f: &mut fmt::Formatter<'_>, title: &str| {
            writeln!(f, "{title:<16} {:>9} {:>9} {:>9} {:>9} {:>8}", "first", "half", "99 %", "all", "machines")
        };
        if !self.stages.is_empty() {
            head(f, "stage took, s")?;
        }
        for (stage, times) in &self.stages {
            row(f, &stage.to_string(), times)?;
        }
        if self.done_after.is_some() || !self.milestones.is_empty() {
            head(f, "came so far, s")?;
        }
        for (milestone, times) in &self.milestones {
            row(f, &milestone.to_string(), times)?;
        }
        self.done_after.as_ref().map_or(Ok(()), |times| row(f, "done after", times))
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.latencies.is_empty() {
            writeln!(f, "{:<16} {:>9} {:>9} {:>9} {:>9} {:>8}", "latency, ms", "p50", "p90", "p99", "max", "times")?;
        }
        for (step, times) in &self.latencies {
            write_latency(f, step.name(), times)?;
        }
        Ok(())
    }

    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { dhcp, tftp, arp, http, unsent_frames } = &self.traffic;
        for (name, frames) in [("dhcp", dhcp), ("tftp", tftp), ("arp", arp)] {
            if frames.sent_frames > 0 {
                let (sent, received) = (Bytes(frames.sent_bytes), Bytes(frames.received_bytes));
                let (out, back) = (frames.sent_frames, frames.received_frames);
                writeln!(f, "{name}: {out} frames sent ({sent}), {back} received ({received})")?;
            }
        }
        if http.requests > 0 {
            let received = Bytes(http.received_bytes);
            writeln!(f, "http: {} requests over {} connections ({received})", http.requests, http.connections)?;
        }
        if *unsent_frames > 0 {
            writeln!(f, "{unsent_frames} frames had no room on the interface")?;
        }
        let list = |values: &BTreeMap<Again, u64>| {
            values.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect::<Vec<_>>().join(", ")
        };
        if !self.retransmissions.is_empty() {
            writeln!(f, "sent once more: {}", list(&self.retransmissions))?;
        }
        for (way, Done { dropped, duplicated, reordered }) in ["from", "to"].iter().zip(&self.losses) {
            if dropped + duplicated + reordered > 0 {
                writeln!(
                    f,
                    "{way} the machines: {dropped} lost, {duplicated} doubled, {reordered} overtaken on purpose"
                )?;
            }
        }
        writeln!(f, "simulator: {:.2} s of CPU, seed {}", self.cpu.as_secs_f64(), self.seed)
    }
}

/// Writes a row of a table, in milliseconds.
pub(crate) fn write_latency(f: &mut fmt::Formatter<'_>, name: &str, times: &Latencies) -> fmt::Result {
    let [p50, p90, p99, max] = [times.p50, times.p90, times.p99, times.max].map(|time| time.as_secs_f64() * 1e3);
    writeln!(f, "  {name:<14} {p50:9.3} {p90:9.3} {p99:9.3} {max:9.3} {:8}", times.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_the_nearest_rank() {
        let seconds = |range: std::ops::RangeInclusive<u64>| range.map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(Quantiles::of(vec![]), None);
        let hundred = Quantiles::of(seconds(1..=100)).unwrap();
        assert_eq!(hundred.count, 100);
        assert_eq!([hundred.first, hundred.half, hundred.p99, hundred.all].map(|d| d.as_secs()), [1, 50, 99, 100]);
        let one = Quantiles::of(seconds(7..=7)).unwrap();
        assert_eq!([one.first, one.half, one.p99, one.all].map(|d| d.as_secs()), [7; 4]);
    }

    #[test]
    fn reasons_of_several_machines_are_equal() {
        let report = |n: u8, address: Option<std::net::Ipv4Addr>| MachineReport {
            mac: pxe_common::MacAddr([2, 0, 0, 0, 0, n]),
            firmware: crate::Firmware::UefiX64,
            address,
            outcome: Outcome::Booted,
            took: Duration::ZERO,
            stages: Vec::new(),
            kernel_arguments: None,
        };
        let one = report(1, Some([10, 0, 0, 1].into()));
        assert_eq!(without_names("http://10.0.0.9/02-00-00-00-00-01.ipxe: 404", &one), "http://10.0.0.9/MAC.ipxe: 404");
        assert_eq!(without_names("10.0.0.1 was given to 02:00:00:00:00:01", &one), "ADDRESS was given to MAC");
        assert_eq!(without_names("no server answered", &report(2, None)), "no server answered");
    }
}
