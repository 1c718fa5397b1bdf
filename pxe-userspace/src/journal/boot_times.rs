//! The times of boots and transfers as histograms.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::Counter},
};

use super::stage::Stage;
use crate::{
    metrics::{Families, histogram::Histogram, snake_case},
    model::event::ArtifactKind,
};

/// Bounds in seconds, from what a fast machine needs for a step to what one needs over a slow line.
const STAGE: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];
const BOOT: &[f64] = &[5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0];
const TRANSFER: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

const ARTIFACTS: [(ArtifactKind, &str); 7] = [
    (ArtifactKind::Loader, "loader"),
    (ArtifactKind::Script, "script"),
    (ArtifactKind::Kernel, "kernel"),
    (ArtifactKind::Initramfs, "initramfs"),
    (ArtifactKind::Uki, "uki"),
    (ArtifactKind::Config, "config"),
    (ArtifactKind::Other, "other"),
];

/// The times of stages, boots and transfers.
#[derive(Clone, Debug)]
pub(super) struct BootTimes {
    stages: Vec<(Stage, Histogram)>,
    boots: Histogram,
    transfers: Vec<(Histogram, Counter)>,
}

impl Default for BootTimes {
    fn default() -> Self {
        let is_timed = |stage: &Stage| (Stage::Discovering..=Stage::Running).contains(stage);
        let stages = Stage::ALL.into_iter().filter(is_timed);
        Self {
            stages: stages.map(|stage| (stage, Histogram::new(STAGE))).collect(),
            boots: Histogram::new(BOOT),
            transfers: ARTIFACTS.iter().map(|_| (Histogram::new(TRANSFER), Counter::default())).collect(),
        }
    }
}

impl BootTimes {
    /// Counts the time that a machine spent at a stage.
    pub(super) fn stayed(&self, stage: Stage, time: Duration) {
        if let Some((_, times)) = self.stages.iter().find(|(timed, _)| *timed == stage) {
            times.observe(time);
        }
    }

    /// Counts the time from a machine's first question to the end of its boot.
    pub(super) fn booted(&self, time: Duration) {
        self.boots.observe(time);
    }

    /// Counts a file that a machine has as a whole.
    pub(super) fn transferred(&self, artifact: ArtifactKind, bytes: u64, time: Duration) {
        let index = ARTIFACTS.iter().position(|(kind, _)| *kind == artifact);
        if let Some((times, sum)) = index.and_then(|index| self.transfers.get(index)) {
            times.observe(time);
            sum.inc_by(bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn boots(&self) -> u64 {
        self.boots.count()
    }

    #[cfg(test)]
    pub(super) fn stays(&self, stage: Stage) -> u64 {
        self.stages.iter().find(|(timed, _)| *timed == stage).map_or(0, |(_, times)| times.count())
    }
}

impl Collector for BootTimes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time that machines spent at a stage of their boot before they came to another.";
        let mut family = encoder.encode_descriptor("stage_duration_seconds", help, None, MetricType::Histogram)?;
        for (stage, times) in &self.stages {
            times.encode(family.encode_family(&[("stage", snake_case(stage.name()))])?)?;
        }
        let help = "Time from a machine's first question until its Talos API answers, or without --verify-up, until a system runs.";
        let boots = encoder.encode_descriptor("boot_duration_seconds", help, None, MetricType::Histogram)?;
        self.boots.encode(boots)?;
        let help = "Time from the request for a file to the acknowledgement of its last byte.";
        let mut family = encoder.encode_descriptor("transfer_duration_seconds", help, None, MetricType::Histogram)?;
        for ((_, artifact), (times, _)) in ARTIFACTS.iter().zip(&self.transfers) {
            times.encode(family.encode_family(&[("artifact", *artifact)])?)?;
        }
        let mut families = Families::new(encoder);
        let mut family = families.counters("transferred_bytes", "Bytes of files that machines have as a whole")?;
        for ((_, artifact), (_, bytes)) in ARTIFACTS.iter().zip(&self.transfers) {
            family.member(&[("artifact", *artifact)], bytes.get())?;
        }
        Ok(())
    }
}
