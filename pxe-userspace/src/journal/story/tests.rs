use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc};

use proptest::prelude::*;
use pxe_common::MacAddr;

use super::*;
use crate::{
    journal::{samples::*, testing::Records},
    model::{
        event::{ArtifactKind, BootEvent, EventKind, Signs},
        failure::{FELL_SILENT, NO_SUCH_FILE},
        inventory::Machine,
        testing::assert_golden,
    },
};

/// Returns the story of events at these seconds after midnight.
fn of(events: impl IntoIterator<Item = (f64, EventKind)>) -> Vec<String> {
    let events = events.into_iter().map(|(seconds, kind)| BootEvent {
        mac: MAC,
        at: at(seconds),
        origin: Origin::Machine,
        kind,
    });
    told(events.collect())
}

fn told(events: Vec<BootEvent>) -> Vec<String> {
    let record = Records::new().record(&Arc::new(machine(1)));
    story(&MachineRecord { events, ..record })
}

/// Returns events a tenth of a second apart, from this second after midnight on.
fn from(seconds: f64, kinds: impl IntoIterator<Item = EventKind>) -> Vec<(f64, EventKind)> {
    kinds.into_iter().enumerate().map(|(index, kind)| (seconds + index as f64 / 10.0, kind)).collect()
}

/// Returns the boots of the golden file.
fn boots() -> Vec<(&'static str, Vec<(f64, EventKind)>)> {
    let talos = [requested(Config), done(Config), EventKind::Up { port: 50_000 }];
    let without_answer = || EventKind::Ignored { reason: "for another server" };
    let no_kernel = failed(Kernel, NO_SUCH_FILE);
    let round = [&dora(Ipxe)[..], &load(Script), &[requested(Kernel), no_kernel]].concat();
    vec![
        ("UEFI PXE, until Talos is up", from(36_192.0, [&uefi_boot()[..], &talos].concat())),
        ("iPXE in the network card's ROM", from(0.0, ipxe_boot())),
        ("UEFI HTTP boot of a unified kernel image", from(0.0, uki_boot())),
        (
            "ProxyDHCP: another server gives the address",
            from(0.0, [&proxied(Pxe)[..], &load(Loader), &proxied(Ipxe), &load(Script), &proxied(Plain)].concat()),
        ),
        ("questions without an answer", [0.0, 4.0, 12.0, 28.0].map(|second| (second, discover(Pxe))).to_vec()),
        (
            "an offer that is not taken",
            [(0.0, discover(Pxe)), (0.002, offer()), (4.0, discover(Pxe)), (4.001, offer())].into(),
        ),
        (
            "a DISCOVER of another server's client",
            from(0.0, [discover(Pxe), without_answer(), without_answer(), without_answer()]),
        ),
        ("an offer of another server that is taken", from(0.0, chooses_another(Pxe))),
        ("a refused address", from(0.0, [request(Pxe), EventKind::Nak { reason: "another address is reserved" }])),
        (
            "a declined address",
            from(0.0, [&dora(Pxe)[..], &[EventKind::Decline { address: Ipv4Addr::new(10, 0, 0, 1) }]].concat()),
        ),
        (
            "a loader that does not arrive",
            from(0.0, [&dora(Pxe)[..], &[requested(Loader), failed(Loader, FELL_SILENT)]].concat()),
        ),
        (
            "interrupted in the initramfs",
            from(0.0, [&dora(Ipxe)[..], &load(Script), &load(Kernel), &[requested(Initramfs)]].concat()),
        ),
        (
            "a kernel that is missing, tried again and again",
            from(0.0, [&dora(Pxe)[..], &load(Loader), &round, &round, &round].concat()),
        ),
        (
            "files that need not be there",
            from(
                0.0,
                [
                    &dora(Pxe)[..],
                    &load(Loader),
                    &[EventKind::Requested { artifact: Script, transport: Tftp, path: "autoexec.ipxe".into() }],
                    &[EventKind::Failed {
                        artifact: Script,
                        transport: Tftp,
                        path: "autoexec.ipxe".into(),
                        bytes: 0,
                        reason: NO_SUCH_FILE.into(),
                    }],
                    &dora(Ipxe),
                ]
                .concat(),
            ),
        ),
        (
            "firmware of the wrong architecture",
            from(0.0, [&dora(Pxe)[..], &[EventKind::WrongArchitecture { client_architecture: 11 }]].concat()),
        ),
        ("held", from(0.0, [discover(Pxe), offer(), EventKind::SentToDisk, request(Pxe), ack(Pxe)])),
        ("an installed system, and its renewals", {
            let boot = [discover(Pxe), offer(), request(Pxe), ack(Pxe), EventKind::SentToDisk];
            let renewals =
                [1_800.0, 3_600.0, 5_400.0].into_iter().flat_map(|second| from(second, plain(Signs::Renewal)));
            from(0.0, [&boot[..], &dora(Plain)].concat()).into_iter().chain(renewals).collect()
        }),
        (
            "a file that is on its way",
            from(
                0.0,
                [
                    &dora(Ipxe)[..],
                    &[EventKind::Awaits { path: "vmlinuz".into(), state: "fetching", percent: Some(43) }],
                ]
                .concat(),
            ),
        ),
        (
            "left to another node",
            from(0.0, [EventKind::LeftToPeer { client: Pxe, address: Ipv4Addr::new(10, 255, 0, 2), chosen: true }]),
        ),
        ("three attempts", {
            let attempt = [&dora(Pxe)[..], &[requested(Loader), failed(Loader, FELL_SILENT)]].concat();
            [0.0, 60.0, 120.0].into_iter().flat_map(|second| from(second, attempt.clone())).collect()
        }),
        ("a boot after another one", from(0.0, [uefi_boot(), dora(HttpBoot).to_vec(), load(Uki).to_vec()].concat())),
        ("over midnight", [from(86_399.0, dora(Pxe)), from(86_402.0, load(Loader))].concat()),
    ]
}

/// Each story as a person reads it. `PXED_BLESS=1` rewrites the file.
#[test]
fn boots_are_told_as_in_the_golden_file() {
    let mut text = String::new();
    for (title, events) in boots() {
        writeln!(text, "{title}").unwrap();
        of(events).iter().for_each(|sentence| writeln!(text, "  {sentence}").unwrap());
    }
    assert_golden("src/journal/story/boots.txt", &text);
}

#[test]
fn silence_has_no_story() {
    assert!(told(Vec::new()).is_empty());
}

/// A machine that never gets anywhere must not fill a screen.
#[test]
fn story_has_a_limited_length() {
    let changing = (0..100).flat_map(|number| {
        let reason = format!("reason {number}");
        from(f64::from(number), [requested(Kernel), failed(Kernel, &reason)])
    });
    let long = of(from(0.0, dora(Ipxe)).into_iter().chain(changing));
    assert_eq!(long.len(), SENTENCES);
    assert_eq!(long[SENTENCES / 2], "… 62 more steps, which the events have");
    assert!(long[0].contains("iPXE") && long[SENTENCES - 1].ends_with("reason 99"), "{long:?}");
    let asks = of((0..200).map(|number| (f64::from(number), discover(Pxe))));
    assert_eq!(
        asks,
        ["00:00:00 x86-64 UEFI firmware on eth1 asked 200 times within 3 min for an address and got no answer"]
    );
}

#[test]
fn other_network_card_is_named() {
    let mac = MacAddr([2; 6]);
    let events = dora(Pxe).map(|kind| BootEvent { mac, at: at(0.0), origin: Origin::Machine, kind });
    let sentences = told(events.into());
    assert!(sentences[0].ends_with(", from its network card 02:02:02:02:02:02"), "{sentences:?}");
    assert_eq!(sentences.len(), 1);
}

#[test]
fn names_that_a_machine_chooses_cannot_control_a_terminal() {
    let path: Arc<str> = "a/\x1b[2J\nb".into();
    let kinds = [Loader, Kernel, ArtifactKind::Other];
    let events = kinds.map(|artifact| EventKind::Requested { artifact, transport: Tftp, path: Arc::clone(&path) });
    let sentences = of(from(0.0, events));
    assert_eq!(sentences.len(), 3);
    assert!(!sentences.concat().contains(char::is_control), "{sentences:?}");
}

proptest! {
    /// Any events in any order make a story of limited length, a line each, in which each sentence has its time.
    #[test]
    fn any_events_make_a_story(kinds in proptest::collection::vec(any_event(), 0..120)) {
        let machine = Arc::new(Machine { additional_macs: [MacAddr([2; 6])].into(), ..machine(1) });
        let record = Records::new().record(&machine);
        let sentences = story(&MachineRecord { events: timed(MAC, kinds), ..record });
        prop_assert!(sentences.len() <= SENTENCES);
        for sentence in sentences {
            prop_assert!(!sentence.contains('\n'), "{sentence}");
            prop_assert!(sentence.starts_with('…') || jiff::civil::Time::strptime("%H:%M:%S", &sentence[..8]).is_ok(), "{sentence}");
        }
    }
}
