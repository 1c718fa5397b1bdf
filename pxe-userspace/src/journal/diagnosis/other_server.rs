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
            event::{EventKind, Signs},
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

    #[test]
    fn server_beside_which_pxed_runs_is_no_fault() {
        let mut events = proxied(Pxe);
        events.pop();
        events.push(EventKind::Request {
            client: Pxe,
            client_architecture: Some(7),
            of_other_server: true,
            other_server: Some(OTHER),
            signs: Signs::None,
        });
        let text = explained(&events);
        assert!(text.contains("The DHCP server 10.0.0.7 assigns it.") && !text.contains("dnsmasq"), "{text}");
    }
}
