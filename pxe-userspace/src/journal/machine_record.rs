//! The state of one machine, as the journal reports it.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{others::OtherFrames, pace::Deadline, policy::Cycle, stage::Stage};
use crate::model::{
    event::BootEvent,
    inventory::Machine,
    near_miss::Slip,
    policy::{BootPolicy, Disposition},
    progress::Progress,
    strangers::Overheard,
};

/// Everything that is known about one machine at one instant.
#[derive(Clone, Debug)]
pub struct MachineRecord {
    /// The machine as the spec has it.
    pub machine: Arc<Machine>,
    /// The address at which this host serves it, or that of the spec while it is not served.
    pub server: Ipv4Addr,
    /// The policy in force: the one that a person set, or the spec's.
    pub policy: BootPolicy,
    /// The place that it boots from when it asks.
    pub boots_from: Disposition,
    /// Its progress.
    pub stage: Stage,
    /// The time at which it came to this stage.
    pub stage_since: SystemTime,
    /// The time that it has for its step, by what others take.
    pub deadline: Deadline,
    /// The number of times that it has loaded a whole initramfs.
    pub boots: u32,
    /// The number of its attempts to boot since an operating system ran, up to the last one.
    pub attempt: u32,
    /// The time and the text of the last error.
    pub last_error: Option<(SystemTime, Arc<str>)>,
    /// The last time at which packets of it were dropped by its rate limit.
    pub asked_too_often: Option<SystemTime>,
    /// It was given its kernel since it was last released.
    pub booted: bool,
    /// It was seen to run from its own disk since it was last released.
    pub reached_disk: bool,
    /// A person set its policy by pxed, which this pxed alone remembers.
    pub is_decided_here: bool,
    /// The steps that were seen of its current boot.
    pub cycle: Cycle,
    /// This pxed finds out whether Talos is up on it, once an operating system runs.
    pub verifies_up: bool,
    /// Frames in its name that other hosts sent, which are no part of its events.
    pub others: Option<OtherFrames>,
    /// The progress of the transfer to it that advanced last.
    pub progress: Option<Progress>,
    /// Its last unanswered question at another interface than its cluster's. Only a single machine has it, as the next.
    pub astray: Option<Overheard>,
    /// The strangers whose address is a slip away, the likeliest first.
    pub near_misses: Vec<(Overheard, Slip)>,
    /// The last events, oldest first.
    pub events: Vec<BootEvent>,
    /// The number of these, from the oldest, that come from the history: an earlier pxed saw them.
    pub restored: usize,
}

impl MachineRecord {
    /// Returns `true` if the machine has been at its step for much longer than others, and no bytes of a file arrive at it.
    #[must_use]
    pub fn is_stuck(&self, now: SystemTime) -> bool {
        self.deadline.is_over(now, || self.advances(now))
    }

    /// Returns the time at which the machine is stuck if nothing changes; `None` if it may stay where it is.
    #[must_use]
    pub fn stuck_at(&self, now: SystemTime) -> Option<SystemTime> {
        self.deadline.at().filter(|_| !self.advances(now))
    }

    /// Returns `true` if bytes of a file arrive at it.
    fn advances(&self, now: SystemTime) -> bool {
        self.progress.is_some_and(|progress| advances(&progress, now))
    }
}

/// The time without another byte after which a transfer stands still.
const STANDS_STILL: Duration = Duration::from_secs(10);

/// Returns `true` if bytes of a transfer arrive.
pub(super) fn advances(progress: &Progress, now: SystemTime) -> bool {
    progress.is_running && now.duration_since(progress.advanced).unwrap_or_default() < STANDS_STILL
}

/// The part of a machine's state that lists are filtered and sorted by.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Its progress.
    pub stage: Stage,
    /// The time at which it came to this stage.
    pub stage_since: SystemTime,
    /// The time that it has for its step.
    pub deadline: Deadline,
    /// It is stuck.
    pub is_stuck: bool,
    /// The number of times that it has loaded a whole initramfs.
    pub boots: u32,
    /// The steps that were seen of its current boot.
    pub cycle: Cycle,
    /// The time of the last error.
    pub last_error_at: Option<SystemTime>,
}
