//! The hardware addresses of next hops, and the frames that wait for them.

use std::{net::Ipv4Addr, time::Duration};

use pxe_common::MacAddr;

/// The ARP cache of a machine. It talks to a handful of servers, so lists are enough.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: Vec<(Ipv4Addr, MacAddr)>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    hop: Ipv4Addr,
    frame: Vec<u8>,
    deadline: Duration,
    tries: u32,
}

const WAIT: Duration = Duration::from_secs(1);
const MAX_TRIES: u32 = 5;
const MAX_PENDING: usize = 8;
const MAX_KNOWN: usize = 8;

impl Neighbours {
    /// Returns the hardware address of a next hop, if it is known.
    pub(super) fn get(&self, hop: Ipv4Addr) -> Option<MacAddr> {
        self.known.iter().find(|(address, _)| *address == hop).map(|(_, hardware)| *hardware)
    }

    /// Keeps a frame until its next hop has answered.
    pub(super) fn ask(&mut self, now: Duration, hop: Ipv4Addr, frame: Vec<u8>) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(Pending { hop, frame, deadline: now + WAIT, tries: 1 });
        }
    }

    /// Takes in an answer, and returns the frames that waited for it.
    pub(super) fn learn(&mut self, address: Ipv4Addr, hardware: MacAddr) -> Vec<Vec<u8>> {
        self.known.retain(|(known, _)| *known != address);
        if self.known.len() < MAX_KNOWN {
            self.known.push((address, hardware));
        }
        let (ready, waiting) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.hop == address);
        self.pending = waiting;
        let ready: Vec<Pending> = ready;
        ready.into_iter().map(|pending| pending.frame).collect()
    }

    /// Returns the next hops to ask again.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Ipv4Addr> {
        self.pending.retain(|pending| pending.deadline > now || pending.tries < MAX_TRIES);
        let mut hops = Vec::new();
        for pending in self.pending.iter_mut().filter(|pending| pending.deadline <= now) {
            pending.deadline = now + WAIT;
            pending.tries += 1;
            if !hops.contains(&pending.hop) {
                hops.push(pending.hop);
            }
        }
        hops
    }

    /// Returns when [`Self::due`] must be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// Drops the frames that wait.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
