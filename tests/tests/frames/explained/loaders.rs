//! Loaders that lead nowhere, and those that cannot be had.

use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::fs::symlink};

use pxe_lab::cluster::{self, SERVER};

use super::{
    SOON,
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
        pxed.eventually("a loaded loader", SOON, |pxed| {
            Ok(pxed.machine(&loops.machine.mac)?["stage"] == "loader-done")
        })?;
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
        &["It failed ", "gone.efi is not among the artifacts: put it into the artifacts directory."],
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
