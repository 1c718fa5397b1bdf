//! Loaders that lead nowhere, and those that cannot be had.

use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::fs::symlink};

use anyhow::Context as _;
use pxe_lab::cluster::{self, SERVER};

use super::{
    host::{BLOCK, FIRMWARE, IPXE, LOADER, Lab},
    says,
};

pub(crate) fn lead_nowhere() -> anyhow::Result<()> {
    let lab = Lab::new(8, 10_000)?;
    let [loops, c_string, upper_case, by_tftp, gone, outside, circle, unreadable] = &lab.hosts()?;
    let own = [(gone, "gone.efi"), (outside, "outside.efi"), (circle, "circle.efi"), (unreadable, "unreadable.efi")];
    let path = |name| lab.artifacts.path().join(name);
    symlink("/etc/hostname", path("outside.efi"))?;
    symlink("circle.efi", path("circle.efi"))?;
    fs::write(path("unreadable.efi"), "a loader")?;
    fs::set_permissions(path("unreadable.efi"), fs::Permissions::from_mode(0o000))?;
    let loaders: Vec<_> =
        own.iter().map(|(host, name)| format!("\"{}\": {{loader: {name}}}", host.machine.mac)).collect();
    let spec = cluster::with_annotation(&lab.spec(), &format!("pxed.dev/machines: '{{{}}}'", loaders.join(", ")));
    let pxed = lab.pxed(&spec, &[])?;
    for host in [loops, c_string, upper_case, by_tftp, gone, outside, circle, unreadable] {
        host.use_address()?;
    }

    for _ in 0..3 {
        loops.lease(FIRMWARE)?;
        loops.load(LOADER)?;
        // Its next question comes seconds later, when pxed has noticed the end.
        loops.comes_to("loader-done", &pxed)?;
    }
    let again_and_again = [
        "It has loaded ipxe-efi-x86_64.efi 3 times in ",
        "asked for no script in between",
        "the firmware refuses it and tries again",
        "An iPXE that hides what it is",
    ];
    says(&pxed, loops.machine, &again_and_again)?;

    // The name is followed by the end of the options.
    c_string.lease(FIRMWARE)?;
    c_string.request(b"ipxe-efi-x86_64.efi\xff", BLOCK)?.load_blocks(usize::MAX)?;
    let understood = ["reads option 67 as a C string", "pxed reads the name as ipxe-efi-x86_64.efi."];
    says(&pxed, c_string.machine, &understood)?;

    upper_case.lease(FIRMWARE)?;
    upper_case.is_refused(b"IPXE-EFI-X86_64.EFI")?;
    let copy = "Put a copy of ipxe-efi-x86_64.efi, or a link to it, at IPXE-EFI-X86_64.EFI in the artifacts directory.";
    says(&pxed, upper_case.machine, &["Its firmware changes upper and lower case", copy])?;

    // It says that it has HTTP, and gives the URL to TFTP.
    by_tftp.lease(IPXE)?;
    let url = format!("http://{SERVER}:8000{}", by_tftp.script());
    by_tftp.is_refused(url.as_bytes())?;
    let no_http = format!("It asked by TFTP for {url}, the URL of its script: the program that asks has no HTTP.");
    says(&pxed, by_tftp.machine, &[&no_http, "DOWNLOAD_PROTO_HTTP"])?;

    for (host, name) in own {
        host.lease(FIRMWARE)?;
        host.is_refused(name.as_bytes())?;
    }
    says(
        &pxed,
        gone.machine,
        &[
            "It failed ",
            "gone.efi is missing: no upstream has it",
            "Get it: install -Dm644 gone.efi ",
            "No restart is needed.",
        ],
    )?;
    says(
        &pxed,
        outside.machine,
        &["Put outside.efi itself into the artifacts directory: symbolic links that lead out of it"],
    )?;
    says(
        &pxed,
        circle.machine,
        &["Put circle.efi itself into the artifacts directory: its symbolic links lead in a circle."],
    )?;
    says(&pxed, unreadable.machine, &["pxed cannot read unreadable.efi: check the permissions"])
}

/// Names that firmware changes, what each is told as, and whether the file is found all the same.
const SPELLINGS: [(&[u8], &[&str], bool); 9] = [
    (b"/ipxe-efi-x86_64.efi", &["Its firmware writes a slash before the name.", "reads the name as ipxe-efi"], true),
    (b"\\ipxe-efi-x86_64.efi", &["Its firmware writes backslashes for slashes.", "reads the name as ipxe-efi"], true),
    (b"ipxe-efi-x86_64.efiipxe-efi-x86_64.efi", &["Its firmware names the file twice."], false),
    (
        b"boot/ipxe-efi-x86_64.efi",
        &["Its firmware puts a directory before the name: boot/.", "at boot/ipxe-efi-x86_64.efi in the"],
        false,
    ),
    (b"tftp://10.99.0.1/ipxe-efi-x86_64.efi", &["Its firmware asks TFTP for a URL (tftp://"], false),
    (b"10.99.0.1:ipxe-efi-x86_64.efi", &["Its firmware puts an address before the name: 10.99.0.1:."], false),
    (b"ipxe-efi-x86_64.efi ", &["Its firmware adds blanks to the name."], false),
    (b"ipxe-efi-x86_64.efi.0", &["adds \u{201c}.0\u{201d} to the name."], false),
    (b"ipxe-efi-x86", &["Its firmware cuts the name off after 12 bytes."], false),
];

pub(crate) fn have_odd_names() -> anyhow::Result<()> {
    let lab = Lab::new(10, 10_000)?;
    let hosts = lab.hosts::<10>()?;
    let pxed = lab.pxed(&lab.spec(), &[])?;
    let (nameless, others) = hosts.split_last().context("a machine")?;
    for (host, (name, parts, is_found)) in others.iter().zip(SPELLINGS) {
        host.use_address()?;
        host.lease(FIRMWARE)?;
        if is_found {
            host.request(name, BLOCK)?.load_blocks(usize::MAX)?;
        } else {
            host.is_refused(name)?;
        }
        let copy =
            format!("Put a copy of {LOADER}, or a link to it, at {} in the artifacts directory.", name.escape_ascii());
        let parts = if is_found { parts.to_vec() } else { [parts, &[&*copy][..]].concat() };
        says(&pxed, host.machine, &parts)?;
    }
    // Its DHCP reply has no name in front of the end of the options.
    nameless.use_address()?;
    nameless.lease(FIRMWARE)?;
    nameless.is_refused(b"\xff")?;
    says(
        &pxed,
        nameless.machine,
        &["asked for a file without a name", "Give it a boot file in the DHCP server that answers it."],
    )
}

/// iPXE starts, and does not come to its script.
pub(crate) fn lead_to_no_script() -> anyhow::Result<()> {
    let lab = Lab::new(3, 10_000)?;
    let [no_link, no_way, hidden] = &lab.hosts()?;
    let pxed = lab.pxed(&lab.spec(), &[])?;
    for host in [no_link, no_way, hidden] {
        host.use_address()?;
        for _ in 0..3 {
            host.lease(FIRMWARE)?;
            host.load(LOADER)?;
            host.comes_to("loader-done", &pxed)?;
            if host.address == no_link.address {
                host.discover(IPXE)?;
            } else if host.address == no_way.address {
                host.lease(IPXE)?;
            }
        }
    }
    let again = "It has loaded ipxe-efi-x86_64.efi 3 times in ";
    says(&pxed, no_link.machine, &[again, "If it shows no network card or no link: the loader that uses the driver"])?;
    let out_of_reach = "Do all firewalls let it reach the HTTP port of pxed (--http-port) on this host?";
    says(&pxed, no_way.machine, &[again, "iPXE started and was told the URL of its script.", out_of_reach])?;
    says(&pxed, hidden.machine, &[again, "An iPXE that hides what it is (neither user class iPXE nor option 175)"])
}
