//! What was heard of a machine elsewhere: at another interface than its cluster's, or of a stranger that is probably meant by the spec.

use std::time::SystemTime;

use super::{
    super::{
        machine_record::MachineRecord,
        stage::Stage,
        words::{elapsed, human, plural},
    },
    finding::Diagnosis,
};
use crate::model::strangers::{Overheard, Question};

/// The strangers that are named.
const NAMED: usize = 2;

/// Adds what was heard elsewhere.
pub(super) fn remark(diagnosis: &mut Diagnosis, record: &MachineRecord, now: SystemTime) {
    let machine = &record.machine;
    let latest = record.events.last().map(|event| event.at);
    if let Some(Overheard { last, count, .. }) = &record.astray
        // An operating system may well use other ports, and a machine may have been moved to the right one.
        && !matches!(record.stage, Stage::Running | Stage::Up | Stage::OnDisk)
        && latest.is_none_or(|latest| latest <= last.at)
    {
        let ago = human(elapsed(last.at, now));
        let times = plural(usize::try_from(*count).unwrap_or(usize::MAX), "time", "times");
        let place = place(last);
        let expected = &machine.site.interface;
        let problem = last.problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
        let heard = format!(
            "It asks on {place}{problem}; the spec expects {expected}. It asked there {count} {times}, the last {ago} ago."
        );
        let advice = format!(
            "Move its cable, or the VLAN of its switch port, to the network of {expected}, or name {} as pxeServerSpec.interface of cluster {} \
             ({}).",
            last.interface,
            machine.cluster,
            machine.source.in_words()
        );
        if record.stage == Stage::NeverSeen {
            *diagnosis = Diagnosis {
                reached: heard,
                waits_for: format!("Its first DHCP packet on {expected}."),
                advice: vec![advice],
            };
        } else {
            diagnosis.advice.insert(0, format!("{heard} {advice}"));
        }
    }
    if record.stage != Stage::NeverSeen {
        return;
    }
    for (place_in_list, (stranger, slip)) in record.near_misses.iter().take(NAMED).enumerate() {
        let Question { mac, at, .. } = stranger.last;
        let (ago, place) = (human(elapsed(at, now)), place(&stranger.last));
        let meant = format!(
            "{mac}, {}, asked on {place} {ago} ago. If that is this machine, write in {}: macAddress: {mac}",
            slip.in_words(),
            machine.source.in_words()
        );
        diagnosis.advice.insert(place_in_list.min(diagnosis.advice.len()), meant);
    }
}

/// Returns the place of a question in words: its interface, VLAN and relay.
fn place(question: &Question) -> String {
    let vlan = question.vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
    let relay = question.relay.map(|relay| format!(", through the relay {relay}")).unwrap_or_default();
    format!("{}{vlan}{relay}", question.interface)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::diagnose, *};
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*},
        model::{event::EventKind, images::Images, near_miss::Slip},
    };

    fn heard(mac: &str, interface: &str) -> Overheard {
        let last = Question {
            at: at(48.0),
            mac: mac.parse().unwrap(),
            interface: interface.into(),
            vlan: Some(7),
            relay: None,
            client: Some(Pxe),
            architecture: Some(7),
            problem: None,
        };
        Overheard { last, first_seen: at(1.0), count: 3 }
    }

    fn explained(events: &[EventKind], astray: Option<Overheard>, near_misses: Vec<(Overheard, Slip)>) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
        let record = MachineRecord { astray, near_misses, ..record };
        let Diagnosis { reached, waits_for, advice } = diagnose(&record, &Images::default(), at(60.0));
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    #[test]
    fn machine_on_the_wrong_port_is_told_apart_from_a_silent_one() {
        let astray = || Some(heard("52:54:00:00:00:01", "prov1"));
        let text = explained(&[], astray(), Vec::new());
        for part in
            ["It asks on prov1, VLAN 7; the spec expects eth1.", "3 times, the last 12 s ago", "lab.yaml line 12"]
        {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains("powered on"), "{text}");
        let both = explained(&[discover(Pxe), offer()], astray(), Vec::new());
        assert!(both.contains("It asks on prov1") && both.contains("asked for an address"), "{both}");
        // It runs, or has asked here since.
        let running = explained(&dora(Plain), astray(), Vec::new());
        assert!(!running.contains("prov1"), "{running}");
    }

    #[test]
    fn stranger_that_is_probably_meant_is_named_first() {
        let near = || vec![(heard("52:54:00:00:00:09", "prov0"), Slip::OneDigit)];
        let text = explained(&[], None, near());
        let expected = "| 52:54:00:00:00:09, one digit off, asked on prov0, VLAN 7 12 s ago. If that is this machine, write in lab.yaml line 12: \
                        macAddress: 52:54:00:00:00:09 | ";
        assert!(text.contains(expected), "{text}");
        let heard_itself = explained(&[discover(Pxe), offer()], None, near());
        assert!(!heard_itself.contains("one digit off"), "{heard_itself}");
    }
}
