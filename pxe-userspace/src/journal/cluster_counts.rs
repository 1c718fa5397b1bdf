//! The machines of a cluster, counted.

use super::{stage::Stage, step::Step};

/// The number of machines of a cluster at each step of a boot, and of those that are stuck.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterCounts {
    /// In the order of [`Step::ALL`].
    pub(super) steps: [u64; Step::ALL.len()],
    pub(super) stuck: u64,
}

impl ClusterCounts {
    /// Counts a machine.
    pub(super) fn add(&mut self, stage: Stage, is_stuck: bool) {
        if let Some(count) = self.steps.get_mut(stage.step() as usize) {
            *count += 1;
        }
        self.stuck += u64::from(is_stuck);
    }

    /// Counts the machines of another cluster, too.
    pub(super) fn merge(&mut self, other: &Self) {
        self.steps.iter_mut().zip(other.steps).for_each(|(count, more)| *count += more);
        self.stuck += other.stuck;
    }
}
