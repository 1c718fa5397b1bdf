//! Fleets of simulated machines (`pxed rehearse`) that begin again until each has booted, as firmware does that goes through its boot order
//! for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{Namespace, Process, build, cluster::Machine, topology::INTERFACE};

/// Returns machines of a fleet of up to 60,000: `02:70:78:00:HH:LL` at `10.99.(16 + HH).LL`, in a network of 16 bits.
#[must_use]
pub fn machines(count: u16) -> Vec<Machine> {
    let macs = (1_u16..).filter(|number| !matches!(number & 0xff, 0 | 0xff));
    macs.take(count.into())
        .map(|number| Machine {
            mac: format!("02:70:78:00:{:02x}:{:02x}", number >> 8, number & 0xff),
            address: format!("10.99.{}.{}", 16 + (number >> 8), number & 0xff),
            ..Machine::number(1)
        })
        .collect()
}

/// The way in which a machine was powered on last, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// `booted`, `disk` or `failed`.
    pub outcome: String,
    /// The stage and the reason of a failure.
    pub why: String,
    /// The time from power-on to the end.
    pub took: Duration,
    /// The time at which it asked for its kernel, and the time at which it had its initramfs.
    pub loaded: Option<[Instant; 2]>,
}

/// A machine that had all of its files within this time before pxed was killed may boot once more: pxed may not have known of it yet.
const UNKNOWN: Duration = Duration::from_millis(250);

impl Done {
    /// Returns `true` if the machine was sent to its disk. UEFI then gets no name of a loader, and asks for one without a name.
    #[must_use]
    pub fn is_at_disk(&self) -> bool {
        self.outcome == "disk" || self.why.starts_with("loader: the server says: no such file")
    }

    /// Returns `true` if pxed was killed so soon after the machine had its files that it may not have known of it.
    #[must_use]
    pub fn is_just_before(&self, kills: &[Instant]) -> bool {
        let Some([from, to]) = self.loaded else { return false };
        kills.iter().any(|kill| *kill + UNKNOWN > from && to + UNKNOWN > *kill)
    }
}

/// A running rehearsal.
#[derive(Debug)]
pub struct Storm {
    process: Process,
    begun: Instant,
    machines: usize,
}

impl Storm {
    /// Powers these machines on, on this client's interface.
    ///
    /// # Errors
    ///
    /// Fails if the rehearsal cannot be started.
    pub fn begin<'m>(
        client: &Namespace,
        macs: impl Iterator<Item = &'m str>,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let macs: Vec<_> = macs.collect();
        let mut command = client.command(build::pxed()?.path);
        command.args(["rehearse", "--json", "--interface", INTERFACE, "--progress", "done", "--mac", &macs.join(",")]);
        let process = Process::spawn("rehearse", command.args(arguments))?;
        Ok(Self { process, begun: Instant::now(), machines: macs.len() })
    }

    /// Returns `true` while machines boot.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot tell.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        self.process.is_running()
    }

    /// Waits until every machine is done, and returns each with what became of it.
    ///
    /// # Errors
    ///
    /// Fails if the time is up, or if a machine is missing in the report.
    pub fn finish(mut self, within: Duration) -> anyhow::Result<BTreeMap<String, Done>> {
        self.process.wait(within)?;
        let output = self.process.output();
        let mut all = BTreeMap::new();
        for line in output.lines().filter(|line| line.starts_with("{\"done\"")) {
            let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let (mac, done) = self.read(&value["done"]).with_context(|| line.to_owned())?;
            all.insert(mac, done);
        }
        ensure!(
            all.len() == self.machines,
            "{} of {} machines: {}",
            all.len(),
            self.machines,
            self.process.last_lines()
        );
        Ok(all)
    }

    fn read(&self, done: &Value) -> Option<(String, Done)> {
        let text = |key: &str| done[key].as_str().unwrap_or_default();
        let seconds = |value: &Value| value.as_f64().map(Duration::from_secs_f64);
        let stages = done["stages"].as_array()?;
        let at = |name: &str, with: &[&str]| {
            let stage = stages.iter().rfind(|stage| stage["stage"] == name)?;
            with.iter().try_fold(self.begun, |at, key| Some(at + seconds(&stage[*key])?))
        };
        let loaded = at("kernel", &["started_seconds"]).zip(at("initramfs", &["started_seconds", "took_seconds"]));
        let done = Done {
            outcome: text("outcome").to_owned(),
            why: format!("{}: {}", text("stage"), text("reason")),
            took: seconds(&done["took_seconds"])?,
            loaded: loaded.map(|(from, to)| [from, to]),
        };
        Some((text("mac").to_owned(), done))
    }
}

/// Powers machines on until each has booted, and returns each with its last boot. `during` is called once for each round, while the
/// machines boot.
///
/// # Errors
///
/// Fails if one has not booted after this many rounds, if one was sent to its disk, and if `during` does.
pub fn boot_all(
    client: &Namespace,
    machines: &[Machine],
    arguments: &[&str],
    rounds: usize,
    mut during: impl FnMut(&mut Storm) -> anyhow::Result<()>,
) -> anyhow::Result<BTreeMap<String, Done>> {
    let mut pending: BTreeSet<&str> = machines.iter().map(|machine| machine.mac.as_str()).collect();
    let mut booted = BTreeMap::new();
    let mut last = BTreeMap::new();
    for round in 1..=rounds {
        let mut storm = Storm::begin(client, pending.iter().copied(), arguments)?;
        during(&mut storm)?;
        last = storm.finish(Duration::from_secs(300))?;
        for (mac, done) in &last {
            ensure!(!done.is_at_disk(), "{mac} was sent to its disk before it had booted: {done:?}");
            if done.outcome == "booted" {
                pending.remove(mac.as_str());
                booted.insert(mac.clone(), done.clone());
            }
        }
        println!("round {round}: {} of {} have booted", booted.len(), machines.len());
        if pending.is_empty() {
            return Ok(booted);
        }
    }
    let lost: Vec<_> = pending.iter().map(|mac| (mac, &last[*mac].why)).take(10).collect();
    anyhow::bail!("{} machines have not booted in {rounds} rounds: {lost:?}", pending.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_addresses_of_their_own() {
        let fleet = machines(10_000);
        let distinct = |of: fn(&Machine) -> &str| fleet.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!((distinct(|machine| &machine.mac), distinct(|machine| &machine.address)), (10_000, 10_000));
        assert_eq!(fleet[0].mac, "02:70:78:00:00:01", "as --machines counts");
    }
}
