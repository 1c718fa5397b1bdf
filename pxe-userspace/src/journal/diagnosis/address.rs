//! Signs about a machine's address beside its events: another host that has it, and the machine that has another one.

use std::time::{Duration, SystemTime};

use super::{
    super::{
        machine_record::MachineRecord,
        stage::Stage,
        words::{elapsed, human},
    },
    failure::given_to_it_alone,
    finding::Diagnosis,
};
use crate::model::{
    address_signs::{AddressSigns, Neighbour},
    event::{ArtifactKind, BootEvent, ClientKind, EventKind},
};

/// The time for which a request from another address tells something about the machine.
const RECENT: Duration = Duration::from_secs(600);

/// Returns the diagnosis with what these signs add to it, as of `now`.
#[must_use]
pub fn with_address_signs(
    mut diagnosis: Diagnosis,
    record: &MachineRecord,
    signs: &AddressSigns,
    now: SystemTime,
) -> Diagnosis {
    let machine = &record.machine;
    let (address, interface) = (machine.address, &machine.site.interface);
    if let Some((from, at)) = signs.asked_from
        && waits_for_its_script(record, at)
        && elapsed(at, now) <= RECENT
    {
        let ago = human(elapsed(at, now));
        diagnosis.reached +=
            &format!(" Its script or its configuration was asked for from {from} {ago} ago, and refused.");
        diagnosis.advice.insert(0, given_to_it_alone(record));
    }
    if let Some(Neighbour { mac, confirmed }) = signs.neighbour
        && machine.macs().all(|card| card != mac)
        && given(record).zip(now.checked_sub(confirmed)).is_some_and(|(given, answered)| answered >= given)
    {
        let ago = human(confirmed);
        diagnosis.reached +=
            &format!(" Another host, {mac}, answered for its address {address} on {interface} {ago} ago.");
        diagnosis.advice.insert(
            0,
            format!(
                "Two hosts have {address}, and {mac} gets what is sent there: find it by its MAC address in the tables of the switches, or with \
                 arping -I {interface} {address} while the machine is switched off, and give one of the two another address. If {mac} is a \
                 network card of this machine, name it (additionalMacAddresses in pxed.dev/machines)."
            ),
        );
    }
    diagnosis
}

/// Returns `true` if the machine is on its way, and has not got its script or more since this time.
fn waits_for_its_script(record: &MachineRecord, since: SystemTime) -> bool {
    let has_more = |event: &BootEvent| {
        let is_more = matches!(
            event.kind,
            EventKind::Done {
                artifact: ArtifactKind::Script
                    | ArtifactKind::Kernel
                    | ArtifactKind::Initramfs
                    | ArtifactKind::Uki
                    | ArtifactKind::Config,
                ..
            }
        );
        event.at >= since && (is_more || event.kind.is_operating_system())
    };
    !matches!(record.stage, Stage::Up | Stage::SentToDisk | Stage::OnDisk) && !record.events.iter().any(has_more)
}

/// Returns the time at which firmware or a loader last got the machine's address. Returns `None` if the machine has gone on to an operating
/// system, which may have the address on a bond or a bridge with a MAC address of its own.
fn given(record: &MachineRecord) -> Option<SystemTime> {
    for event in record.events.iter().rev() {
        match event.kind {
            EventKind::Requested { artifact: ArtifactKind::Config, .. }
            | EventKind::Done { artifact: ArtifactKind::Initramfs | ArtifactKind::Uki, .. } => return None,
            EventKind::Ack { client: ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe, .. }
            | EventKind::Request {
                client: ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe,
                of_other_server: true,
                ..
            } => return Some(event.at),
            _ if event.kind.is_operating_system() => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pxe_common::MacAddr;

    use super::{super::diagnose, *};
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*},
        model::{failure::FELL_SILENT, images::Images, inventory::Machine},
    };

    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

    /// Returns the diagnosis two seconds after the last of these events.
    fn explained(events: &[EventKind], machine: Machine, signs: AddressSigns) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        let record = fleet.machine(&Arc::new(machine), usize::MAX);
        let now = record.events.last().map_or(at(0.0), |event| event.at) + Duration::from_secs(2);
        let own = diagnose(&record, &Images::default(), now);
        let Diagnosis { reached, waits_for, advice } = with_address_signs(own, &record, &signs, now);
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    fn seen(mac: MacAddr, seconds: f64) -> AddressSigns {
        let confirmed = Duration::from_secs_f64(seconds);
        AddressSigns { neighbour: Some(Neighbour { mac, confirmed }), asked_from: None }
    }

    #[test]
    fn host_with_the_machines_address_is_named() {
        let loads = [&dora(Pxe)[..], &[requested(Loader)]].concat();
        let silent = [&loads[..], &[failed(Loader, FELL_SILENT)]].concat();
        for events in [&dora(Pxe), &loads[..], &silent, &[&loads[..], &load(Loader), &dora(Ipxe)].concat()] {
            let text = explained(events, machine(1), seen(OTHER, 1.0));
            for part in [
                "Another host, 02:00:00:00:00:77, answered for its address 10.0.0.1 on eth1 1 s ago.",
                "| Two hosts have 10.0.0.1, and 02:00:00:00:00:77 gets what is sent there",
                "arping -I eth1 10.0.0.1",
            ] {
                assert!(text.contains(part), "no {part} in {text}");
            }
        }
    }

    #[test]
    fn host_is_not_named_that_need_not_be_another_one() {
        let two_cards = || Machine { additional_macs: [OTHER].into(), ..machine(1) };
        for (name, events, machine, signs) in [
            ("the machine itself", &dora(Pxe)[..], machine(1), seen(MAC, 1.0)),
            ("its other card", &dora(Pxe), two_cards(), seen(OTHER, 1.0)),
            ("who had the address before it", &dora(Pxe), machine(1), seen(OTHER, 3.0)),
            ("nobody", &dora(Pxe), machine(1), AddressSigns::default()),
            ("a machine without an address", &[discover(Pxe), offer()], machine(1), seen(OTHER, 1.0)),
            ("a bond of its system", &uefi_boot(), machine(1), seen(OTHER, 1.0)),
            ("a bond of a system that does not ask", &uki_boot()[..6], machine(1), seen(OTHER, 1.0)),
        ] {
            let text = explained(events, machine, signs);
            assert!(!text.contains("Another host") && !text.contains("Two hosts"), "{name}: {text}");
        }
    }

    #[test]
    fn request_for_its_script_from_another_address_is_told() {
        let asked =
            |seconds: f64| AddressSigns { neighbour: None, asked_from: Some(([10, 0, 0, 9].into(), at(seconds))) };
        let text = explained(&dora(Ipxe), machine(1), asked(0.5));
        for part in ["was asked for from 10.0.0.9 1 s ago, and refused.", "given to 10.0.0.1 alone", "a proxy or NAT"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let of_itself = [&dora(Ipxe)[..], &load(Script)].concat();
        for (name, events, signs) in [
            ("it got its script afterwards", &of_itself[..], asked(0.1)),
            ("it runs", &uefi_boot(), asked(0.1)),
            ("long ago", &dora(Ipxe), asked(-700.0)),
        ] {
            let text = explained(events, machine(1), signs);
            assert!(!text.contains("10.0.0.9"), "{name}: {text}");
        }
    }
}
