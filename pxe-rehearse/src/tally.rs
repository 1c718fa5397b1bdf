//! What is counted while a rehearsal runs: numbers whose space does not grow with what passes.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use super::{
    frame::Protocol,
    latency::{Histogram, Latencies},
    report::{Again, Milestone, Step},
};

/// Frames of one protocol, and the bytes in them, as they passed between the simulator and the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// Sent. A window that the server's kernel leaves uncut is one frame.
    pub sent_frames: u64,
    /// In these.
    pub sent_bytes: u64,
    /// Received.
    pub received_frames: u64,
    /// In these.
    pub received_bytes: u64,
}

/// HTTP, whose frames are the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Requests made.
    pub requests: u64,
    /// Connections opened for them.
    pub connections: u64,
    /// Bytes of bodies received.
    pub received_bytes: u64,
}

/// What passed, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// DHCP.
    pub dhcp: Frames,
    /// TFTP.
    pub tftp: Frames,
    /// ARP of the machines. What the kernel answers for them is not counted.
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

    pub(super) fn sent(&mut self, protocol: Protocol, bytes: usize) {
        let frames = self.of(protocol);
        frames.sent_frames += 1;
        frames.sent_bytes += bytes as u64;
    }

    pub(super) fn received(&mut self, protocol: Protocol, bytes: usize) {
        let frames = self.of(protocol);
        frames.received_frames += 1;
        frames.received_bytes += bytes as u64;
    }
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    cpu_at_start: Duration,
    pub(super) traffic: Traffic,
    pub(super) again: BTreeMap<Again, u64>,
    steps: Vec<Histogram>,
    reached: Vec<Vec<Duration>>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            cpu_at_start: cpu(),
            traffic: Traffic::default(),
            again: BTreeMap::new(),
            steps: vec![Histogram::default(); Step::ALL.len()],
            reached: vec![Vec::new(); Milestone::ALL.len()],
        }
    }

    pub(super) fn took(&mut self, step: Step, time: Duration) {
        self.steps[step as usize].add(time);
    }

    /// A machine has come so far, at this time since the beginning.
    pub(super) fn reached(&mut self, milestone: Milestone, at: Duration) {
        self.reached[milestone as usize].push(at);
    }

    /// What the process has computed since the beginning.
    pub(super) fn cpu(&self) -> Duration {
        cpu().saturating_sub(self.cpu_at_start)
    }

    /// Of each step that was done at all.
    pub(super) fn latencies(&self) -> BTreeMap<Step, Latencies> {
        let steps = Step::ALL.into_iter().zip(&self.steps);
        steps.filter_map(|(step, times)| Some((step, times.latencies()?))).collect()
    }

    /// When machines came how far.
    pub(super) fn take_reached(&mut self) -> impl Iterator<Item = (Milestone, Vec<Duration>)> {
        Milestone::ALL.into_iter().zip(std::mem::take(&mut self.reached))
    }
}

/// User and system time of this process.
pub(super) fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().try_into().unwrap_or(0), 0)
            + Duration::from_micros(value.tv_usec().try_into().unwrap_or(0))
    };
    time(usage.user_time()) + time(usage.system_time())
}
