use proptest::prelude::*;

use super::*;
use crate::model::event::Signs;
use crate::{
    journal::{
        every_event::{every, every_event},
        samples::*,
    },
    model::testing::assert_golden,
};

/// Returns the stages that a sequence goes through, without repetitions.
fn stages(from: Stage, events: &[EventKind]) -> Vec<&'static str> {
    let mut stage = from;
    let mut seen = Vec::new();
    for event in events {
        stage = stage.after(event);
        if seen.last() != Some(&stage.name()) {
            seen.push(stage.name());
        }
    }
    seen
}

fn path_failed(path: &str, artifact: ArtifactKind) -> EventKind {
    EventKind::Failed { artifact, transport: Tftp, path: path.into(), bytes: 0, reason: "not found".into() }
}

const UP: EventKind = EventKind::Up { port: 50_000 };

const IPXE_STAGES: [&str; 8] = [
    "ipxe-discovering",
    "ipxe-addressed",
    "scripted",
    "loading-kernel",
    "kernel-done",
    "loading-initramfs",
    "booting",
    "running",
];

#[test]
fn boots_go_through_all_stages() {
    let firmware = ["discovering", "offered", "addressed", "loading-loader", "loader-done"];
    // OVMF asks for tsize, breaks off, and asks again; 750 ms later iPXE looks for autoexec.ipxe.
    let uefi_pxe = [
        &dora(Pxe)[..],
        &[requested(Loader), requested(Loader), done(Loader)],
        &dora(Ipxe),
        &[path_failed("autoexec.ipxe", Script)],
        &ipxe_boot()[4..],
    ]
    .concat();
    let http_boot = [&dora(HttpBoot)[..], &load(Loader), &ipxe_boot()].concat();
    // Another server offers the address, and pxed names the file (ProxyDHCP, port 4011).
    let proxy = [&[discover(Pxe), offer(), request(Pxe), ack(Pxe), ack(Pxe)][..], &load(Loader), &ipxe_boot()].concat();
    let files = [&load(Script)[..], &load(Kernel), &load(Initramfs)].concat();
    let proxy_alone = [&proxied(Pxe)[..], &load(Loader), &proxied(Ipxe), &files, &proxied(Plain)].concat();
    for (name, events, chained) in [
        ("UEFI PXE", uefi_pxe, true),
        ("UEFI HTTP boot", http_boot, true),
        ("ProxyDHCP", proxy, true),
        ("ProxyDHCP, nothing but requests to the other server", proxy_alone, true),
        ("BIOS with iPXE in ROM", ipxe_boot(), false),
    ] {
        let expected = if chained { [&firmware[..], &IPXE_STAGES].concat() } else { IPXE_STAGES.to_vec() };
        assert_eq!(stages(Stage::NeverSeen, &events), expected, "{name}");
    }
}

#[test]
fn sequences_lead_to_the_right_stages() {
    let wrong = EventKind::WrongArchitecture { client_architecture: 11 };
    let decline = EventKind::Decline { address: [10, 0, 0, 1].into() };
    let cases: [(&str, Stage, Vec<EventKind>, &[&str]); 24] = [
        ("a reboot starts over", Stage::Running, vec![discover(Pxe)], &["discovering"]),
        (
            "the offer is lost",
            Stage::Discovering,
            vec![offer(), discover(Pxe), offer(), request(Pxe), ack(Pxe)],
            &["offered", "addressed"],
        ),
        ("Talos answers", Stage::Running, vec![UP, request(Plain), ack(Plain)], &["up"]),
        ("Talos answered before a reboot", Stage::Discovering, vec![UP], &["discovering"]),
        ("a reboot of ROM iPXE too", Stage::OnDisk, vec![discover(Ipxe)], &["ipxe-discovering"]),
        ("renewals change nothing", Stage::Running, vec![request(Plain), ack(Plain)], &["running"]),
        ("renewals of an installed system", Stage::OnDisk, vec![request(Plain), ack(Plain)], &["on-disk"]),
        (
            "pxed was restarted, then a renewal",
            Stage::NeverSeen,
            vec![request(Plain), ack(Plain)],
            &["never-seen", "running"],
        ),
        ("pxed was restarted between OFFER and REQUEST", Stage::NeverSeen, vec![request(Pxe)], &["discovering"]),
        (
            "told to boot from disk, and does",
            Stage::Scripted,
            [&[EventKind::SentToDisk][..], &dora(Plain)].concat(),
            &["sent-to-disk", "on-disk"],
        ),
        (
            "PXE is skipped",
            Stage::NeverSeen,
            [&dora(Pxe)[..], &dora(Plain)].concat(),
            &["discovering", "offered", "addressed", "on-disk"],
        ),
        ("the journal missed the initramfs", Stage::KernelDone, dora(Plain).to_vec(), &["kernel-done", "running"]),
        ("done arrives late", Stage::LoadingInitramfs, vec![done(Kernel)], &["loading-initramfs"]),
        ("the loader's last ACK arrives late", Stage::IpxeDiscovering, vec![done(Loader)], &["ipxe-discovering"]),
        (
            "an abandoned transfer fails late",
            Stage::LoadingKernel,
            vec![failed(Loader, "timed out")],
            &["loading-kernel"],
        ),
        (
            "a transfer fails and is tried again",
            Stage::LoadingKernel,
            [&[failed(Kernel, "reset")][..], &load(Kernel)].concat(),
            &["failed", "loading-kernel", "kernel-done"],
        ),
        (
            "the loader's last ACK never comes, and iPXE starts",
            Stage::Addressed,
            [&[requested(Loader), unconfirmed(Loader)][..], &dora(Ipxe)].concat(),
            &["loading-loader", "ipxe-discovering", "ipxe-addressed"],
        ),
        ("a late unconfirmed end", Stage::LoadingKernel, vec![unconfirmed(Loader)], &["loading-kernel"]),
        ("the loader is missing", Stage::Addressed, vec![failed(Loader, "not found")], &["failed"]),
        ("the script is refused", Stage::IpxeAddressed, vec![failed(Script, "403")], &["failed"]),
        (
            "shim looks for what need not be there",
            Stage::LoadingLoader,
            vec![path_failed("revocations_sbat.efi", Loader), path_failed("/x/shim_certificate_0.efi", Loader)],
            &["loading-loader"],
        ),
        ("wrong architecture", Stage::Addressed, vec![wrong], &["failed"]),
        ("the address is in use", Stage::Addressed, vec![decline], &["failed"]),
        ("an operator reads the script with curl", Stage::Running, load(Script).to_vec(), &["running"]),
    ];
    for (name, from, events, expected) in cases {
        assert_eq!(stages(from, &events), expected, "{name}");
    }
}

#[test]
fn unified_kernel_image_is_kernel_and_initramfs_in_one() {
    let cases: [(&str, Stage, Vec<EventKind>, &[&str]); 5] = [
        (
            "UEFI HTTP boot",
            Stage::NeverSeen,
            uki_boot(),
            &["discovering", "offered", "addressed", "loading-kernel", "booting", "running"],
        ),
        (
            "it is on its way, and iPXE waits for it",
            Stage::Addressed,
            [&load(Loader)[..], &dora(Ipxe), &load(Script), &load(Uki)].concat(),
            &[
                "loading-loader",
                "loader-done",
                "ipxe-discovering",
                "ipxe-addressed",
                "scripted",
                "loading-kernel",
                "booting",
            ],
        ),
        (
            "the connection breaks, and the firmware asks for the rest",
            Stage::Addressed,
            [&[requested(Uki), failed(Uki, "reset")][..], &load(Uki)].concat(),
            &["loading-kernel", "failed", "loading-kernel", "booting"],
        ),
        ("a connection that was given up fails late", Stage::Booting, vec![failed(Uki, "reset")], &["booting"]),
        (
            "its end is not confirmed, and Talos runs",
            Stage::Addressed,
            [&[requested(Uki), unconfirmed(Uki)][..], &dora(Plain)].concat(),
            &["loading-kernel", "running"],
        ),
    ];
    for (name, from, events, expected) in cases {
        assert_eq!(stages(from, &events), expected, "{name}");
    }
}

#[test]
fn stage_names_are_read_back() {
    for stage in Stage::ALL {
        assert_eq!(stage.name().parse(), Ok(stage));
    }
    assert_eq!("lost".parse::<Stage>(), Err(UnknownStage));
    assert!(Stage::ALL.windows(2).all(|pair| pair[0] < pair[1]));
}

every! {
    /// Every stage; one that is missing does not compile.
    STAGES: Stage {
        NeverSeen, Discovering, Offered, Addressed, LoadingLoader, LoaderDone, IpxeDiscovering, IpxeAddressed, AwaitingFiles, Scripted, LoadingKernel,
        KernelDone, LoadingInitramfs, Booting, Running, Up, SentToDisk, OnDisk, Failed,
    }
}

/// The first letters of the first and the last word of a name, or of the only word.
fn code(stage: Stage) -> String {
    let name = stage.name();
    match name.rsplit_once('-') {
        Some((_, last)) => [&name[..1], &last[..1]].concat(),
        None => name[..2].to_owned(),
    }
}

/// Every event has the effect of the table at every stage. `PXED_BLESS=1` rewrites the table; [`transitions_that_surprise_have_reasons`] has the reasons.
#[test]
fn transitions_are_those_of_the_table() {
    use std::fmt::Write as _;
    assert_eq!(STAGES, Stage::ALL);
    let mut table = String::from("The stage after an event (row) at a stage (column); a dot where it stays.\n\n");
    for &stage in STAGES {
        writeln!(table, "{}  {stage}", code(stage)).unwrap();
    }
    let codes: Vec<_> = STAGES.iter().map(|&stage| code(stage)).collect();
    writeln!(table, "\n{:40}{}", "", codes.join(" ")).unwrap();
    for (name, event) in every_event() {
        let after = |&stage: &Stage| match stage.after(&event) {
            same if same == stage => "· ".to_owned(),
            other => code(other),
        };
        let row: Vec<_> = STAGES.iter().map(after).collect();
        writeln!(table, "{name:40}{}", row.join(" ").trim_end()).unwrap();
    }
    assert_golden("src/journal/stage/transitions.txt", &table);
}

/// The transitions of the table that a reader may take for mistakes, each with its reason.
#[test]
fn transitions_that_surprise_have_reasons() {
    let decline = || EventKind::Decline { address: [10, 0, 0, 1].into() };
    let to_other_server = |client| {
        let signs = if client == Plain { Signs::Talos } else { Signs::None };
        EventKind::Request { client, client_architecture: None, of_other_server: true, other_server: None, signs }
    };
    let chatter = || plain(Signs::None)[1].clone();
    let harmless = || path_failed("autoexec.ipxe", Script);
    use Stage::*;
    for (from, event, to, reason) in [
        (
            Booting,
            discover(Pxe),
            Discovering,
            "only firmware that starts sends it: the kernel crashed or the power failed",
        ),
        (Running, discover(Plain), Running, "a link that flaps makes a running system ask again"),
        (OnDisk, discover(Plain), OnDisk, "the same"),
        (Offered, discover(Pxe), Offered, "the offer was lost, and another follows"),
        (
            IpxeDiscovering,
            offer(),
            IpxeDiscovering,
            "iPXE takes an offer or says nothing, and no event tells whose offer it is",
        ),
        (Up, ack(Plain), Up, "a renewal"),
        (
            Up,
            EventKind::Failed {
                artifact: Config,
                transport: Http,
                path: "/talosconfig".into(),
                bytes: 0,
                reason: "404".into(),
            },
            Failed,
            "only Talos asks for it",
        ),
        (OnDisk, UP, OnDisk, "only what pxed booted is tried; it was sent to its disk meanwhile"),
        (NeverSeen, request(Pxe), Discovering, "pxed was started between OFFER and REQUEST"),
        (LoaderDone, request(Pxe), LoaderDone, "the DISCOVER before it says more"),
        (Discovering, to_other_server(Pxe), Addressed, "the ACK of the other server is not seen"),
        (Booting, to_other_server(Plain), Running, "the same"),
        (LoadingLoader, ack(Pxe), LoadingLoader, "ProxyDHCP acknowledges twice, the second time on port 4011"),
        (
            LoadingKernel,
            ack(Ipxe),
            LoadingKernel,
            "an ACK that events of other threads overtook does not move it backwards",
        ),
        (Running, ack(Pxe), Addressed, "the DISCOVER was not seen, and a running system is no PXE client"),
        (
            NeverSeen,
            ack(Plain),
            Running,
            "a renewal after a restart of pxed; the fleet knows if the system is on its disk",
        ),
        (LoadingKernel, ack(Plain), Running, "the events of the rest were lost when the journal lagged"),
        (Discovering, chatter(), Discovering, "Intel AMT asks with the card's MAC"),
        (LoadingKernel, chatter(), LoadingKernel, "the same"),
        (NeverSeen, chatter(), NeverSeen, "the same; it does not show that anything runs"),
        (LoaderDone, ack(Plain), OnDisk, "GRUB asks as an operating system does, and no kernel of ours was asked for"),
        (Scripted, ack(Plain), OnDisk, "its loader gave up, and the disk was the next boot entry"),
        (Failed, ack(Plain), OnDisk, "the same after a failure"),
        (Running, EventKind::Nak { reason: "" }, Running, "it asks again at once; the stage does not measure leases"),
        (Running, EventKind::Release, Running, "it shuts down, and pxed does not see when it is off"),
        (Running, decline(), Failed, "another host uses its address"),
        (
            LoadingInitramfs,
            requested(Loader),
            LoadingLoader,
            "its DISCOVER was lost: a loader is asked for once a boot",
        ),
        (Booting, requested(Script), Scripted, "iPXE starts over"),
        (Running, requested(Script), Running, "an operator reads the script with curl"),
        (Failed, requested(Script), Failed, "a machine of the wrong architecture gets a script that only says so"),
        (Failed, requested(Kernel), LoadingKernel, "the script tries again"),
        (
            Running,
            requested(Kernel),
            LoadingKernel,
            "its packets were lost; if it runs after all, its next renewal says so",
        ),
        (Running, requested(ArtifactKind::Other), Running, "assets are for running systems too"),
        (LoadingKernel, done(Loader), LoadingKernel, "the last acknowledgement of TFTP may be overtaken"),
        (LoadingInitramfs, done(Kernel), LoadingInitramfs, "the same"),
        (Running, done(Initramfs), Booting, "the request was lost when the journal lagged"),
        (LoadingLoader, unconfirmed(Loader), LoadingLoader, "the next step shows whether the machine has the file"),
        (IpxeDiscovering, failed(Loader, "silent"), IpxeDiscovering, "iPXE runs, so the transfer was only given up"),
        (KernelDone, failed(Kernel, "reset"), KernelDone, "the machine has it from another transfer"),
        (Addressed, failed(Initramfs, "404"), Failed, "it failed, however far the machine was believed to be"),
        (Scripted, harmless(), Scripted, "iPXE looks for a file that need not be there"),
        (
            Running,
            EventKind::WrongArchitecture { client_architecture: 11 },
            Failed,
            "only firmware sends its architecture",
        ),
        (Running, EventKind::SentToDisk, SentToDisk, "only firmware and iPXE are sent there"),
    ] {
        assert_eq!(from.after(&event), to, "{event:?} at {from}: {reason}");
    }
}

proptest! {
    /// A power cycle starts at the beginning, whatever happened before.
    #[test]
    fn discover_of_the_firmware_starts_over(events in proptest::collection::vec(any_event(), 0..40)) {
        let stage = events.iter().fold(Stage::NeverSeen, Stage::after);
        let expected = if stage == Stage::Offered { Stage::Offered } else { Stage::Discovering };
        prop_assert_eq!(stage.after(&discover(Pxe)), expected);
    }

    /// A repeated event does not move a machine to and fro.
    #[test]
    fn event_that_repeats_changes_nothing(events in proptest::collection::vec(any_event(), 1..40)) {
        let mut stage = Stage::NeverSeen;
        for event in &events {
            stage = stage.after(event);
            prop_assert_eq!(stage.after(event), stage, "{:?}", event);
        }
    }
}
