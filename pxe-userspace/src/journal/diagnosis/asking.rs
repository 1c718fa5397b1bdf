//! The diagnosis of a machine that asks for an address, or has one and asks for nothing.

use std::time::Duration;

use super::{
    super::{
        machine_record::MachineRecord,
        stage::Stage,
        words::{human, plural},
    },
    attempt::Attempt,
    finding::Diagnosis,
    other_server,
    patience::PATIENCE,
    placement::Site,
    remarks::{boot_file, boots_by_http},
};
use crate::model::{
    event::{BootEvent, ClientKind, EventKind},
    failure::OTHER_OFFER,
};

/// Returns the diagnosis of a machine of which nothing was heard, or nothing that begins a boot.
pub(super) fn never_seen(record: &MachineRecord, attempt: &Attempt, since: Duration) -> Diagnosis {
    if let Some(other) = attempt.other_server.filter(|other| !other.is_expected) {
        return other_server::chosen(record, "It asked for an address", other);
    }
    let reached = match (record.boots, attempt.ignored) {
        (_, Some(reason)) => format!("A packet of it was left unanswered: {reason}."),
        _ if let Some(vlan) = attempt.other_vlan => {
            format!("It asked on VLAN {vlan}, on which pxed does not serve it.")
        }
        (0, None) if !record.events.is_empty() => {
            format!("It has not begun to boot in the {} since pxed started.", human(since))
        }
        (0, None) => format!("It has sent nothing in the {} since pxed started.", human(since)),
        (boots, None) => {
            let times = plural(boots as usize, "time", "times");
            format!("It booted {boots} {times} before. It has sent nothing in the {} since pxed started.", human(since))
        }
    };
    let Site { interface, address } = Site::of(record);
    if let Some(advice) = of_one_that_was_heard(record, attempt, interface) {
        return Diagnosis {
            reached,
            waits_for: "Its firmware to ask for an address.".to_owned(),
            advice: vec![advice],
        };
    }
    Diagnosis {
        reached,
        waits_for: "Its first DHCP packet.".to_owned(),
        advice: vec![
            "Is it powered on, and is network boot enabled and first in its boot order?".to_owned(),
            format!(
                "Is its cable in the right port of the switch, and is that port in the VLAN of {interface} ({address})? \
                 A machine behind a router needs a DHCP relay to {address}."
            ),
            format!(
                "Does the spec name the network card that boots? It says {}: compare with the firmware's setup or the BMC.",
                record.machine.macs().map(|mac| mac.to_string()).collect::<Vec<_>>().join(" and ")
            ),
        ],
    }
}

/// Returns the advice for a machine that has sent something that begins no boot, on its interface and since pxed started: it is on and
/// connected.
fn of_one_that_was_heard(record: &MachineRecord, attempt: &Attempt, interface: &str) -> Option<String> {
    let is_plain = |event: &BootEvent| matches!(event.kind, EventKind::Discover { client, .. } | EventKind::Request { client, .. } if client == ClientKind::Plain);
    let heard = &record.events[record.restored.min(record.events.len())..];
    if heard.is_empty() || attempt.other_vlan.is_some() || attempt.foreign_relay.is_some() {
        return None;
    }
    if attempt.ignored.is_some() {
        let mac = record.machine.mac;
        return Some(format!(
            "The packet reached {interface}, so power and cable are not the reason. pxed capture {mac} -o FILE.pcapng shows it: see which \
             program of the machine sends it, or which host in its name."
        ));
    }
    heard.iter().any(is_plain).then(|| {
        "It is on and connected, so its firmware does not try the network: enable network boot, first in its boot order, if it is to boot \
         from pxed."
            .to_owned()
    })
}

/// Returns the diagnosis of a machine that asks for an address.
pub(super) fn discovering(record: &MachineRecord, attempt: &Attempt) -> Diagnosis {
    let who = if record.stage <= Stage::Offered { "Its firmware" } else { "iPXE" };
    let times = attempt.discovers.max(1);
    let asked =
        format!("{who} asked for an address {times} {} in {}", plural(times, "time", "times"), human(attempt.lasted));
    let Site { interface, address } = Site::of(record);
    if let Some(reason) = attempt.ignored
        && attempt.offers == 0
        && !(reason == OTHER_OFFER && attempt.other_server.is_some())
    {
        return Diagnosis {
            reached: format!("{asked} and was left unanswered: {reason}."),
            waits_for: "An offer from pxed.".to_owned(),
            advice: vec!["Fix the cause above; the machine retries on its own.".to_owned()],
        };
    }
    if let Some(other) = attempt.other_server.filter(|other| !other.is_expected) {
        return other_server::chosen(record, &asked, other);
    }
    if attempt.requests > 0 {
        let mut advice = Vec::new();
        if attempt.nak.is_some() || attempt.ignored.is_some() || attempt.lasted > PATIENCE {
            advice.push(format!(
                "It may have chosen another server's offer: is there another DHCP server on {interface}? Exclude this machine \
                 there, or run pxed with --mode proxy beside it."
            ));
        }
        let refused = match (attempt.nak, attempt.ignored) {
            (Some(reason), _) => format!("; pxed refused: {reason}"),
            (None, Some(reason)) => format!("; pxed did not answer: {reason}"),
            (None, None) => String::new(),
        };
        let reached = format!("{asked} and requested one{refused}.");
        return Diagnosis { reached, waits_for: "The acknowledgement from pxed.".to_owned(), advice };
    }
    if attempt.is_proxied {
        let mut advice = Vec::new();
        if attempt.lasted > PATIENCE {
            advice.push(format!(
                "pxed offers boot files alone, since it runs with --mode proxy: does the DHCP server on {interface} have an address for this \
                 machine, and does its offer arrive? Check with tcpdump -ni {interface} port 67."
            ));
        }
        let reached = format!("{asked}; pxed offered its boot file, and another DHCP server is to give the address.");
        return Diagnosis { reached, waits_for: "Its request to that server.".to_owned(), advice };
    }
    if attempt.lasted < PATIENCE && attempt.discovers <= 1 {
        return Diagnosis {
            reached: format!("{asked}; pxed offered {}.", record.machine.address),
            waits_for: "Its request for that address.".to_owned(),
            advice: Vec::new(),
        };
    }
    Diagnosis {
        reached: format!("{asked}, was offered {} and never requested it.", record.machine.address),
        waits_for: "Its request for that address.".to_owned(),
        advice: vec![
            format!(
                "Another DHCP server on {interface} may answer too, and the machine takes its offer: exclude this machine \
                 there, or run pxed with --mode proxy beside it."
            ),
            format!(
                "The offer may not reach it: the switch port may not forward yet (enable PortFast), the way back may be in \
                 another VLAN, or the relay may be unreachable from {address}. pxed capture {mac} -o FILE.pcapng shows what left this \
                 host, which XDP hides from tcpdump here; tcpdump near the machine shows what arrives.",
                mac = record.machine.mac
            ),
        ],
    }
}

/// Returns the diagnosis of firmware that has an address.
pub(super) fn addressed(record: &MachineRecord, since: Duration) -> Diagnosis {
    let Site { address, .. } = Site::of(record);
    let by_http = boots_by_http(record);
    let waits_for = match boot_file(record) {
        Some(file) if by_http => format!("Its request for {file} by HTTP."),
        Some(file) => format!("Its request for {file}."),
        None => "Its request for a loader.".to_owned(),
    };
    let mut advice = Vec::new();
    if since > PATIENCE {
        let port = if by_http { "TCP, the port of boot HTTP (--http-port)" } else { "UDP port 69" };
        advice.push(format!("Do all firewalls, on the way and on this host, let it reach {address}, {port}?"));
        if by_http {
            advice.push(
                "Does its setup allow HTTP boot without TLS? Some firmware takes https:// alone, and goes on without a word.".to_owned(),
            );
        }
        advice.push(
            "Another DHCP or PXE server may have answered as well. Some firmware gives up when it gets two offers."
                .to_owned(),
        );
        advice.push(
            "Do its mask and gateway in the spec (meta.subnet, meta.gateway) let it reach that address?".to_owned(),
        );
    }
    Diagnosis { reached: format!("Its firmware has had an address for {}.", human(since)), waits_for, advice }
}

/// Returns the diagnosis of iPXE that has an address.
pub(super) fn ipxe_addressed(since: Duration) -> Diagnosis {
    let mut advice = Vec::new();
    if since > PATIENCE {
        advice.extend(script_out_of_reach());
    }
    Diagnosis {
        reached: format!("iPXE has had an address for {}.", human(since)),
        waits_for: "Its request for the boot script.".to_owned(),
        advice,
    }
}

/// Returns what to do about an iPXE that has an address and does not ask for its script.
pub(super) fn script_out_of_reach() -> [String; 2] {
    [
        "Do all firewalls let it reach the HTTP port of pxed (--http-port) on this host?",
        "An iPXE that was built without HTTP cannot fetch its script: replace it with the one that pxed serves.",
    ]
    .map(str::to_owned)
}
