//! The boots that are under way: how long each stage takes, and each boot as a whole. Pure but for the counters and the channel that it feeds.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;

use super::{boot_times::BootTimes, stage::Stage};
use crate::model::{
    event::{BootEvent, EventKind},
    inventory::{AddressHashBuilder, Inventory, Machine},
    span::{Span, SpanSink},
};

/// The boots that have begun and not ended. There is one for a machine at most.
#[derive(Debug)]
pub(super) struct Boots {
    open: HashMap<MacAddr, Boot, AddressHashBuilder>,
    times: Arc<BootTimes>,
    spans: Option<SpanSink>,
    /// The stage at which a boot is over.
    last: Stage,
}

/// A boot that is under way.
#[derive(Debug)]
struct Boot {
    id: u128,
    begun: SystemTime,
    stage: Stage,
    since: SystemTime,
    step: u32,
    failure: Option<Arc<str>>,
    /// The time at which an operating system had its address.
    ran: Option<SystemTime>,
}

impl Boots {
    /// Creates the state of a journal that has seen no boot yet. `verifies_up` is set if somebody finds out when a system is up: until then
    /// it boots.
    pub(super) fn new(times: Arc<BootTimes>, spans: Option<SpanSink>, verifies_up: bool) -> Self {
        let last = if verifies_up { Stage::Up } else { Stage::Running };
        Self { open: HashMap::default(), times, spans, last }
    }

    /// Counts a transfer.
    pub(super) fn done(&self, event: &EventKind) {
        if let EventKind::Done { artifact, bytes, took, .. } = event {
            self.times.transferred(*artifact, *bytes, *took);
        }
    }

    /// Takes note that a machine has moved to a stage. `begins` is set if an attempt to boot begins with the event. Returns the time that it spent
    /// at the stage before, if that belongs to a boot.
    pub(super) fn moved(
        &mut self,
        machine: &Arc<Machine>,
        stage: Stage,
        begins: bool,
        event: &BootEvent,
    ) -> Option<Duration> {
        let begins = begins || stage == Stage::Discovering;
        let mut boot = self.open.remove(&machine.mac);
        let mut took = None;
        if let Some(boot) = &mut boot {
            // A system that was not seen to be up may have run for days: that is no part of its boot.
            if boot.ran.is_none() || stage == self.last {
                let stayed = event.at.duration_since(boot.since).unwrap_or_default();
                took = Some(stayed);
                self.times.stayed(boot.stage, stayed);
                let failure = (boot.stage == Stage::Failed).then(|| boot.failure.clone()).flatten();
                boot.step += 1;
                self.tell(machine, boot, boot.step, boot.stage.name(), boot.since, event.at, failure);
            }
        }
        let is_step = is_step(stage) || stage == Stage::Running && self.last > stage && boot.is_some();
        let is_over = begins || !is_step;
        if let Some(boot) = boot.take_if(|_| is_over) {
            let error = match boot.ran {
                // It may have run for days since.
                Some(_) if stage != self.last => Some("its Talos API was not seen to answer".into()),
                None if begins => Some(boot.failure.clone().unwrap_or_else(|| "the machine began again".into())),
                _ => None,
            };
            if stage == self.last {
                self.times.booted(event.at.duration_since(boot.begun).unwrap_or_default());
            }
            let ended = boot.ran.filter(|_| stage != self.last).unwrap_or(event.at);
            self.tell(machine, &boot, 0, "boot", boot.begun, ended, error);
        }
        if is_step {
            let mut boot = boot.unwrap_or_else(|| Boot {
                id: rand::random(),
                begun: event.at,
                stage,
                since: event.at,
                step: 0,
                failure: None,
                ran: None,
            });
            boot.stage = stage;
            boot.since = event.at;
            boot.ran = (stage == Stage::Running).then_some(event.at);
            if stage == Stage::Failed {
                boot.failure = Some(event.kind.to_string().into());
            }
            self.open.insert(machine.mac, boot);
        }
        took
    }

    /// Forgets the machines that are not in the inventory any more, as soon as there are more boots than machines.
    pub(super) fn prune(&mut self, inventory: &Inventory) {
        if self.open.len() > inventory.machines().len() {
            self.open.retain(|&mac, _| inventory.by_mac(mac).is_some());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of a span")]
    fn tell(
        &self,
        machine: &Arc<Machine>,
        boot: &Boot,
        step: u32,
        name: &'static str,
        begun: SystemTime,
        ended: SystemTime,
        error: Option<Arc<str>>,
    ) {
        if let Some(spans) = &self.spans {
            let machine = Arc::clone(machine);
            spans.send(Span { machine, boot: boot.id, step, name, begun, ended: ended.max(begun), error });
        }
    }
}

/// Returns `true` for a stage that a boot goes through.
fn is_step(stage: Stage) -> bool {
    (Stage::Discovering..=Stage::Booting).contains(&stage) || stage == Stage::Failed
}

#[cfg(test)]
mod tests;
