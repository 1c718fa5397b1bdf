//! Frames in a machine's name that other hosts sent. They are counted apart from the machine's own record, of which they change nothing.

use std::time::{Duration, SystemTime};

use pxe_common::MacAddr;

/// The frames in one machine's name that came from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherFrames {
    /// Their number since pxed started.
    pub count: u32,
    /// The MAC address that the last one came from.
    pub from: MacAddr,
    /// The last one names a relay, although the machine's own frames arrive without one.
    pub by_relay: bool,
    /// The time of the last one.
    pub at: SystemTime,
}

impl Default for OtherFrames {
    fn default() -> Self {
        Self { count: 0, from: MacAddr::default(), by_relay: false, at: SystemTime::UNIX_EPOCH }
    }
}

impl OtherFrames {
    /// Counts a frame.
    pub(super) fn add(&mut self, from: MacAddr, by_relay: bool, at: SystemTime) {
        *self = Self { count: self.count.saturating_add(1), from, by_relay, at };
    }
}

/// The shortest time between two lines of the log about such frames, of whichever machines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The limit of the lines of the log about such frames: an attacker must not be able to fill it.
#[derive(Debug)]
pub(super) struct OthersLog {
    last: SystemTime,
    suppressed: u64,
}

impl Default for OthersLog {
    fn default() -> Self {
        Self { last: SystemTime::UNIX_EPOCH, suppressed: 0 }
    }
}

impl OthersLog {
    /// Returns how many frames were not logged before this one, if it is logged.
    pub(super) fn admit(&mut self, at: SystemTime) -> Option<u64> {
        // A clock that was set back ends the wait.
        if at.duration_since(self.last).is_ok_and(|since| since < LINE_EVERY) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = at;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*, stage::Stage},
        model::event::{BootEvent, EventKind},
    };

    const ATTACKER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 9]);

    fn fleet() -> Fleet {
        Fleet::new(&State::new(), at(-60.0), 1)
    }

    fn apply(fleet: &mut Fleet, origin: Origin, seconds: f64, kinds: &[EventKind]) {
        for kind in kinds {
            fleet.apply(&BootEvent { mac: MAC, at: at(seconds), origin, kind: kind.clone() });
        }
    }

    #[test]
    fn frames_of_others_are_counted_and_change_nothing() {
        let boot = uefi_boot();
        let forged = [dora(Pxe).to_vec(), dora(Ipxe).to_vec(), vec![EventKind::Release], dora(Plain).to_vec()].concat();
        for length in 1..=boot.len() {
            let mut machine_alone = fleet();
            apply(&mut machine_alone, Origin::Machine, 0.0, &boot[..length]);
            let mut attacked = fleet();
            for event in &boot[..length] {
                apply(&mut attacked, Origin::Machine, 0.0, std::slice::from_ref(event));
                apply(&mut attacked, Origin::Other(ATTACKER), 0.0, &forged);
                apply(&mut attacked, Origin::Relay(ATTACKER), 0.0, &forged);
            }
            let [alone, attacked] =
                [machine_alone, attacked].map(|fleet| fleet.machine(&Arc::new(machine(1)), usize::MAX));
            assert_eq!(
                (attacked.stage, attacked.boots, attacked.cycle, &attacked.events, &attacked.last_error),
                (alone.stage, alone.boots, alone.cycle, &alone.events, &alone.last_error),
                "after {length} events"
            );
            assert_eq!(alone.others, None);
            let others = attacked.others.unwrap();
            assert_eq!((others.from, others.by_relay, others.at), (ATTACKER, true, at(0.0)));
            // Four DISCOVERs and REQUESTs, one RELEASE: answers are not counted.
            let asked =
                forged.iter().filter(|kind| !matches!(kind, EventKind::Offer { .. } | EventKind::Ack { .. })).count();
            assert_eq!(others.count as usize, 2 * asked * length);
        }
    }

    /// Anybody can send a request in a machine's name. One that is refused, or whose answer nobody acknowledges, is told to the journal.
    #[test]
    fn requests_that_nobody_answered_change_nothing_of_a_machine_that_is_further() {
        let path = Arc::from("pxelinux.cfg/01-52-54-00-00-00-01");
        let config = EventKind::Requested { artifact: Script, transport: Tftp, path };
        let kinds = [Loader, Script, Kernel, Initramfs, Uki, Config];
        let forged: Vec<_> = kinds
            .into_iter()
            .flat_map(|kind| [requested(kind), failed(kind, "no such file")])
            .chain([config])
            .collect();
        let boot = [&uefi_boot()[..], &dora(Plain)].concat();
        let seen = |fleet: &Fleet| {
            let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
            let is_booted = fleet.book().booted.contains(&MAC);
            (record.stage, record.boots, record.cycle, is_booted, record.events.len(), record.last_error)
        };
        let (mut alone, mut attacked, mut attacked_later) = (fleet(), fleet(), fleet());
        for event in &boot {
            for fleet in [&mut alone, &mut attacked, &mut attacked_later] {
                apply(fleet, Origin::Machine, 0.0, std::slice::from_ref(event));
            }
            apply(&mut attacked, Origin::Unanswered, 0.0, &forged);
            if seen(&alone).0 >= Stage::Booting {
                apply(&mut attacked_later, Origin::Unanswered, 0.0, &forged);
            }
            assert_eq!(seen(&attacked_later), seen(&alone), "after {event:?}");
        }
        // Before, it may have sent them; they explain why it gets no further. That it does is seen all the same.
        let ((stage, boots, cycle, is_booted, ..), expected) = (seen(&attacked), seen(&alone));
        assert_eq!((stage, boots, cycle, is_booted), (expected.0, expected.1, expected.2, expected.3));
        assert!(stage == Stage::Running && is_booted);
    }

    /// Frames of machines behind a relay come from the relay alone.
    #[test]
    fn relay_shows_a_machine_whose_own_frames_do_not_arrive() {
        let mut fleet = fleet();
        let stage = |fleet: &Fleet| fleet.machine(&Arc::new(machine(1)), 0).stage;
        apply(&mut fleet, Origin::Relay(ATTACKER), 0.0, &dora(Pxe));
        assert_eq!(stage(&fleet), Stage::Addressed);
        apply(&mut fleet, Origin::Machine, 1.0, &dora(Ipxe));
        apply(&mut fleet, Origin::Relay(ATTACKER), 3_600.0, &dora(Pxe));
        assert_eq!(stage(&fleet), Stage::IpxeAddressed, "its own frames arrive");
        apply(&mut fleet, Origin::Relay(ATTACKER), 3_700.0, &dora(Pxe));
        assert_eq!(stage(&fleet), Stage::Addressed, "it may have been moved behind a relay since");
        apply(&mut fleet, Origin::Other(ATTACKER), 99_999.0, &dora(Ipxe));
        assert_eq!(stage(&fleet), Stage::Addressed);
    }

    #[test]
    fn lines_about_others_are_few() {
        let mut log = OthersLog::default();
        let admitted: Vec<_> = (0..25).filter_map(|second| log.admit(at(f64::from(second)))).collect();
        assert_eq!(admitted, [0, 9, 9]);
        assert_eq!(log.admit(at(-1_000.0)), Some(4), "the clock was set back");
    }
}
