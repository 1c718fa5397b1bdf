//! Finds out whether Talos is up on the machines that boot: its API accepts connections on TCP port 50000, in maintenance mode and later.
//!
//! A DHCP lease shows that a kernel runs, and nothing more. So each machine that comes to [`Stage::Running`] is tried until it accepts a connection, in ever longer intervals and for
//! some minutes at most. Of several nodes, only the one that has given the system its address tries it: it alone knows that it runs. A
//! connection says nothing about the boot policy.

mod schedule;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;
use tokio::{
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use self::schedule::{Pace, Schedule, Try};
use crate::{
    daemon::supervision::supervise,
    journal::{Journal, MachineRecord, Stage, Summary, policy::Cycle},
    model::{
        event::{EventKind, EventSink},
        origin::Origin,
    },
};

/// The port of the Talos API.
const PORT: u16 = 50_000;
/// The machines that may have begun to run before they are taken notice of. Later ones are not tried.
pub(super) const CAPACITY: usize = 16_384;
/// The machines that are looked at at once, while the journal waits.
const BATCH: usize = 1_024;

/// Tries the machines on which an operating system runs.
#[derive(Debug)]
pub(super) struct UpCheck {
    journal: Arc<Journal>,
    events: EventSink,
    pace: Pace,
    port: u16,
}

/// The target of a try.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Connect to this address.
    Address(Ipv4Addr),
    /// Nothing any more: it left the spec, has begun to boot again, here or from another node, or is up.
    Gone,
}

impl UpCheck {
    /// Creates the check.
    pub(super) fn new(journal: Arc<Journal>, events: EventSink) -> Self {
        Self { journal, events, pace: Pace::default(), port: PORT }
    }

    /// Tries the machines that the journal names, until the journal is gone. A panic costs the tries of a few seconds: those that run are
    /// found again.
    pub(super) async fn run(self, running: mpsc::Receiver<MacAddr>) {
        // Kept for the next start.
        let (check, running) = (Arc::new(self), Arc::new(Mutex::new(running)));
        let start = || {
            let (check, running) = (Arc::clone(&check), Arc::clone(&running));
            async move { check.run_once(&mut *running.lock().await).await }
        };
        supervise("looking whether Talos is up on machines", start, || ()).await;
    }

    /// Does so until a try panics.
    async fn run_once(&self, running: &mut mpsc::Receiver<MacAddr>) -> Result<(), JoinError> {
        let mut schedule = Schedule::new(self.pace);
        let mut tries = JoinSet::new();
        let mut begun = Vec::new();
        self.running_already().into_iter().for_each(|mac| schedule.begin(mac, Instant::now()));
        loop {
            self.start_those_due(&mut schedule, &mut tries);
            let wake_at = schedule.wake_at().filter(|_| tries.len() < self.pace.at_once);
            tokio::select! {
                count = running.recv_many(&mut begun, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    begun.drain(..).for_each(|mac| schedule.begin(mac, Instant::now()));
                }
                Some(ended) = tries.join_next() => {
                    let (trial, is_up) = ended?;
                    self.ended(&mut schedule, trial, is_up);
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
    }

    /// Returns the machines that run since before this process, as far as the journal remembers, and were not seen to be up. One that this
    /// process has not seen to boot is tried only if it cannot have run for long.
    fn running_already(&self) -> Vec<MacAddr> {
        let (inventory, now) = (self.journal.inventory(), SystemTime::now());
        let is_recent = |since| now.duration_since(since).unwrap_or_default() < self.pace.give_up;
        let mut running = Vec::new();
        for machines in inventory.machines().chunks(BATCH) {
            let summaries = self.journal.summaries(machines);
            let of_both = machines.iter().zip(summaries);
            let is_one = |now: &Summary| {
                now.stage == Stage::Running && (now.cycle == Cycle::Netbooted || is_recent(now.stage_since))
            };
            running.extend(of_both.filter(|(_, now)| is_one(now)).map(|(machine, _)| machine.mac));
        }
        running
    }

    fn start_those_due(&self, schedule: &mut Schedule, tries: &mut JoinSet<(Try, bool)>) {
        while tries.len() < self.pace.at_once
            && let Some(trial) = schedule.next(Instant::now())
        {
            match self.target(trial.mac) {
                Target::Address(address) => {
                    let connection = accepts((address, self.port).into(), self.pace.patience);
                    tries.spawn(async move { (trial, connection.await) });
                }
                Target::Gone => schedule.over(trial),
            }
        }
    }

    fn target(&self, mac: MacAddr) -> Target {
        let inventory = self.journal.inventory();
        let Some(machine) = inventory.by_mac(mac) else { return Target::Gone };
        let record = self.journal.machine(mac).filter(|record| record.stage == Stage::Running);
        if record.is_none_or(|record| chose_another_node(&record)) {
            return Target::Gone;
        }
        Target::Address(machine.address)
    }

    fn ended(&self, schedule: &mut Schedule, trial: Try, is_up: bool) {
        if is_up {
            schedule.over(trial);
            // Whoever completes the handshake receives segments at the machine's address.
            self.events.send(trial.mac, SystemTime::now(), Origin::Machine, EventKind::Up { port: self.port });
        } else if !schedule.failed(trial, Instant::now()) {
            tracing::debug!(mac = %trial.mac, port = self.port, "its Talos API has not answered and is not tried again");
        }
    }
}

/// Returns `true` if the last node that a machine has chosen is another one.
fn chose_another_node(record: &MachineRecord) -> bool {
    let last = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::LeftToPeer { chosen: true, .. } => Some(true),
        EventKind::Ack { .. } => Some(false),
        _ => None,
    });
    last.unwrap_or(false)
}

/// Returns `true` if a connection to this address comes about in time. It is closed at once.
async fn accepts(address: SocketAddr, patience: Duration) -> bool {
    matches!(timeout(patience, TcpStream::connect(address)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests;
