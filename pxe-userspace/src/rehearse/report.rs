//! What became of the machines: values for the printed lines and the JSON, and the summary over a fleet.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, time::Duration};

use pxe_common::MacAddr;
use serde::{Serialize, Serializer};

use super::firmware::Firmware;

/// How far a boot has come. A machine may skip stages, and fetch several files in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The firmware asks for an address.
    Dhcp,
    /// The firmware fetches its loader.
    Loader,
    /// iPXE asks for an address.
    IpxeDhcp,
    /// iPXE fetches its scripts.
    Script,
    /// iPXE fetches the kernel.
    Kernel,
    /// iPXE fetches the initramfs.
    Initramfs,
    /// The operating system asks for an address.
    System,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dhcp => "dhcp",
            Self::Loader => "loader",
            Self::IpxeDhcp => "ipxe-dhcp",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::System => "system",
        })
    }
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The operating system runs and has its address.
    Booted,
    /// The machine was sent to its own disk.
    Disk,
    /// The boot broke off.
    Failed {
        /// Where.
        stage: Stage,
        /// Why, for a person.
        reason: String,
    },
}

/// One stage of one machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// Since the rehearsal began.
    #[serde(rename = "started_seconds", serialize_with = "seconds")]
    pub started: Duration,
    /// How long it took.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// What was fetched in it.
    pub bytes: u64,
}

/// What became of one machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// Its hardware address.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// Its class.
    pub firmware: Firmware,
    /// The address that it was given last.
    pub address: Option<Ipv4Addr>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From power-on to the end.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// Every stage that it entered, in order.
    pub stages: Vec<StageTime>,
    /// What the kernel was started with.
    pub kernel_arguments: Option<String>,
}

/// One printed step.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    /// Since the rehearsal began.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// Whose.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// Where in its boot.
    pub stage: Stage,
    /// Which way it went.
    pub direction: Direction,
    /// What was asked, answered or said.
    pub text: String,
}

/// Which way a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The machine asked.
    Asked,
    /// The server answered.
    Answered,
    /// The machine's console says so.
    Said,
}

/// Fit for a log: time, MAC, stage, an arrow, the text.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Asked => "→",
            Direction::Answered => "←",
            Direction::Said => "·",
        };
        write!(f, "{:9.3} {} {:<9} {arrow} {}", self.at.as_secs_f64(), self.mac, self.stage, self.text)
    }
}

/// Over all machines.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// How many were powered on.
    pub machines: usize,
    /// How many run their operating system.
    pub booted: usize,
    /// How many were sent to their disk.
    pub disk: usize,
    /// How many failed, by the stage that they failed in.
    pub failed: BTreeMap<Stage, usize>,
    /// Until the first machine was done, half of those that got there, 99 %, and all.
    pub done_after: Option<Quantiles>,
    /// How long each stage took, over the machines that left it behind.
    pub stages: BTreeMap<Stage, Quantiles>,
    /// What was fetched altogether.
    pub bytes: u64,
    /// From the first power-on to the end of the last machine.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// Of a set of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
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
    /// Of these durations, by the nearest rank; none of nothing.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let rank = |percent: usize| durations.get((durations.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { first: *durations.first()?, half: rank(50)?, p99: rank(99)?, all: *durations.last()? })
    }
}

impl Summary {
    /// Sums the reports up.
    #[must_use]
    pub fn of(reports: &[MachineReport]) -> Self {
        let end =
            |report: &MachineReport| report.stages.first().map_or(Duration::ZERO, |stage| stage.started) + report.took;
        let mut failed = BTreeMap::new();
        let mut stages: BTreeMap<Stage, Vec<Duration>> = BTreeMap::new();
        for report in reports {
            let failed_in = match report.outcome {
                Outcome::Failed { stage, .. } => Some(stage),
                Outcome::Booted | Outcome::Disk => None,
            };
            if let Some(stage) = failed_in {
                *failed.entry(stage).or_default() += 1;
            }
            for time in report.stages.iter().filter(|time| Some(time.stage) != failed_in) {
                stages.entry(time.stage).or_default().push(time.took);
            }
        }
        let count = |outcome: &Outcome| reports.iter().filter(|report| report.outcome == *outcome).count();
        let done = reports.iter().filter(|report| !matches!(report.outcome, Outcome::Failed { .. })).map(end).collect();
        Self {
            machines: reports.len(),
            booted: count(&Outcome::Booted),
            disk: count(&Outcome::Disk),
            failed,
            done_after: Quantiles::of(done),
            stages: stages.into_iter().filter_map(|(stage, times)| Some((stage, Quantiles::of(times)?))).collect(),
            bytes: reports.iter().flat_map(|report| &report.stages).map(|stage| stage.bytes).sum(),
            took: reports.iter().map(end).max().unwrap_or_default(),
        }
    }

    /// Whether no machine failed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: usize = self.failed.values().sum();
        write!(f, "{} machines: {} booted", self.machines, self.booted)?;
        if self.disk > 0 {
            write!(f, ", {} sent to their disk", self.disk)?;
        }
        write!(f, ", {failures} failed")?;
        for (stage, count) in &self.failed {
            write!(f, " ({count} in {stage})")?;
        }
        writeln!(f, "; {}, {:.1} s", Bytes(self.bytes), self.took.as_secs_f64())?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, times: &Quantiles| {
            let [first, half, p99, all] =
                [times.first, times.half, times.p99, times.all].map(|time| time.as_secs_f64());
            writeln!(f, "  {name:<10} {first:9.3} {half:9.3} {p99:9.3} {all:9.3}")
        };
        if self.done_after.is_some() || !self.stages.is_empty() {
            writeln!(f, "  {:<10} {:>9} {:>9} {:>9} {:>9}", "seconds", "first", "half", "99 %", "all")?;
        }
        for (stage, times) in &self.stages {
            row(f, &stage.to_string(), times)?;
        }
        if let Some(times) = &self.done_after {
            row(f, "done after", times)?;
        }
        Ok(())
    }
}

/// A number of bytes for people.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in units {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

fn text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let seconds = |range: std::ops::RangeInclusive<u64>| range.map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(Quantiles::of(vec![]), None);
        let hundred = Quantiles::of(seconds(1..=100)).unwrap();
        assert_eq!([hundred.first, hundred.half, hundred.p99, hundred.all].map(|d| d.as_secs()), [1, 50, 99, 100]);
        let one = Quantiles::of(seconds(7..=7)).unwrap();
        assert_eq!([one.first, one.half, one.p99, one.all].map(|d| d.as_secs()), [7; 4]);
    }
}
