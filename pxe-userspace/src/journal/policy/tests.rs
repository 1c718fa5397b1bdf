use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use Disposition::{Disk, Network};
use pxe_common::MacAddr;

use super::*;
use crate::{
    journal::{
        every_event::{every, every_event},
        fleet::Fleet,
        remembered::State,
        samples::*,
    },
    model::event::{BootEvent, Signs},
    model::{inventory::Machine, policy::Disposition, testing::assert_golden},
};

/// A MAC address that no machine has.
const RELAY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 9]);

/// A machine and the journal's memory of it.
struct Scenario {
    fleet: Fleet,
    machine: Machine,
    saved: State,
}

impl Scenario {
    fn new(policy: BootPolicy) -> Self {
        let fleet = Fleet::new(&State::new(), SystemTime::UNIX_EPOCH, 1);
        Self { fleet, machine: Machine { policy, ..machine(1) }, saved: State::new() }
    }

    fn see(self, events: &[EventKind]) -> Self {
        self.see_from(Origin::Machine, events)
    }

    fn see_from(mut self, origin: Origin, events: &[EventKind]) -> Self {
        for event in timed(MAC, events.iter().cloned()) {
            self.fleet.apply(&BootEvent { origin, ..event });
        }
        self
    }

    /// Sees a boot whose files come by TFTP, whose senders nothing proves.
    fn see_by_tftp(mut self, events: &[EventKind]) -> Self {
        for event in events {
            let is_dhcp = matches!(
                event,
                EventKind::Discover { .. }
                    | EventKind::Offer { .. }
                    | EventKind::Request { .. }
                    | EventKind::Ack { .. }
            );
            let origin = if is_dhcp { Origin::Machine } else { Origin::Unproven };
            self = self.see_from(origin, std::slice::from_ref(event));
        }
        self
    }

    /// Ends pxed, by any means, and starts it again.
    fn restart(mut self) -> Self {
        if let Some(machines) = self.fleet.take_state() {
            self.saved = machines.into_iter().map(|(mac, remembered)| (mac.to_string(), remembered)).collect();
        }
        self.fleet = Fleet::new(&self.saved, SystemTime::UNIX_EPOCH, 1);
        self
    }

    fn sent_to(&self) -> Disposition {
        self.fleet.book().disposition(&self.machine)
    }
}

#[test]
fn disk_is_reached_only_with_proof() {
    let netboot = uefi_boot();
    let renewal = [request(Plain), ack(Plain)];
    let to_disk =
        [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &load(Script), &[EventKind::SentToDisk], &dora(Plain)].concat();
    let skipped = [&dora(Pxe)[..], &dora(Plain)].concat();
    let empty: &[EventKind] = &[];
    let to_disk_alone = &to_disk[..to_disk.len() - 1];
    let grub = [&dora(Pxe)[..], &load(Loader), &dora(Plain)].concat();
    let rom_skipped = [&ipxe_boot()[..], &dora(Ipxe), &dora(Plain)].concat();
    let flapped = dora(Plain);
    let elsewhere = [discover(Pxe), offer(), discover(Ipxe), offer()];
    let uki = uki_boot();
    let uki_lost = [&dora(HttpBoot)[..], &[requested(Uki), failed(Uki, "reset")], &dora(Plain)].concat();
    let http_skipped = [&dora(HttpBoot)[..], &dora(Plain)].concat();
    let cases: [(&str, &[&[EventKind]], Disposition); 16] = [
        ("it was netbooted by a unified kernel image", &[&uki, &renewal], Network),
        ("the same, installed, and HTTP boot is skipped at the next power-on", &[&uki, &http_skipped], Disk),
        ("its unified kernel image was lost, and an old system boots", &[&uki_lost], Network),
        ("netbooted again, by another node of the same fleet", &[&netboot, &elsewhere, &flapped], Network),
        ("nothing was seen", &[empty], Network),
        ("it was netbooted: Talos in maintenance mode", &[&netboot], Network),
        ("it renews for hours", &[&netboot, &renewal, &renewal], Network),
        ("its link flaps, or its lease ran out", &[&netboot, &flapped], Network),
        ("installed, PXE skipped at the next power-on", &[&netboot, &skipped], Disk),
        ("told to boot from disk, and it did", &[&to_disk], Disk),
        ("told to boot from disk, nothing came up yet", &[to_disk_alone], Network),
        ("an old system, never netbooted, PXE failed", &[&skipped], Network),
        ("an old system renews", &[&renewal], Network),
        ("netbooted, then GRUB of ours asks by itself", &[&netboot, &grub], Network),
        ("iPXE in ROM, skipped after an installation", &[&rom_skipped], Disk),
        ("netbooted again and again, PXE first", &[&netboot, &netboot, &netboot, &renewal], Network),
    ];
    for (name, parts, expected) in &cases {
        let events = parts.concat();
        assert_eq!(Scenario::new(BootPolicy::Auto).see(&events).sent_to(), *expected, "{name}");
        // The same holds with a restart of pxed after any of the events.
        for cut in 0..=events.len() {
            let scenario = Scenario::new(BootPolicy::Auto).see(&events[..cut]).restart().see(&events[cut..]);
            assert_eq!(scenario.sent_to(), *expected, "{name}, restarted after {cut} events");
        }
    }
}

/// Clients that ask after the firmware of a machine that was netbooted before, and where the machine then boots from.
#[test]
fn firmware_that_asks_with_the_cards_mac_is_no_proof_of_a_disk() {
    let netboot = uefi_boot();
    let power_on = dora(Pxe);
    let told = [&dora(Ipxe)[..], &load(Script), &[EventKind::SentToDisk]].concat();
    let asks = |signs: &[Signs]| signs.iter().flat_map(|&signs| plain(signs)).collect::<Vec<_>>();
    use Signs::*;
    let cases: [(&str, &[Signs], Disposition); 7] = [
        ("Intel AMT", &[None], Network),
        ("Intel AMT, which prolongs its lease for days", &[None, None, None, None], Network),
        ("a lifecycle tool that is a Linux, for some minutes", &[System, System], Network),
        ("another operating system, which renews", &[System, None, Renewal], Disk),
        ("another operating system, whose first request was lost", &[Renewal], Disk),
        ("Talos", &[Talos], Disk),
        ("Intel AMT and Talos", &[None, Talos, None], Disk),
    ];
    for (name, signs, expected) in cases {
        for before in [[&netboot[..], &power_on].concat(), told.clone()] {
            let events = [&before[..], &asks(signs)].concat();
            for cut in 0..=events.len() {
                let scenario = Scenario::new(BootPolicy::Auto).see(&events[..cut]).restart().see(&events[cut..]);
                assert_eq!(scenario.sent_to(), expected, "{name}, restarted after {cut} events");
            }
        }
    }
    // Beside another server, renewals are not seen.
    for (signs, expected) in [(None, Network), (System, Network), (Talos, Disk)] {
        let events = [&netboot[..], &proxied(Pxe), &[proxied_plain(signs)]].concat();
        assert_eq!(Scenario::new(BootPolicy::Auto).see(&events).sent_to(), expected, "{signs:?}");
    }
}

/// With `once`, a machine that loses power while it loads must come back to the network.
#[test]
fn firmware_that_asks_while_a_machine_loads_is_no_boot() {
    let loading = [&dora(Ipxe)[..], &load(Script), &load(Kernel), &[requested(Initramfs)]].concat();
    let chatter = [&loading[..], &plain(Signs::None)].concat();
    assert_eq!(Scenario::new(BootPolicy::Once).see(&chatter).sent_to(), Network);
    let boots = |events: &[EventKind]| {
        Scenario::new(BootPolicy::Once).see(events).fleet.machine(&Arc::new(machine(1)), 9).boots
    };
    assert_eq!((boots(&chatter), boots(&[&loading[..], &plain(Signs::System)].concat())), (0, 1));
}

/// The same holds beside another DHCP server, which gives the addresses and whose ACKs are not seen.
#[test]
fn proxy_mode_concludes_as_server_mode_does() {
    let boot = [
        &proxied(Pxe)[..],
        &load(Loader),
        &proxied(Ipxe),
        &load(Script),
        &load(Kernel),
        &load(Initramfs),
        &proxied(Plain),
    ]
    .concat();
    let skipped = [&boot[..], &proxied(Pxe), &proxied(Plain)].concat();
    let told = [&proxied(Ipxe)[..], &load(Script), &[EventKind::SentToDisk], &proxied(Plain)].concat();
    let foreign = [&proxied(Pxe)[..], &proxied(Plain)].concat();
    for (name, events, expected) in [
        ("netbooted", &boot, Network),
        ("installed, PXE skipped at the next power-on", &skipped, Disk),
        ("told to boot from disk, and it did", &told, Disk),
        ("an old system, never netbooted", &foreign, Network),
    ] {
        for cut in 0..=events.len() {
            let scenario = Scenario::new(BootPolicy::Auto).see(&events[..cut]).restart().see(&events[cut..]);
            assert_eq!(scenario.sent_to(), expected, "{name}, restarted after {cut} events");
        }
    }
}

#[test]
fn state_that_was_lost_proves_nothing() {
    let events = [&uefi_boot()[..], &[request(Plain), ack(Plain)]].concat();
    for cut in 0..=events.len() {
        // Nobody saw the events before the cut.
        let scenario = Scenario::new(BootPolicy::Auto).see(&events[cut..]);
        assert_eq!(scenario.sent_to(), Network, "seen from event {cut} on");
    }
}

#[test]
fn policy_decides_where_a_machine_boots_from() {
    for (boot, last) in [(uefi_boot(), Initramfs), (uki_boot(), Uki)] {
        let last_done = boot.iter().position(|event| *event == done(last)).unwrap();
        for (policy, before, after) in [
            (BootPolicy::Always, Network, Network),
            (BootPolicy::Once, Network, Disk),
            (BootPolicy::Auto, Network, Network),
            (BootPolicy::Hold, Disk, Disk),
        ] {
            let scenario = Scenario::new(policy).see(&boot[..last_done]).restart();
            assert_eq!(scenario.sent_to(), before, "{policy:?} before {last:?}");
            assert_eq!(scenario.see(&boot[last_done..]).restart().sent_to(), after, "{policy:?} after {last:?}");
        }
    }
}

/// By default, a disk that may be empty is not tried. `once` tries it, and a person can bring a machine back for which that was
/// too early. Each case is repeated with a restart of pxed after any event.
#[test]
fn firmware_that_asks_the_network_first_stays_with_it() {
    let boot = uefi_boot();
    let to_disk = [&dora(Pxe)[..], &[EventKind::SentToDisk]].concat();
    let on_disk = [&boot[..], &to_disk, &dora(Plain)].concat();
    let died_early = [&boot[..], &to_disk].concat();
    let cases = [
        ("maintenance mode", BootPolicy::Auto, boot.clone(), Network),
        ("power lost in maintenance mode", BootPolicy::Auto, [&boot[..], &dora(Pxe)].concat(), Network),
        ("installed, rebooted, again and again", BootPolicy::Auto, [&boot[..], &boot, &boot].concat(), Network),
        ("once, installed, and its disk boots", BootPolicy::Once, on_disk.clone(), Disk),
        ("once, then auto: it is known to run from its disk", BootPolicy::Auto, on_disk, Disk),
        ("once, and power lost before it was installed", BootPolicy::Once, died_early, Disk),
    ];
    for (name, policy, events, expected) in cases {
        for cut in 0..=events.len() {
            let mut scenario = Scenario::new(policy).see(&events[..cut]).restart().see(&events[cut..]).restart();
            // A configuration in its arguments makes Talos install itself, but does not prove that it has.
            for kernel_args in ["", "talos.config=http://10.0.0.254/c"] {
                scenario.machine.kernel_args = kernel_args.into();
                assert_eq!(scenario.sent_to(), expected, "{name}, restarted after {cut} events");
            }
            scenario.fleet.release(MAC);
            assert_eq!(scenario.restart().sent_to(), Network, "{name}, released");
        }
    }
}

#[test]
fn once_applies_without_the_event_of_the_initramfs() {
    let boot = [&dora(Ipxe)[..], &load(Script), &load(Kernel), &dora(Plain)].concat();
    assert_eq!(Scenario::new(BootPolicy::Once).see(&boot).sent_to(), Disk);
}

/// The loader gives up, and the old system on the disk asks for an address.
#[test]
fn machine_that_lost_its_kernel_or_initramfs_has_not_booted_it() {
    let loads =
        |last| [&dora(Ipxe)[..], &load(Script), &load(Kernel), &[requested(last), failed(last, "reset")]].concat();
    for last in [Kernel, Initramfs] {
        let lost = [&loads(last)[..], &dora(Plain)].concat();
        assert_eq!(Scenario::new(BootPolicy::Once).see(&lost).sent_to(), Network, "{last:?}");
        // It tries again, and gets it.
        let got = [&loads(last)[..], &load(Kernel), &load(Initramfs), &dora(Plain)].concat();
        assert_eq!(Scenario::new(BootPolicy::Once).see(&got).sent_to(), Disk, "{last:?}");
    }
    let lost = [&dora(HttpBoot)[..], &[requested(Uki), failed(Uki, "reset")]].concat();
    assert_eq!(Scenario::new(BootPolicy::Once).see(&lost).see(&dora(Plain)).sent_to(), Network);
    assert_eq!(Scenario::new(BootPolicy::Once).see(&lost).see(&load(Uki)).sent_to(), Disk);
    // An end that it did not confirm proves nothing, until its operating system does.
    let unconfirmed = [&dora(Ipxe)[..], &load(Kernel), &[requested(Initramfs), unconfirmed(Initramfs)]].concat();
    let scenario = Scenario::new(BootPolicy::Once).see(&unconfirmed);
    assert_eq!(scenario.sent_to(), Network);
    assert_eq!(scenario.see(&dora(Plain)).sent_to(), Disk);
}

#[test]
fn person_overrides_the_policy() {
    let mut held = Scenario::new(BootPolicy::Always);
    held.fleet.hold(MAC);
    let mut held = held.restart();
    assert_eq!(held.sent_to(), Disk, "a hold survives a restart");
    held.fleet.release(MAC);
    assert_eq!(held.restart().sent_to(), Network);

    let skipped = [&uefi_boot()[..], &dora(Pxe), &dora(Plain)].concat();
    let told = [&dora(Ipxe)[..], &[EventKind::SentToDisk], &dora(Plain)].concat();
    for installed in [skipped, told] {
        let mut scenario = Scenario::new(BootPolicy::Auto).see(&installed);
        assert_eq!(scenario.sent_to(), Disk);
        scenario.fleet.release(MAC);
        assert_eq!(scenario.sent_to(), Network);
        let scenario = scenario.restart().see(&[request(Plain), ack(Plain)]);
        assert_eq!(scenario.sent_to(), Network, "a renewal does not undo a release");
        assert_eq!(scenario.see(&uefi_boot()).sent_to(), Network);
    }
}

every! {
    /// Every cycle; one that is missing does not compile.
    CYCLES: Cycle { Unknown, Firmware, Loading, Netbooted, Fetched, SentToDisk }
}

/// Every event has the effect of the table in every cycle. `PXED_BLESS=1` rewrites the table; [`cycles_that_surprise_have_reasons`] has the reasons.
#[test]
fn cycles_are_those_of_the_table() {
    let mut table = String::from("The cycle after an event (row) in a cycle (column); a dot where it stays.\n\n");
    let row = |table: &mut String, name: &str, cells: [String; 6]| {
        let cells = cells.map(|cell| format!("{cell:12}"));
        writeln!(table, "{}", format!("{name:44}{}", cells.join("")).trim_end()).unwrap();
    };
    let cells = |cell: &dyn Fn(Cycle) -> String| -> [String; 6] {
        let cells: Vec<_> = CYCLES.iter().map(|&cycle| cell(cycle)).collect();
        cells.try_into().unwrap()
    };
    let after = |origin, event: &EventKind| {
        let event = event.clone();
        let completes = matches!(event, EventKind::Done { artifact: Initramfs, .. });
        move |cycle: Cycle| match cycle.after(origin, &event, completes) {
            same if same == cycle => "·".to_owned(),
            other => format!("{other:?}"),
        }
    };
    row(&mut table, "", cells(&|cycle| format!("{cycle:?}")));
    for (name, event) in every_event() {
        row(&mut table, &name, cells(&after(Origin::Machine, &event)));
    }
    table += "\nThe same if anybody may have made the event in the machine's name (TFTP); events that are not here change nothing. The last \
              byte of the initramfs stands for a whole boot.\n\n";
    row(&mut table, "", cells(&|cycle| format!("{cycle:?}")));
    for (name, event) in every_event() {
        let cells = cells(&after(Origin::Unproven, &event));
        if cells.iter().any(|cell| cell != "·") {
            row(&mut table, &name, cells);
        }
    }
    table += "\nWhat an event proves in the cycle before it, of a machine that was never given its kernel, and of one that was; \
              events that are not here prove nothing.\n\n";
    row(&mut table, "", cells(&|cycle| format!("{cycle:?}")));
    for (name, event) in every_event() {
        for booted in [false, true] {
            let proves = |cycle: Cycle| {
                let mut book = PolicyBook::default();
                if booted {
                    book.booted.insert(MAC);
                }
                let before = book.clone();
                let completes = matches!(event, EventKind::Done { artifact: Initramfs, .. });
                let by = |origin| BootEvent { mac: MAC, at: at(0.0), origin, kind: event.clone() };
                for origin in [Origin::Unproven, Origin::Unanswered, Origin::Relay(RELAY), Origin::Other(RELAY)] {
                    assert!(!observe(&mut book, MAC, cycle, &by(origin), completes), "{name} {cycle:?} {origin:?}");
                }
                assert_eq!(book, before, "{name} {cycle:?}");
                let proven = by(Origin::Machine);
                assert_eq!(observe(&mut book, MAC, cycle, &proven, completes), book != before, "{name} {cycle:?}");
                assert_eq!(book.overrides, before.overrides, "{name} {cycle:?}");
                match (book.reached_disk.contains(&MAC), book.booted.contains(&MAC)) {
                    (true, now) => {
                        assert_eq!(now, booted, "{name} {cycle:?}");
                        "disk".to_owned()
                    }
                    (false, true) if !booted => "booted".to_owned(),
                    (false, _) => "·".to_owned(),
                }
            };
            let cells = cells(&proves);
            if cells.iter().any(|cell| cell != "·") {
                row(&mut table, &if booted { format!("{name}, booted") } else { name.clone() }, cells);
            }
        }
    }
    assert_golden("src/journal/policy/cycles.txt", &table);
}

/// The transitions of the table that a reader may take for mistakes, each with its reason.
#[test]
fn cycles_that_surprise_have_reasons() {
    use Cycle::*;
    for (from, event, to, reason) in [
        (Netbooted, discover(Pxe), Firmware, "the next system has not been seen yet"),
        (SentToDisk, discover(Pxe), Firmware, "its disk did not boot, or it was powered on again"),
        (Firmware, discover(Ipxe), Loading, "another node gave it iPXE, and may give it a kernel"),
        (Netbooted, discover(Ipxe), Firmware, "iPXE in the card's ROM begins a boot"),
        (Unknown, discover(Ipxe), Firmware, "the same"),
        (Netbooted, discover(Plain), Netbooted, "its link flaps, or its lease ran out"),
        (Unknown, request(Pxe), Unknown, "its DISCOVER was not seen, so earlier steps may be missing too"),
        (Unknown, requested(Loader), Unknown, "the same"),
        (Unknown, requested(Kernel), Netbooted, "whatever came before, our kernel comes now"),
        (SentToDisk, requested(Script), SentToDisk, "the script is what tells it to boot from its disk"),
        (Netbooted, requested(Loader), Netbooted, "firmware asks by DHCP first; the curl of an operator does not"),
        (Netbooted, failed(Kernel, "reset"), Loading, "its loader may give up and start something else"),
        (Netbooted, failed(Loader, "silent"), Netbooted, "a transfer that was given up long ago"),
        (Firmware, failed(Kernel, "404"), Firmware, "its request was not seen, and it has nothing of ours"),
        (Netbooted, unconfirmed(Initramfs), Netbooted, "it has asked for our kernel, and may have it whole"),
        (Firmware, unconfirmed(Loader), Firmware, "the request before it says more"),
        (Netbooted, EventKind::Release, Netbooted, "it shuts down; its firmware will ask"),
        (Netbooted, EventKind::Decline { address: [10, 0, 0, 1].into() }, Netbooted, "it still runs our kernel"),
    ] {
        assert_eq!(from.after(Origin::Machine, &event, false), to, "{event:?} in {from:?}: {reason}");
    }
}

#[test]
fn machines_do_not_mix() {
    let mut fleet = Fleet::new(&State::new(), SystemTime::UNIX_EPOCH, 2);
    let other = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
    for (mac, kind) in [(MAC, EventKind::SentToDisk), (other, ack(Plain)), (other, done(Initramfs))] {
        fleet.apply(&BootEvent { mac, at: at(0.0), origin: Origin::Machine, kind });
    }
    assert_eq!(fleet.book().disposition(&machine(1)), Network);
    assert_eq!((fleet.book().booted.contains(&MAC), fleet.book().booted.contains(&other)), (false, true));
}

/// Datagrams and frames that anybody can send in a machine's name. Under each policy, at each point of each story, they must not decide where it boots.
#[test]
fn forged_frames_and_transfers_send_no_machine_to_its_disk() {
    let system = dora(Plain);
    let boot = uefi_boot();
    let to_disk = [&dora(Pxe)[..], &[EventKind::SentToDisk], &dora(Plain)].concat();
    let forged = [
        [&dora(Pxe)[..], &system].concat(),
        to_disk.clone(),
        boot.clone(),
        uki_boot(),
        [&load(Kernel)[..], &load(Initramfs)].concat(),
        [&load(Uki)[..], &system].concat(),
        [&dora(Pxe)[..], &[EventKind::WrongArchitecture { client_architecture: 11 }]].concat(),
    ];
    let honest = [
        vec![],
        dora(Pxe).to_vec(),
        [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &load(Script)].concat(),
        system.to_vec(),
    ];
    for policy in [BootPolicy::Auto, BootPolicy::Once] {
        for before in &honest {
            for forged in &forged {
                for origin in [Origin::Unproven, Origin::Unanswered, Origin::Relay(RELAY), Origin::Other(RELAY)] {
                    let scenario =
                        || Scenario::new(policy).see(before).see_from(origin, forged).see_from(origin, forged);
                    assert_eq!(
                        scenario().sent_to(),
                        Network,
                        "{policy:?}: {before:?}, then {forged:?} from {origin:?}"
                    );
                    let saved = scenario().restart().saved;
                    let remembered = saved.get(&MAC.to_string()).copied().unwrap_or_default();
                    assert!(!remembered.booted && !remembered.reached_disk && remembered.boots == 0, "{remembered:?}");
                    assert_eq!(scenario().restart().sent_to(), Network);
                }
            }
        }
    }
}

/// A machine that was netbooted once, and whose next boot somebody pretends to be a start from its disk.
#[test]
fn forged_frames_do_not_end_a_cycle() {
    for origin in [Origin::Relay(RELAY), Origin::Other(RELAY)] {
        let events = [&dora(Pxe)[..], &[EventKind::SentToDisk]].concat();
        let scenario = Scenario::new(BootPolicy::Auto).see(&uefi_boot()).see_from(origin, &events).see(&dora(Plain));
        assert_eq!(scenario.sent_to(), Network, "{origin:?}: it still runs the kernel that pxed served");
        // Its own frames were long ago, and it may be behind a relay by now: what people see moves on, and nothing else does.
        let booted = Scenario::new(BootPolicy::Auto).see(&uefi_boot()).restart();
        let scenario = booted.see_from(origin, &events).restart().see(&dora(Plain)).see(&[request(Plain), ack(Plain)]);
        assert_eq!(scenario.sent_to(), Network, "{origin:?}, with the machine's own frames long ago");
    }
}

/// Machines that load everything by TFTP, as GRUB and U-Boot do.
#[test]
fn tftp_boot_counts_once_its_operating_system_asks() {
    let boot = uefi_boot();
    let system_at = boot.len() - dora(Plain).len();
    let skipped = [&dora(Pxe)[..], &dora(Plain)].concat();
    for cut in 0..=system_at {
        let scenario =
            Scenario::new(BootPolicy::Once).see_by_tftp(&boot[..cut]).restart().see_by_tftp(&boot[cut..system_at]);
        assert_eq!(scenario.sent_to(), Network, "nothing proves yet that it was the machine, cut at {cut}");
        let boots = scenario.fleet.machine(&Arc::new(machine(1)), 0).boots;
        assert_eq!(boots, u32::from(cut < system_at), "it is shown, and a restart forgets it");
    }
    let scenario = Scenario::new(BootPolicy::Once).see_by_tftp(&boot);
    assert_eq!(scenario.sent_to(), Disk);
    let scenario = scenario.restart();
    assert_eq!((scenario.sent_to(), scenario.fleet.machine(&Arc::new(machine(1)), 0).boots), (Disk, 1));
    // Installed, and its disk boots at the next power-on.
    let twice = [&boot[..], &skipped].concat();
    assert_eq!(Scenario::new(BootPolicy::Auto).see_by_tftp(&twice).sent_to(), Disk);
    // Netbooted again by TFTP, which must not be taken for its disk.
    let again = [&boot[..], &boot, &dora(Plain)].concat();
    for cut in 0..=again.len() {
        let scenario = Scenario::new(BootPolicy::Auto).see_by_tftp(&again[..cut]).restart().see_by_tftp(&again[cut..]);
        assert_eq!(scenario.sent_to(), Network, "restarted after {cut} events");
    }
    // Somebody fetches the files in its name, and then its old system boots: its own loader never came.
    let lost =
        [&dora(Pxe)[..], &load(Kernel), &[requested(Initramfs), failed(Initramfs, "reset")], &dora(Plain)].concat();
    assert_eq!(Scenario::new(BootPolicy::Once).see_by_tftp(&lost).sent_to(), Network);
}
