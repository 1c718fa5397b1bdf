use proptest::prelude::*;

use super::*;
use crate::journal::samples::*;

/// The stages that a sequence goes through, repeats left out.
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
fn whole_boots() {
    let firmware = ["discovering", "addressed", "loading-loader", "loader-done"];
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
    // Its offer came from another server; ours names the file (ProxyDHCP, port 4011).
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
        assert_eq!(stages(Stage::Waiting, &events), expected, "{name}");
    }
}

#[test]
fn sequences() {
    let wrong = EventKind::WrongArchitecture { client_architecture: 11 };
    let decline = EventKind::Decline { address: [10, 0, 0, 1].into() };
    let cases: [(&str, Stage, Vec<EventKind>, &[&str]); 21] = [
        ("a reboot starts over", Stage::Running, vec![discover(Pxe)], &["discovering"]),
        ("a reboot of ROM iPXE too", Stage::OnDisk, vec![discover(Ipxe)], &["ipxe-discovering"]),
        ("renewals change nothing", Stage::Running, vec![request(Plain), ack(Plain)], &["running"]),
        ("renewals of an installed system", Stage::OnDisk, vec![request(Plain), ack(Plain)], &["on-disk"]),
        (
            "pxed was restarted, then a renewal",
            Stage::Waiting,
            vec![request(Plain), ack(Plain)],
            &["waiting", "running"],
        ),
        ("pxed was restarted between OFFER and REQUEST", Stage::Waiting, vec![request(Pxe)], &["discovering"]),
        (
            "told to boot from disk, and does",
            Stage::Scripted,
            [&[EventKind::SentToDisk][..], &dora(Plain)].concat(),
            &["sent-to-disk", "on-disk"],
        ),
        (
            "PXE is skipped",
            Stage::Waiting,
            [&dora(Pxe)[..], &dora(Plain)].concat(),
            &["discovering", "addressed", "on-disk"],
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
fn names_are_read_back() {
    for stage in Stage::ALL {
        assert_eq!(stage.name().parse(), Ok(stage));
    }
    assert_eq!("lost".parse::<Stage>(), Err(UnknownStage));
    assert!(Stage::ALL.windows(2).all(|pair| pair[0] < pair[1]));
}

proptest! {
    /// Whatever happened before, a new power cycle begins at the beginning.
    #[test]
    fn a_discover_of_the_firmware_starts_over(events in proptest::collection::vec(any_event(), 0..40)) {
        let stage = events.iter().fold(Stage::Waiting, Stage::after);
        prop_assert_eq!(stage.after(&discover(Pxe)), Stage::Discovering);
    }

    /// What repeats does not move a machine to and fro.
    #[test]
    fn the_same_event_twice_is_as_once(events in proptest::collection::vec(any_event(), 1..40)) {
        let mut stage = Stage::Waiting;
        for event in &events {
            stage = stage.after(event);
            prop_assert_eq!(stage.after(event), stage, "{:?}", event);
        }
    }
}
