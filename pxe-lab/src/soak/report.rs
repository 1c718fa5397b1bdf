//! The result of a soak.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::Growth;
use crate::bad_link::Carried;

/// The result. Displayed as lines for people.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The time that it took.
    pub took: Duration,
    /// The number of boots from the network.
    pub boots: usize,
    /// The number of machines that had to go to their disks and did.
    pub sent_to_disk: usize,
    /// The number of boots that failed and were begun again.
    pub begun_again: usize,
    /// The number of machines that booted twice under `once`, because pxed was killed in the moment in which they had their files.
    pub unknown: usize,
    /// The longest boot.
    pub slowest: Duration,
    /// The number of times that pxed was killed and started again.
    pub restarts: usize,
    /// The faults, by name.
    pub faults: BTreeMap<String, usize>,
    /// The frames and connections of the attackers, by name.
    pub attacks: BTreeMap<String, u64>,
    /// The frames of the fleet's cable.
    pub frames: Carried,
    /// Memory and descriptors.
    pub memory: Growth,
    /// The machines that never booted, with the reasons.
    pub lost: Vec<String>,
    /// The faults in the treatment of machines.
    pub wrong: Vec<String>,
}

impl Report {
    pub(super) fn booted(&mut self, took: Duration) {
        self.boots += 1;
        self.slowest = self.slowest.max(took);
    }

    /// Returns the figures so far in a line.
    #[must_use]
    pub(super) fn line(&self) -> String {
        let Self { boots, sent_to_disk, begun_again, restarts, .. } = self;
        format!("{boots} boots, {sent_to_disk} sent to their disks, {begun_again} begun again, {restarts} restarts")
    }

    /// Returns `true` if no machine was lost, none was treated wrongly, and memory did not grow without bound.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.lost.is_empty() && self.wrong.is_empty() && !self.memory.is_unbounded() && self.boots > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most machines that are named.
        const NAMED: usize = 10;
        let [first, last] = self.memory.thirds_kib();
        writeln!(f, "seed               {}", self.seed)?;
        writeln!(f, "took               {} s", self.took.as_secs())?;
        writeln!(f, "machines           {}", self.line())?;
        writeln!(f, "lost               {}", self.lost.len())?;
        writeln!(f, "treated wrongly    {}", self.wrong.len())?;
        writeln!(f, "unknown at a kill  {}", self.unknown)?;
        writeln!(f, "slowest boot       {:.1} s", self.slowest.as_secs_f64())?;
        writeln!(
            f,
            "memory             {} MiB at most; left alone {} MiB at first, {} MiB at last",
            self.memory.most_kib >> 10,
            first >> 10,
            last >> 10
        )?;
        writeln!(f, "descriptors        {} at most", self.memory.most_descriptors)?;
        writeln!(f, "faults             {:?}", self.faults)?;
        writeln!(f, "attacks            {:?}", self.attacks)?;
        writeln!(f, "the fleet's cable  {:?}", self.frames)?;
        for machine in self.lost.iter().take(NAMED) {
            writeln!(f, "lost: {machine}")?;
        }
        for what in self.wrong.iter().take(NAMED) {
            writeln!(f, "wrong: {what}")?;
        }
        if self.memory.is_unbounded() {
            writeln!(f, "memory grows without bound")?;
        }
        Ok(())
    }
}
