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
    address_signs::{AddressSigns, Holder, Identity, Neighbour},
    event::{ArtifactKind, BootEvent, ClientKind, EventKind},
    inventory::Machine,
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
    if let Some((from, at)) = signs.asked_from
        && waits_for_its_script(record, at)
        && elapsed(at, now) <= RECENT
    {
        let ago = human(elapsed(at, now));
        diagnosis.reached +=
            &format!(" Its script or its configuration was asked for from {from} {ago} ago, and refused.");
        diagnosis.advice.insert(0, given_to_it_alone(record));
    }
    if let Some(holder) = &signs.holder
        && let Some(answered) = now.checked_sub(holder.neighbour.confirmed)
        && given(record).is_some_and(|given| answered >= given)
    {
        name_holder(&mut diagnosis, record, holder);
    }
    diagnosis
}

/// Adds who has the machine's address, as far as that is certain.
fn name_holder(diagnosis: &mut Diagnosis, record: &MachineRecord, Holder { neighbour, identity }: &Holder) {
    let Neighbour { mac, interface, confirmed } = neighbour;
    let address = record.machine.address;
    let find = format!("arping -I {interface} {address} while the machine is switched off");
    let (who, advice) = match identity {
        Identity::OtherMachine(other) => {
            let Machine { cluster, address: its_own, source, .. } = &**other;
            let advice = format!(
                "Two hosts have {address}, and {mac} gets what is sent there. That is a machine of cluster {cluster}, which is to have {its_own} \
                 ({}): take {address} from it. {find} shows who answers.",
                source.in_words()
            );
            (format!("Another machine of the spec, {mac},"), advice)
        }
        Identity::Router(router) => {
            let advice = format!(
                "What is sent to {address} goes through that router, which answers ARP in its place (proxy ARP). If the machine is not behind it, \
                 switch proxy ARP off there."
            );
            (format!("Its router {router} ({mac})"), advice)
        }
        Identity::Unknown => {
            let advice = format!(
                "{mac} gets what is sent to {address}. It is another host with that address, a router with proxy ARP, or a network card of this \
                 machine that the spec does not name. Find it in the tables of the switches, or with {find}; then give one of the two another \
                 address, switch proxy ARP off, or name the card (additionalMacAddresses in pxed.dev/machines)."
            );
            (format!("{mac}, which the spec does not name,"), advice)
        }
    };
    let ago = human(*confirmed);
    diagnosis.reached += &format!(" {who} answered for its address {address} on {interface} {ago} ago.");
    if matches!(identity, Identity::Router(_)) {
        // A machine behind that router is reached in this way alone.
        diagnosis.advice.push(advice);
    } else {
        diagnosis.advice.insert(0, advice);
    }
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
    use std::{net::Ipv4Addr, sync::Arc};

    use pxe_common::MacAddr;

    use super::{super::diagnose, *};
    use crate::{
        journal::{
            fleet::Fleet,
            remembered::State,
            samples::{self, *},
        },
        model::{
            failure::FELL_SILENT,
            images::Images,
            inventory::{Inventory, Machine},
        },
    };

    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

    /// The hosts that have answered: their addresses and MAC addresses, and the seconds since.
    type Table<'a> = &'a [(Ipv4Addr, MacAddr, f64)];

    /// Returns the diagnosis two seconds after the last of these events, of a machine in a fleet of two.
    fn explained(events: &[EventKind], machine: Machine, table: Table<'_>) -> String {
        let neighbour_at = |interface: &str, address: Ipv4Addr| {
            assert_eq!(interface, "eth1");
            let (_, mac, seconds) = *table.iter().find(|(host, ..)| *host == address)?;
            Some(Neighbour { mac, interface: "eth1.7".into(), confirmed: Duration::from_secs_f64(seconds) })
        };
        let machine = Arc::new(machine);
        let inventory = Inventory::new(vec![Arc::clone(&machine), Arc::new(samples::machine(2))]);
        let signs = AddressSigns::of(&machine, &inventory, neighbour_at, None);
        explained_with(events, &machine, &signs)
    }

    fn explained_with(events: &[EventKind], machine: &Arc<Machine>, signs: &AddressSigns) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        let record = fleet.machine(machine, usize::MAX);
        let now = record.events.last().map_or(at(0.0), |event| event.at) + Duration::from_secs(2);
        let own = diagnose(&record, &Images::default(), now);
        let Diagnosis { reached, waits_for, advice } = with_address_signs(own, &record, signs, now);
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    #[test]
    fn host_with_the_machines_address_is_named() {
        let loads = [&dora(Pxe)[..], &[requested(Loader)]].concat();
        let silent = [&loads[..], &[failed(Loader, FELL_SILENT)]].concat();
        for events in [&dora(Pxe), &loads[..], &silent, &[&loads[..], &load(Loader), &dora(Ipxe)].concat()] {
            let text = explained(events, machine(1), &[(machine(1).address, OTHER, 1.0)]);
            for part in [
                " 02:00:00:00:00:77, which the spec does not name, answered for its address 10.0.0.1 on eth1.7 1 s ago.",
                "| 02:00:00:00:00:77 gets what is sent to 10.0.0.1. It is another host with that address, a router with proxy ARP, or a network card",
                "arping -I eth1.7 10.0.0.1",
            ] {
                assert!(text.contains(part), "no {part} in {text}");
            }
        }
    }

    #[test]
    fn other_machine_of_the_spec_is_certainly_another_host() {
        let other = machine(2).mac;
        let text = explained(&dora(Pxe), machine(1), &[(machine(1).address, other, 1.0), (GATEWAY, other, 1.0)]);
        for part in [
            format!("Another machine of the spec, {other}, answered for its address 10.0.0.1 on eth1.7 1 s ago."),
            format!("| Two hosts have 10.0.0.1, and {other} gets what is sent there."),
            "which is to have 10.0.0.2 (lab.yaml line 12): take 10.0.0.1 from it.".to_owned(),
        ] {
            assert!(text.contains(&part), "no {part} in {text}");
        }
        assert!(!text.contains("proxy ARP"), "{text}");
    }

    #[test]
    fn router_that_answers_for_the_machine_is_no_second_host() {
        let behind = || Machine { gateway: Some(GATEWAY), ..machine(1) };
        let table = [(machine(1).address, OTHER, 1.0), (GATEWAY, OTHER, 1_000.0)];
        let text = explained(&dora(Pxe), behind(), &table);
        for part in ["Its router 10.0.0.254 (02:00:00:00:00:77) answered for its address 10.0.0.1", "(proxy ARP)"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let another_router = [table[0], (GATEWAY, MacAddr([2, 0, 0, 0, 0, 0x78]), 1.0)];
        assert!(explained(&dora(Pxe), behind(), &another_router).contains("It is another host with that address"));
        assert!(!text.contains("another host with") && !text.contains("Two hosts"), "{text}");
    }

    #[test]
    fn host_is_not_named_that_need_not_be_another_one() {
        let two_cards = || Machine { additional_macs: [OTHER].into(), ..machine(1) };
        let seen = |mac, seconds| vec![(machine(1).address, mac, seconds)];
        for (name, events, machine, table) in [
            ("the machine itself", &dora(Pxe)[..], machine(1), seen(MAC, 1.0)),
            ("its other card", &dora(Pxe), two_cards(), seen(OTHER, 1.0)),
            ("who had the address before it", &dora(Pxe), machine(1), seen(OTHER, 3.0)),
            ("nobody", &dora(Pxe), machine(1), Vec::new()),
            ("a machine without an address", &[discover(Pxe), offer()], machine(1), seen(OTHER, 1.0)),
            ("a bond of its system", &uefi_boot(), machine(1), seen(OTHER, 1.0)),
            ("a bond of a system that does not ask", &uki_boot()[..6], machine(1), seen(OTHER, 1.0)),
        ] {
            let text = explained(events, machine, &table);
            assert!(!text.contains(&OTHER.to_string()) && !text.contains("Two hosts"), "{name}: {text}");
        }
    }

    #[test]
    fn request_for_its_script_from_another_address_is_told() {
        let asked = |seconds: f64| AddressSigns { holder: None, asked_from: Some(([10, 0, 0, 9].into(), at(seconds))) };
        let explained =
            |events: &[EventKind], signs: &AddressSigns| explained_with(events, &Arc::new(machine(1)), signs);
        let text = explained(&dora(Ipxe), &asked(0.5));
        for part in ["was asked for from 10.0.0.9 1 s ago, and refused.", "given to 10.0.0.1 alone", "a proxy or NAT"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let of_itself = [&dora(Ipxe)[..], &load(Script)].concat();
        for (name, events, signs) in [
            ("it got its script afterwards", &of_itself[..], asked(0.1)),
            ("it runs", &uefi_boot(), asked(0.1)),
            ("long ago", &dora(Ipxe), asked(-700.0)),
        ] {
            let text = explained(events, &signs);
            assert!(!text.contains("10.0.0.9"), "{name}: {text}");
        }
    }
}
