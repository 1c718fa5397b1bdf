//! The times that the machines of a fleet take for the steps of a boot, and what follows from them: how long a machine may stay at a step
//! before it is stuck. Pure.
//!
//! A machine is stuck once it has been at a step for [`FACTOR`] times what nearly all others of its cluster took that boot in the same way,
//! and never before the floor of the step. The times are counted in buckets, so that they take the same room whatever happens.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{stage::Stage, step::Step};
use crate::model::event::ClientKind;

/// The part of the machines, in percent, that take a shorter time than the one that counts.
const QUANTILE: u32 = 95;
/// The multiple of that time after which a machine is stuck.
const FACTOR: u32 = 4;
/// The number of times below which they say nothing about a cluster or fleet.
const ENOUGH: u32 = 8;
/// The number of times after which all count half, so that new ones are noticed.
const FULL: u32 = 4_096;
/// The clusters with times of their own. The others have those of the fleet.
const CLUSTERS: usize = 256;

/// The upper bounds of the buckets: each is √2 times the one before. The last one is two hours.
const SHORTEST: f64 = 0.25;
const BUCKETS: usize = 30;

/// The floors. iPXE may wait 16 s for IPv6 router advertisements, and a switch port without PortFast 30 s.
const SHORT: Duration = Duration::from_secs(45);
/// The floor of steps with more than one wait of this kind.
const DOUBLE: Duration = Duration::from_secs(90);
/// The floor of kernels and initramfs images, which take longer on slow links.
const LOAD: Duration = Duration::from_secs(180);
/// The floor of the start of an operating system. Firmware of large servers hands over slowly, and Talos pulls images.
const START: Duration = Duration::from_secs(300);

/// The way in which a machine boots, by the first of its programs that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chain {
    /// Firmware asks by PXE.
    #[default]
    Pxe,
    /// Firmware asks by HTTP boot.
    HttpBoot,
    /// iPXE asks, from the ROM of a network card or from a medium.
    Ipxe,
}

impl Chain {
    /// The number of ways.
    const COUNT: usize = 3;

    /// Returns the way after a question at this stage.
    pub(super) fn after(self, client: ClientKind, stage: Stage) -> Self {
        match client {
            ClientKind::Pxe => Self::Pxe,
            ClientKind::HttpBoot => Self::HttpBoot,
            // After a failure, the iPXE that firmware has loaded tries again.
            ClientKind::Ipxe if stage == Stage::NeverSeen || stage >= Stage::Running && stage != Stage::Failed => {
                Self::Ipxe
            }
            ClientKind::Ipxe | ClientKind::Plain => self,
        }
    }
}

/// Returns the least time after which a machine is stuck; `None` at a stage where it may stay for ever.
const fn floor(stage: Stage) -> Option<Duration> {
    match stage {
        Stage::Discovering | Stage::Offered | Stage::Addressed | Stage::Scripted => Some(SHORT),
        Stage::LoadingLoader | Stage::LoaderDone | Stage::IpxeDiscovering | Stage::IpxeAddressed => Some(DOUBLE),
        Stage::LoadingKernel | Stage::KernelDone | Stage::LoadingInitramfs => Some(LOAD),
        Stage::Booting | Stage::Running => Some(START),
        // It waits for a file or a person, or is where it belongs.
        Stage::NeverSeen | Stage::AwaitingFiles | Stage::Up | Stage::SentToDisk | Stage::OnDisk | Stage::Failed => None,
    }
}

/// Returns `true` for a stage that a machine may never leave although all is well: a system with a fixed address does not ask, and a
/// firewall may hide its API. It is stuck there only if others of its cluster went on, since clusters differ in both.
const fn may_be_the_end(stage: Stage) -> bool {
    matches!(stage, Stage::Booting | Stage::Running)
}

/// Returns `true` if the time at a step begins again with this move: at another step, at the end of a wait for files, and when the last file is
/// there: from then on no bytes are waited for.
pub(super) fn begins_a_step(from: Stage, to: Stage) -> bool {
    let alone = |stage| matches!(stage, Stage::AwaitingFiles | Stage::Booting);
    from.step() != to.step() || from != to && (alone(from) || alone(to))
}

/// The number of places in [`Steps`].
const PLACES: usize = Step::ALL.len() + 1;

/// Returns the place of a stage's times: that of its step, but the start of the operating system has one of its own.
const fn place(stage: Stage) -> usize {
    if matches!(stage, Stage::Booting) { PLACES - 1 } else { stage.step() as usize }
}

/// The times of one step.
#[derive(Clone, Debug, Default)]
struct Times {
    buckets: [u16; BUCKETS],
    sum: u32,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let index = ((seconds / SHORTEST).max(1.0).log2() * 2.0).ceil() as usize;
        if let Some(bucket) = self.buckets.get_mut(index.min(BUCKETS - 1)) {
            *bucket = bucket.saturating_add(1);
        }
        self.sum += 1;
        if self.sum >= FULL {
            self.buckets.iter_mut().for_each(|bucket| *bucket /= 2);
            self.sum = self.buckets.iter().map(|&bucket| u32::from(bucket)).sum();
        }
    }

    /// Returns the time that nearly all stay below, rounded up to a bound; `None` if there are too few times.
    fn usual(&self) -> Option<Duration> {
        if self.sum < ENOUGH {
            return None;
        }
        let wanted = (self.sum * QUANTILE).div_ceil(100);
        let mut below = 0;
        let index = self.buckets.iter().position(|&bucket| {
            below += u32::from(bucket);
            below >= wanted
        })?;
        Some(Duration::from_secs_f64(SHORTEST * 2_f64.powf(index as f64 / 2.0)))
    }
}

/// The times of machines that boot in one way, by [`place`].
type Steps = [Times; PLACES];

/// The times of the machines of one cluster, or of the fleet.
#[derive(Clone, Debug, Default)]
struct Group([Option<Box<Steps>>; Chain::COUNT]);

impl Group {
    fn times(&self, chain: Chain, stage: Stage) -> Option<&Times> {
        self.0.get(chain as usize)?.as_ref()?.get(place(stage))
    }

    fn add(&mut self, chain: Chain, stage: Stage, time: Duration) {
        let steps = self.0.get_mut(chain as usize).map(|steps| steps.get_or_insert_with(Box::default));
        if let Some(times) = steps.and_then(|steps| steps.get_mut(place(stage))) {
            times.add(time);
        }
    }
}

/// The times of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    fleet: Group,
    clusters: HashMap<Arc<str>, Group>,
}

impl Pace {
    /// Takes note that a machine left a stage for another, after this time at the step. A boot that breaks off shows nothing.
    pub(super) fn note(&mut self, cluster: &Arc<str>, chain: Chain, (from, to): (Stage, Stage), time: Duration) {
        if floor(from).is_none() || from >= to || !begins_a_step(from, to) || to > Stage::Up {
            return;
        }
        self.fleet.add(chain, from, time);
        if let Some(group) = self.clusters.get_mut(cluster) {
            group.add(chain, from, time);
        } else if self.clusters.len() < CLUSTERS {
            self.clusters.entry(Arc::clone(cluster)).or_default().add(chain, from, time);
        }
    }

    /// Returns the time after which a machine of a cluster is stuck at a stage; `None` if it may stay there for ever.
    pub(super) fn limit(&self, cluster: &str, chain: Chain, stage: Stage) -> Option<Duration> {
        let floor = floor(stage)?;
        let usual = |group: &Group| group.times(chain, stage).and_then(Times::usual);
        let of_cluster = self.clusters.get(cluster).and_then(usual);
        if may_be_the_end(stage) {
            return of_cluster.map(|usual| floor.max(usual * FACTOR));
        }
        Some(of_cluster.or_else(|| usual(&self.fleet)).map_or(floor, |usual| floor.max(usual * FACTOR)))
    }

    /// Forgets the clusters that are not in the inventory any more.
    pub(super) fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.clusters.retain(|cluster, _| is_known(cluster));
    }
}

/// The time that a machine has for its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(pub(super) Option<SystemTime>);

impl Deadline {
    /// Returns the deadline at this time, for tests.
    #[cfg(test)]
    pub(crate) const fn of(at: SystemTime) -> Self {
        Self(Some(at))
    }

    /// Returns the time after which the machine is stuck unless it is being sent a file; `None` if it may stay for ever.
    #[must_use]
    pub const fn at(self) -> Option<SystemTime> {
        self.0
    }

    /// Returns `true` if the machine is stuck. `advances` tells if bytes of a file arrive at it: then it is slow.
    pub(super) fn is_over(self, now: SystemTime, advances: impl FnOnce() -> bool) -> bool {
        self.0.is_some_and(|at| at <= now) && !advances()
    }
}

#[cfg(test)]
mod tests;
