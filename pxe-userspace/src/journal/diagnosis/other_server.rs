//! Machines that choose the offer of another DHCP server.

use std::{net::Ipv4Addr, time::SystemTime};

use super::{
    super::{
        machine_record::MachineRecord,
        stage::Stage,
        words::{elapsed, human},
    },
    attempt::OtherServer,
    finding::Diagnosis,
};
use crate::model::{event::EventKind, inventory::Machine};

/// Returns the diagnosis of a machine that asked for an address, as `asked` says, and chose another server's.
pub(super) fn chosen(record: &MachineRecord, asked: &str, OtherServer { address, .. }: OtherServer) -> Diagnosis {
    let interface = &record.machine.site.interface;
    Diagnosis {
        reached: format!("{asked} and took the offer of {address} (another DHCP server on {interface})."),
        waits_for: format!("Its next request, for the address {} that pxed offers.", record.machine.address),
        advice: vec![remedy(record, address)],
    }
}

/// Adds that a machine which is on its way chose another server.
pub(super) fn remark(diagnosis: &mut Diagnosis, record: &MachineRecord, chosen: OtherServer, now: SystemTime) {
    let OtherServer { address, at, is_expected } = chosen;
    // The diagnosis of these is about the other server already.
    let is_asking =
        matches!(record.stage, Stage::NeverSeen | Stage::Discovering | Stage::Offered | Stage::IpxeDiscovering);
    let is_at_an_end = matches!(record.stage, Stage::SentToDisk | Stage::OnDisk | Stage::Failed);
    if is_expected {
        if record.stage == Stage::Addressed {
            diagnosis.reached += &format!(" The DHCP server {address} assigns it.");
        }
        return;
    }
    if is_asking || is_at_an_end {
        return;
    }
    let ago = human(elapsed(at, now));
    let interface = &record.machine.site.interface;
    diagnosis.reached += &format!(
        " It asked for an address {ago} ago and took the offer of {address} (another DHCP server on {interface})."
    );
    diagnosis.advice.insert(0, remedy(record, address));
}

/// Returns what to do about a machine that asks from an address which is not its own, if another server has assigned that.
pub(super) fn assigned(record: &MachineRecord) -> Option<String> {
    let (server, is_expected) = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Request { other_server, of_other_server, .. } => Some((other_server, of_other_server)),
        _ => None,
    })?;
    let server = server?;
    Some(if is_expected {
        let Machine { mac, address, .. } = &*record.machine;
        format!(
            "The DHCP server {server} assigned it: reserve {address} for {mac} there, or correct the address in the spec."
        )
    } else {
        format!("{server}, another DHCP server, assigned it. {}", remedy(record, server))
    })
}

/// Returns what to do about another server.
fn remedy(record: &MachineRecord, server: Ipv4Addr) -> String {
    let (mac, interface) = (record.machine.mac, &record.machine.site.interface);
    format!(
        "Find {server} (arping -I {interface} {server}) and switch its DHCP off, or exclude this machine there (dnsmasq: \
         dhcp-host={mac},ignore). If that server is to give the addresses, run pxed with --mode proxy beside it."
    )
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{super::diagnose, *};
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*},
        model::{
            event::{ClientKind, Signs},
            failure::ASKED_FROM,
            images::Images,
        },
    };

    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    /// Returns the diagnosis two seconds after the last of these events.
    fn explained(events: &[EventKind]) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
        let last = record.events.last().map_or(at(0.0), |event| event.at);
        let Diagnosis { reached, waits_for, advice } =
            diagnose(&record, &Images::default(), last + Duration::from_secs(2));
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    #[test]
    fn other_server_is_named_with_what_to_do() {
        for (client, who) in [(Pxe, "Its firmware"), (Ipxe, "iPXE")] {
            let text = explained(&chooses_another(client));
            for part in [
                who,
                "took the offer of 10.0.0.7 (another DHCP server on eth1).",
                "arping -I eth1 10.0.0.7",
                "dhcp-host=52:54:00:00:00:01,ignore",
                "--mode proxy",
            ] {
                assert!(text.contains(part), "no {part} in {text}");
            }
        }
    }

    #[test]
    fn system_that_takes_another_address_is_told_from_one_that_does_not_ask() {
        let booted = [&dora(Ipxe)[..], &load(Script), &load(Kernel), &load(Initramfs)].concat();
        let text = explained(&[&booted[..], &chooses_another(Plain)].concat());
        assert!(text.contains("starts Talos") && text.contains("2 s ago and took the offer of 10.0.0.7"), "{text}");
        // The last REQUEST counts.
        let corrected = explained(&[&chooses_another(Pxe)[..], &dora(Pxe)].concat());
        assert!(!corrected.contains("10.0.0.7"), "{corrected}");
        let silent = explained(&booted);
        assert!(!silent.contains("another DHCP server"), "{silent}");
    }

    /// Returns the request to the server beside which pxed runs.
    fn requests_of_expected(client: ClientKind) -> EventKind {
        EventKind::Request {
            client,
            client_architecture: (client != Plain).then_some(7),
            of_other_server: true,
            other_server: Some(OTHER),
            signs: Signs::None,
        }
    }

    #[test]
    fn server_beside_which_pxed_runs_is_no_fault() {
        let offered = &proxied(Pxe)[..2];
        let text = explained(&[offered, &[requests_of_expected(Pxe)]].concat());
        assert!(text.contains("The DHCP server 10.0.0.7 assigns it.") && !text.contains("dnsmasq"), "{text}");
        // The firmware's own stack has an address, too, while its PXE still asks.
        for asked in [&offered[..1], offered] {
            let text = explained(&[asked, &[discover(Plain), requests_of_expected(Plain)]].concat());
            assert!(text.contains("Its firmware asked for an address"), "{text}");
            for wrong in ["dnsmasq", "switch its DHCP off", "run pxed with", "acknowledgement"] {
                assert!(!text.contains(wrong), "{wrong} in {text}");
            }
        }
    }

    #[test]
    fn system_that_has_run_since_before_pxed_is_known_by_its_server() {
        let text = explained(&chooses_another(Plain));
        assert!(text.contains("took the offer of 10.0.0.7") && text.contains("dhcp-host="), "{text}");
        assert!(!text.contains("powered on"), "{text}");
        // The same for firmware, whose DISCOVER nobody has seen.
        let text = explained(&chooses_another(Pxe)[2..]);
        assert!(text.contains("took the offer of 10.0.0.7") && text.contains("dhcp-host="), "{text}");
    }

    #[test]
    fn server_that_assigned_another_address_is_named() {
        let refused = failed(Script, &format!("{ASKED_FROM} 10.0.0.99"));
        let text = explained(&[&chooses_another(Ipxe)[..], &[requested(Script), refused.clone()]].concat());
        assert!(text.contains("10.0.0.7, another DHCP server, assigned it.") && text.contains("dhcp-host="), "{text}");
        let text = explained(&[&proxied(Ipxe)[..2], &[requests_of_expected(Ipxe), refused.clone()]].concat());
        assert!(text.contains("reserve 10.0.0.1 for 52:54:00:00:00:01 there") && !text.contains("dnsmasq"), "{text}");
        // The last REQUEST was for pxed.
        let text = explained(&[&chooses_another(Pxe)[..], &dora(Ipxe), &[refused]].concat());
        assert!(text.contains("or a proxy or NAT is in between") && !text.contains("10.0.0.7"), "{text}");
    }
}
