//! The counters of a running rehearsal. Their space does not grow with the traffic.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use crate::{
    frame::Protocol,
    latency::{Histogram, Latencies},
    report::{Again, Milestone, Step},
};

/// The frames of a protocol, as they passed between the simulator and the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// Frames sent.
    pub sent_frames: u64,
    /// The bytes in these.
    pub sent_bytes: u64,
    /// Frames received. A window that the server's kernel did not segment is one frame.
    pub received_frames: u64,
    /// The bytes in these.
    pub received_bytes: u64,
}

/// The HTTP traffic, whose frames the kernel handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Requests made.
    pub requests: u64,
    /// Connections opened for them.
    pub connections: u64,
    /// Bytes of bodies received.
    pub received_bytes: u64,
}

/// The traffic, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// DHCP.
    pub dhcp: Frames,
    /// TFTP.
    pub tftp: Frames,
    /// ARP requests of the machines and the answers. The kernel's own answers are not counted.
    pub arp: Frames,
    /// HTTP.
    pub http: Http,
    /// Frames that the interface had no room for.
    pub unsent_frames: u64,
}

impl Traffic {
    fn of(&mut self, protocol: Protocol) -> &mut Frames {
        match protocol {
            Protocol::Dhcp => &mut self.dhcp,
            Protocol::Tftp => &mut self.tftp,
            Protocol::Arp => &mut self.arp,
        }
    }

    pub(crate) fn sent(&mut self, protocol: Protocol, bytes: usize) {
        let frames = self.of(protocol);
        frames.sent_frames += 1;
        frames.sent_bytes += bytes as u64;
    }

    pub(crate) fn received(&mut self, protocol: Protocol, bytes: usize) {
        let frames = self.of(protocol);
        frames.received_frames += 1;
        frames.received_bytes += bytes as u64;
    }
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Tally {
    cpu_at_start: Duration,
    pub(crate) traffic: Traffic,
    pub(crate) again: BTreeMap<Again, u64>,
    steps: Vec<Histogram>,
    reached: Vec<Vec<Duration>>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            cpu_at_start: cpu(),
            traffic: Traffic::default(),
            again: BTreeMap::new(),
            steps: vec![Histogram::default(); Step::ALL.len()],
            reached: vec![Vec::new(); Milestone::ALL.len()],
        }
    }

    /// Counts a step that took this time.
    pub(crate) fn took(&mut self, step: Step, time: Duration) {
        self.steps[step as usize].add(time);
    }

    /// Counts a machine that has reached a milestone, at this time since the start.
    pub(crate) fn reached(&mut self, milestone: Milestone, at: Duration) {
        self.reached[milestone as usize].push(at);
    }

    /// Returns the CPU time of the process since the start.
    pub(crate) fn cpu(&self) -> Duration {
        cpu().saturating_sub(self.cpu_at_start)
    }

    /// Returns the latencies of each step that occurred.
    pub(crate) fn latencies(&self) -> BTreeMap<Step, Latencies> {
        let steps = Step::ALL.into_iter().zip(&self.steps);
        steps.filter_map(|(step, times)| Some((step, times.latencies()?))).collect()
    }

    /// Takes out the times at which machines reached each milestone.
    pub(crate) fn take_reached(&mut self) -> impl Iterator<Item = (Milestone, Vec<Duration>)> {
        Milestone::ALL.into_iter().zip(std::mem::take(&mut self.reached))
    }
}

/// Returns the user and system time of this process.
pub(crate) fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().try_into().unwrap_or(0), 0)
            + Duration::from_micros(value.tv_usec().try_into().unwrap_or(0))
    };
    time(usage.user_time()) + time(usage.system_time())
}
