use std::{net::Ipv4Addr, sync::Arc};

use super::*;
use crate::{
    journal::{
        fleet::Fleet,
        remembered::State,
        samples::{self, *},
    },
    model::{
        event::{BootEvent, ClientKind, Signs},
        failure::{
            ALTERED, ASKED_FROM, CHANGED, FELL_SILENT, LINKS_IN_A_CIRCLE, NO_SUCH_FILE, OUTSIDE, UNREADABLE,
            UNVERIFIED, WRONG_ARCHITECTURE,
        },
        inventory::Machine,
    },
};

/// Returns the diagnosis `later` seconds after the last of these events, which are a tenth of a second apart.
fn after(events: &[EventKind], later: f64) -> Diagnosis {
    let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
    let events = timed(MAC, events.iter().cloned());
    for event in &events {
        fleet.apply(event);
    }
    let last = events.last().map_or(at(0.0), |event| event.at);
    diagnose(
        &fleet.machine(&Arc::new(machine(1)), usize::MAX),
        &Images::default(),
        last + Duration::from_secs_f64(later),
    )
}

fn text(diagnosis: &Diagnosis) -> String {
    format!("{} | {} | {}", diagnosis.reached, diagnosis.waits_for, diagnosis.advice.join(" | "))
}

fn unrequested(client: ClientKind) -> Vec<EventKind> {
    (0..3).flat_map(|_| [discover(client), offer()]).collect()
}

/// An installed machine may well use VLANs of its own, by the same network card.
#[test]
fn machine_that_asks_on_another_vlan_is_told_apart_from_a_silent_one() {
    let stray = || EventKind::OtherVlan { vlan: 100 };
    let asks_there = text(&after(&[stray(), stray()], 60.0));
    for part in ["It asked on VLAN 100", "pxed.dev/vlans: \"100\"", "switch port untagged", "eth1", "boot order"] {
        assert!(asks_there.contains(part), "no {part} in {asks_there}");
    }
    let both = text(&after(&[discover(Pxe), offer(), stray()], 60.0));
    assert!(both.contains("VLAN 100") && both.contains("was offered"), "{both}");
    let running = text(&after(&[&dora(Plain)[..], &[stray()]].concat(), 60.0));
    assert!(!running.contains("VLAN 100"), "{running}");
    let moved_on = text(&after(&[&[stray()][..], &dora(Pxe)].concat(), 60.0));
    assert!(!moved_on.contains("VLAN 100"), "{moved_on}");
}

/// Somebody corrected the firmware's setup, or the cabling, between two attempts.
#[test]
fn obstacle_of_an_earlier_attempt_is_forgotten() {
    let wrong = || EventKind::WrongArchitecture { client_architecture: 6 };
    let foreign = || EventKind::ForeignRelay { relay: Ipv4Addr::new(10, 9, 0, 1) };
    let of = |events: &[&[EventKind]]| text(&after(&events.concat(), 1.0));
    let named = |text: &str| (text.contains("32-bit x86 UEFI"), text.contains("The relay 10.9.0.1"));
    let hindered = [discover(Pxe), wrong(), foreign(), offer()];
    let again = [discover(Pxe), offer()];
    assert_eq!(named(&of(&[&hindered])), (true, true));
    assert_eq!(named(&of(&[&hindered, &hindered])), (true, true));
    assert_eq!(named(&of(&[&again, &hindered])), (true, true));
    for corrected in [&again[..], &dora(Pxe), &[&dora(Pxe)[..], &load(Loader)].concat(), &dora(HttpBoot)] {
        assert_eq!(named(&of(&[&hindered, corrected])), (false, false), "{corrected:?}");
    }
    // A plain client says nothing of the firmware's architecture, but does of the way.
    assert_eq!(named(&of(&[&hindered, &[discover(Plain), offer()]])), (true, false));
    assert_eq!(named(&of(&[&hindered, &[discover(Plain), foreign(), offer()]])), (true, true));
    // iPXE on the same firmware has the same architecture.
    assert_eq!(named(&of(&[&hindered, &load(Loader), &[discover(Ipxe), wrong(), offer()]])), (true, false));
}

#[test]
fn obstacle_is_named_with_advice() {
    let firmware = dora(Pxe);
    let to_ipxe = [&firmware[..], &load(Loader), &dora(Ipxe)].concat();
    let with = |more: &[EventKind]| [&to_ipxe[..], more].concat();
    let wrong = EventKind::WrongArchitecture { client_architecture: 11 };
    let ignored = EventKind::Ignored { reason: "its option 54 names another server" };
    let nak = EventKind::Nak { reason: "10.0.0.9 is not reserved for it" };
    let decline = EventKind::Decline { address: Ipv4Addr::new(10, 0, 0, 1) };
    let foreign = EventKind::ForeignRelay { relay: Ipv4Addr::new(10, 9, 0, 1) };
    let moved = [discover(Pxe), foreign, offer(), request(Pxe), ack(Pxe)];
    let cases: [(&str, Vec<EventKind>, f64, &[&str]); 34] = [
        (
            "nothing seen",
            vec![],
            0.0,
            &["It has sent nothing in the 60 s", "VLAN of eth1", "boot order", "52:54:00:00:00:01"],
        ),
        (
            "never requested",
            unrequested(Pxe),
            11.5,
            &["asked for an address 3 times in 12 s", "never requested", "Another DHCP server", "PortFast"],
        ),
        ("iPXE never requests", unrequested(Ipxe), 60.0, &["iPXE asked for an address 3 times", "Another DHCP server"]),
        ("unanswered", vec![discover(Pxe), ignored], 5.0, &["left unanswered: its option 54 names another server"]),
        (
            "refused",
            vec![discover(Pxe), offer(), request(Pxe), nak],
            5.0,
            &["pxed refused: 10.0.0.9", "another server's offer"],
        ),
        (
            "no loader asked for",
            firmware.to_vec(),
            60.0,
            &["request for ipxe-efi-x86_64.efi", "firewall", "UDP port 69", "10.255.0.1"],
        ),
        (
            "TFTP stalls",
            [&firmware[..], &[requested(Loader)]].concat(),
            60.0,
            &["loading its loader ipxe-efi-x86_64.efi by TFTP", "MTU", "firewall"],
        ),
        (
            "TFTP goes unanswered",
            [&firmware[..], &[requested(Loader), failed(Loader, FELL_SILENT)]].concat(),
            5.0,
            &["It failed", "MTU"],
        ),
        (
            "end of the loader unconfirmed",
            [&firmware[..], &[requested(Loader), samples::unconfirmed(Loader)]].concat(),
            60.0,
            &["sent the whole loader ipxe-efi-x86_64.efi by TFTP", "next step", "Secure Boot", "MTU"],
        ),
        (
            "loader missing",
            [&firmware[..], &[failed(Loader, NO_SUCH_FILE)]].concat(),
            5.0,
            &["is not among the artifacts"],
        ),
        ("loader elsewhere", [&firmware[..], &[failed(Loader, OUTSIDE)]].concat(), 5.0, &["itself into the artifacts"]),
        (
            "HTTP boot",
            dora(HttpBoot).to_vec(),
            60.0,
            &["request for ipxe-efi-x86_64.efi by HTTP.", "10.255.0.1, TCP, the port of boot HTTP", "https:// alone"],
        ),
        (
            "firmware without a loader",
            vec![
                discover(Pxe),
                EventKind::WrongArchitecture { client_architecture: 2 },
                offer(),
                request(Pxe),
                EventKind::Ack { address: Some(machine(1).address), client: Pxe, signs: Signs::None, boot_file: None },
            ],
            60.0,
            &["It failed", "Itanium (type 2), for which there is no iPXE", "correct the MAC (lab.yaml line 12)"],
        ),
        ("loader changed", [&firmware[..], &[failed(Loader, UNVERIFIED)]].concat(), 5.0, &["reading", "next attempt"]),
        ("loader altered", [&firmware[..], &[failed(Loader, ALTERED)]].concat(), 5.0, &["Delete", "--accept"]),
        ("loader in a circle", [&firmware[..], &[failed(Loader, LINKS_IN_A_CIRCLE)]].concat(), 5.0, &["in a circle"]),
        ("loader overwritten", [&firmware[..], &[failed(Loader, CHANGED)]].concat(), 5.0, &["rename it (mv)"]),
        ("loader unreadable", [&firmware[..], &[failed(Loader, UNREADABLE)]].concat(), 5.0, &["permissions"]),
        (
            "HTTP goes unanswered",
            with(&[failed(Kernel, &format!("{FELL_SILENT}: it read nothing for 60 s"))]),
            5.0,
            &["loss on the link"],
        ),
        (
            "script for another architecture",
            with(&[failed(Script, WRONG_ARCHITECTURE)]),
            5.0,
            &["lab.yaml line 12", "cpuArchitecture amd64"],
        ),
        ("loader does not start", [&firmware[..], &load(Loader)].concat(), 60.0, &["Secure Boot", "driver"]),
        ("loader starts", [&firmware[..], &load(Loader)].concat(), 5.0, &["iPXE to start"]),
        ("no script asked for", to_ipxe.clone(), 60.0, &["boot script", "HTTP port"]),
        (
            "script refused",
            with(&[failed(Script, &format!("{ASKED_FROM} 10.0.0.2, but only 10.0.0.1 gets it"))]),
            1.0,
            &["10.0.0.1 alone", "another address"],
        ),
        (
            "wrong architecture",
            with(std::slice::from_ref(&wrong)),
            1.0,
            &["ARM64 UEFI (type 11)", "lab.yaml line 12", "cpuArchitecture amd64"],
        ),
        (
            "32-bit firmware, at the first packet",
            vec![discover(Pxe), EventKind::WrongArchitecture { client_architecture: 6 }],
            1.0,
            &["32-bit x86 UEFI (type 6)", "iPXE cannot start a 64-bit kernel", "BIOS (CSM", "GRUB", "lab.yaml line 12"],
        ),
        (
            "32-bit firmware, later",
            vec![
                discover(Pxe),
                EventKind::WrongArchitecture { client_architecture: 15 },
                offer(),
                request(Pxe),
                ack(Pxe),
            ],
            1.0,
            &["HTTP boot (type 15)", "iPXE cannot start a 64-bit kernel", "BIOS (CSM"],
        ),
        (
            "wrong architecture, script shown",
            with(&[&[wrong][..], &load(Script)].concat()),
            1.0,
            &["cpuArchitecture amd64"],
        ),
        (
            "kernel stalls",
            with(&[&load(Script)[..], &[requested(Kernel)]].concat()),
            200.0,
            &["kernel /assets/vmlinuz", "loss on the link"],
        ),
        (
            "no system comes up",
            with(&[&load(Script)[..], &load(Kernel), &load(Initramfs)].concat()),
            200.0,
            &["starts Talos v1.13.0", "console", "50000"],
        ),
        (
            "sent to disk",
            [&dora(Ipxe)[..], &[EventKind::SentToDisk]].concat(),
            200.0,
            &["Its next boot is from the network.", "boot order"],
        ),
        (
            "moved to another rack",
            moved.to_vec(),
            1.0,
            &["The relay 10.9.0.1", "its address 10.0.0.1.", "lab.yaml line 12"],
        ),
        (
            "moved, and its loader never came",
            [&moved[..], &[requested(Loader), failed(Loader, "timed out: 5 tries")]].concat(),
            1.0,
            &["The relay 10.9.0.1"],
        ),
        ("address in use", [&firmware[..], &[decline]].concat(), 1.0, &["arping -I eth1 10.0.0.1"]),
    ];
    for (name, events, later, expected) in cases {
        let text = text(&after(&events, later));
        for words in expected {
            assert!(text.contains(words), "{name}: no “{words}” in: {text}");
        }
    }
}

#[test]
fn healthy_boot_needs_no_advice() {
    let boot = uefi_boot();
    for seen in 1..=boot.len() {
        let diagnosis = after(&boot[..seen], 1.0);
        assert!(diagnosis.advice.is_empty(), "after {:?}: {:?}", boot[seen - 1], diagnosis);
    }
}

#[test]
fn machine_that_keeps_coming_back_to_the_network_gets_advice() {
    let words = "booted from the network 2 times";
    let twice = [uefi_boot(), uefi_boot()].concat();
    let explained = text(&after(&twice, 1.0));
    assert!(explained.contains(words) && explained.contains("pxed hold 52:54:00:00:00:01"), "{explained}");
    let mut fleet = Fleet::new(&State::new(), at(0.0), 1);
    timed(MAC, twice).iter().for_each(|event| _ = fleet.apply(event));
    for policy in [BootPolicy::Always, BootPolicy::Once, BootPolicy::Hold] {
        let machine = Machine { policy, ..machine(1) };
        let explained = text(&diagnose(&fleet.machine(&Arc::new(machine), 64), &Images::default(), at(9.0)));
        assert!(!explained.contains(words), "{policy:?}: {explained}");
    }
}

#[test]
fn machine_that_is_kept_on_its_disk_has_a_reason() {
    let mut fleet = Fleet::new(&State::new(), at(0.0), 1);
    fleet.hold(MAC);
    let explained =
        |fleet: &Fleet| text(&diagnose(&fleet.machine(&Arc::new(machine(1)), 64), &Images::default(), at(1.0)));
    assert!(explained(&fleet).contains("it is held"), "{}", explained(&fleet));
    fleet.release(MAC);
    for event in timed(MAC, [&uefi_boot()[..], &dora(Pxe), &dora(Plain)].concat()) {
        fleet.apply(&event);
    }
    assert!(explained(&fleet).contains("seen to run from its own disk"), "{}", explained(&fleet));
    fleet.apply(&BootEvent { mac: MAC, at: at(9.0), origin: Origin::Machine, kind: discover(Pxe) });
    assert!(explained(&fleet).contains("At its next boot it is sent to its disk"), "{}", explained(&fleet));
}

#[test]
fn machine_that_was_heard_is_not_said_to_be_off() {
    let ignored = EventKind::Ignored { reason: "the packet is too short" };
    for (events, expected) in [
        (vec![], "Is it powered on"),
        (vec![ignored], "pxed capture 52:54:00:00:00:01"),
        (vec![discover(Plain), offer()], "enable network boot"),
    ] {
        let explained = text(&after(&events, 100.0));
        assert!(explained.contains(expected), "{explained}");
        assert_eq!(explained.contains("powered on"), events.is_empty(), "{explained}");
        assert_eq!(explained.contains("cable in the right port"), events.is_empty(), "{explained}");
    }
}

#[test]
fn hold_of_the_spec_is_not_said_to_end_by_a_release() {
    let sent = timed(MAC, [&dora(Pxe)[..], &[EventKind::SentToDisk]].concat());
    let mut fleet = Fleet::new(&State::new(), at(0.0), 1);
    sent.iter().for_each(|event| _ = fleet.apply(event));
    let explained = |fleet: &Fleet, policy, line| {
        let mut machine = Machine { policy, ..machine(1) };
        machine.source.line = line;
        text(&diagnose(&fleet.machine(&Arc::new(machine), 64), &Images::default(), at(1.0)))
    };
    let release = "To boot it from the network: pxed release 52:54:00:00:00:01";
    let in_file = explained(&fleet, BootPolicy::Hold, 12);
    assert!(
        !in_file.contains(release) && in_file.contains("pxed.dev/boot-policy in the spec (lab.yaml line 12"),
        "{in_file}"
    );
    let in_object = explained(&fleet, BootPolicy::Hold, 0);
    assert!(in_object.contains(&format!("{release}, if the annotation is that of its TalosMachine")), "{in_object}");
    fleet.hold(MAC);
    let by_person = explained(&fleet, BootPolicy::Auto, 12);
    assert!(by_person.contains(&format!("held by a person (pxed hold). {release}.")), "{by_person}");
    // After the release, no reason for the disk is left.
    fleet.release(MAC);
    let released = explained(&fleet, BootPolicy::Auto, 12);
    assert!(
        released.contains("Its next boot is from the network.") && !released.contains("sent there because"),
        "{released}"
    );
}

#[test]
fn name_that_firmware_changed_is_explained() {
    let asked = |path: &str| {
        let path: Arc<str> = Arc::from(path);
        let requested = EventKind::Requested { artifact: Loader, transport: Tftp, path: Arc::clone(&path) };
        let reason = Arc::from(NO_SUCH_FILE);
        let failed = EventKind::Failed { artifact: Loader, transport: Tftp, path: Arc::clone(&path), bytes: 0, reason };
        let took = Duration::from_millis(5);
        let done = EventKind::Done { artifact: Loader, transport: Tftp, path, bytes: 1000, took };
        let end = |end: EventKind| text(&after(&[&dora(Pxe)[..], &[requested.clone(), end]].concat(), 1.0));
        (end(done), end(failed))
    };
    let (served, refused) = asked("ipxe-efi-x86_64.efi\\xff");
    assert!(
        served.contains("option 67 as a C string") && served.contains("pxed reads the name as ipxe-efi-x86_64.efi")
    );
    assert!(
        refused.contains("C string") && refused.contains("ipxe-efi-x86_64.efi is not among the artifacts"),
        "{refused}"
    );
    let (_, refused) = asked("IPXE-EFI-X86_64.EFI");
    let copy = "Put a copy of ipxe-efi-x86_64.efi, or a link to it, at IPXE-EFI-X86_64.EFI";
    assert!(refused.contains("upper and lower case") && refused.contains(copy), "{refused}");
    let (served, refused) = asked("ipxe-efi-x86_64.efi");
    assert!(!served.contains("firmware reads") && refused.contains("ipxe-efi-x86_64.efi is not among"), "{refused}");
    // A name that is cut off is none of a loader, so its refusal is no failure.
    let requested = |path: &str| EventKind::Requested { artifact: Loader, transport: Tftp, path: Arc::from(path) };
    let cut = text(&after(&[&dora(Pxe)[..], &[requested("ipxe-efi-x86_64")]].concat(), 1.0));
    assert!(cut.contains("cuts the name off after 15 bytes"), "{cut}");
    let (_, refused) = asked("\\xff");
    assert!(refused.contains("without a name") && refused.contains("Give it a boot file"), "{refused}");
    // A machine that runs has no need of it, nor one that asks again.
    let path = Arc::from("ipxe-efi-x86_64.efi\\xff");
    let odd = EventKind::Requested { artifact: Loader, transport: Tftp, path };
    let boot = [&dora(Pxe)[..], &[odd], &load(Loader), &ipxe_boot()].concat();
    assert!(!text(&after(&boot, 1.0)).contains("C string"));
    let again = [&dora(Pxe)[..], &[requested("ipxe-efi-x86_64.efi\\xff")], &dora(Pxe)].concat();
    assert!(!text(&after(&again, 1.0)).contains("C string"));
}

#[test]
fn loader_that_is_not_ipxe_need_not_do_anything_more() {
    let named = |name: &str| {
        let boot_file = Some(BootFileName::OwnLoader(name.into()));
        let ack = EventKind::Ack {
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
            client: Pxe,
            signs: Signs::None,
            boot_file: boot_file.clone(),
        };
        let offer = EventKind::Offer { address: Some(Ipv4Addr::new(10, 0, 0, 1)), boot_file };
        [&[discover(Pxe), offer, request(Pxe), ack][..], &load(Loader)].concat()
    };
    let foreign = after(&named("shim/shimx64.efi"), 600.0);
    assert_eq!(foreign.reached, "Its firmware got the loader that the spec names, shim/shimx64.efi, 10 min ago.",);
    assert!(foreign.waits_for.starts_with("Its next step."), "{foreign:?}");
    assert!(!text(&foreign).contains("iPXE"), "{foreign:?}");
    assert_eq!(after(&named("shim/shimx64.efi"), 1.0).advice, [""; 0]);
    for ipxe in ["snponly-x86_64.efi", "vendor/ipxe.efi"] {
        assert!(after(&named(ipxe), 600.0).waits_for.starts_with("iPXE to start"), "{ipxe}");
    }
    let chain = |more: &[EventKind]| [&named("shim/shimx64.efi")[..], &load(Loader), more].concat();
    assert!(text(&after(&chain(&[]), 60.0)).contains("the loader that the spec names, shim/shimx64.efi"));
    let missing = EventKind::Failed {
        artifact: ArtifactKind::Other,
        transport: Tftp,
        path: "shim/grub.cfg-01".into(),
        bytes: 0,
        reason: NO_SUCH_FILE.into(),
    };
    let running = after(&chain(&[&[missing][..], &dora(Plain)].concat()), 5.0);
    assert!(running.reached.starts_with("An operating system that pxed did not serve has been running"), "{running:?}");
}

#[test]
fn machine_with_a_unified_kernel_image_is_explained() {
    let address = Some(Ipv4Addr::new(10, 0, 0, 1));
    let ack = || EventKind::Ack { address, client: HttpBoot, signs: Signs::None, boot_file: Some(BootFileName::Uki) };
    let told = [discover(HttpBoot), offer(), request(HttpBoot), ack()];
    let got = [&told[..], &load(Uki)].concat();
    let again = [&got[..], &[discover(Pxe), offer()]].concat();
    let cases: [(&str, Vec<EventKind>, f64, &[&str]); 6] = [
        ("told", told.to_vec(), 1.0, &["Its request for its unified kernel image by HTTP"]),
        ("never asks for it", told.to_vec(), 60.0, &["let it reach 10.255.0.1, TCP, the port of boot HTTP"]),
        ("loads", [&told[..], &[requested(Uki)]].concat(), 1.0, &["loading its unified kernel image /boot/"]),
        ("has it", got.clone(), 1.0, &["It got its unified kernel image", "starts Talos v1.13.0"]),
        ("does not start it", got.clone(), 60.0, &["may have refused", "--secure-boot-key", "Access Denied"]),
        ("asks again at once", again.clone(), 1.0, &["after it had got its unified kernel image", "--secure-boot-key"]),
    ];
    for (name, events, later, expected) in cases {
        let told = text(&after(&events, later));
        for words in expected {
            assert!(told.contains(words), "{name}: no “{words}” in: {told}");
        }
    }
    // A machine that starts Talos, restarts later, or goes on, has not refused it.
    let restarted = {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        for event in timed(MAC, got.clone()) {
            fleet.apply(&event);
        }
        fleet.apply(&BootEvent { mac: MAC, at: at(300.0), origin: Origin::Machine, kind: discover(HttpBoot) });
        text(&diagnose(&fleet.machine(&Arc::new(machine(1)), usize::MAX), &Images::default(), at(301.0)))
    };
    let ran = text(&after(&[&got[..], &dora(Plain), &[discover(Pxe)]].concat(), 1.0));
    let fresh = text(&after(&got, 1.0));
    let went_on = text(&after(&[&again[..], &load(Loader)].concat(), 1.0));
    for told in [restarted, ran, fresh, went_on] {
        assert!(!told.contains("refused") && !told.contains("--secure-boot-key"), "{told}");
    }
}

#[test]
fn last_exchange_of_a_plain_client_is_explained() {
    let netboot = uefi_boot();
    let after_power_on = |signs: Signs| [&netboot[..], &dora(Pxe), &plain(signs)].concat();
    let cases: [(&str, Vec<EventKind>, &[&str]); 7] = [
        (
            "AMT",
            after_power_on(Signs::None),
            &["without a sign of an operating system asked 90 s ago", "does not count", "Intel AMT"],
        ),
        ("another system", after_power_on(Signs::System), &["does not count", "when it prolongs its lease"]),
        ("it renews", after_power_on(Signs::Renewal), &["counts as proof that it runs from its disk"]),
        ("Talos", after_power_on(Signs::Talos), &["Talos asked 90 s ago, which counts as proof"]),
        ("an old system", [&dora(Pxe)[..], &plain(Signs::Talos)].concat(), &["never given its kernel"]),
        ("a loader", [&dora(Pxe)[..], &load(Loader), &plain(Signs::System)].concat(), &["its loader may ask"]),
        ("after a restart of pxed", plain(Signs::Talos).to_vec(), &["its firmware was not seen before"]),
    ];
    for (name, events, expected) in cases {
        let text = text(&after(&events, 90.0));
        for words in expected {
            assert!(text.contains(words), "{name}: no “{words}” in: {text}");
        }
    }
    // A machine that runs what pxed served needs no explanation, nor one whose firmware has asked since.
    for events in [netboot.clone(), [&after_power_on(Signs::Talos)[..], &dora(Pxe)].concat()] {
        let text = text(&after(&events, 90.0));
        assert!(!text.contains("count"), "{text}");
    }
}
