//! Machines that stay where they are for minutes: what each waits for, and what to do about it.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{Pxed, assets::Architecture, cluster};
use serde_json::Value;

use super::{
    SOON,
    host::{BLOCK, Client, FIRMWARE, Host, IPXE, LOADER, Lab, TALOS},
    past, says,
};

/// More than the time in which a healthy machine loads its kernel or starts its system.
const LATER: Duration = Duration::from_secs(200);
/// U-Boot for ARM64, and its EFI, which does not say what it is.
const U_BOOT: Client<'_> = &[(60, b"PXEClient:Arch:00022:UNDI:003000"), (93, &[0, 22])];
const ARM_FIRMWARE: Client<'_> = &[(60, b"PXEClient:Arch:00011:UNDI:003000"), (93, &[0, 11])];

/// UEFI for x86-64 that boots by HTTP, for Itanium, and for an architecture that has no name.
const HTTP_FIRMWARE: Client<'_> = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
const ITANIUM: Client<'_> = &[(60, b"PXEClient:Arch:00002:UNDI:003000"), (93, &[0, 2])];
const UNKNOWN: Client<'_> = &[(60, b"PXEClient:Arch:00099:UNDI:003000"), (93, &[0, 99])];
/// iPXE whose features lack HTTP.
const IPXE_WITHOUT_HTTP: Client<'_> =
    &[(60, b"PXEClient:Arch:00007:UNDI:003010"), (93, &[0, 7]), (77, b"iPXE"), (175, &[0xeb, 3, 1, 0, 0, 0x18, 1, 1])];

/// A machine, its stage, and what is said of it after minutes.
type Case<'a> = (&'a Host<'a>, &'a str, &'a [&'a str]);

pub(crate) fn stay_where_they_are() -> anyhow::Result<()> {
    let mut lab = Lab::new(16, 1_000)?;
    for arm in &mut lab.machines[14..] {
        arm.architecture = Architecture::Arm64;
    }
    let hosts = &lab.hosts::<16>()?;
    let [silent, unrequested, addressed, loaded, foreign, shim, grub, ipxe, ..] = hosts;
    let [.., scripted, kernel, booting, running, held, unconfirmed, u_boot, u_boot_efi] = hosts;
    for loader in ["own.efi", "shimx64.efi", "grubx64.efi"] {
        fs::write(lab.artifacts.path().join(loader), "a loader")?;
    }
    let settings = [
        (foreign, "loader: own.efi"),
        (shim, "loader: shimx64.efi"),
        (grub, "loader: shimx64.efi"),
        (held, "bootPolicy: hold"),
    ];
    let settings: Vec<_> = settings.map(|(host, setting)| format!("\"{}\": {{{setting}}}", host.machine.mac)).into();
    let spec = cluster::with_annotation(&lab.spec(), &format!("pxed.dev/machines: '{{{}}}'", settings.join(", ")));
    let mut pxed = lab.pxed(&spec, &[])?;
    for host in hosts {
        host.use_address()?;
    }

    for _ in 0..2 {
        unrequested.discover(FIRMWARE)?;
    }
    addressed.lease(FIRMWARE)?;
    loads(loaded, &[LOADER])?;
    loads(foreign, &["own.efi"])?;
    loads(shim, &["shimx64.efi"])?;
    loads(grub, &["shimx64.efi", "grubx64.efi", "/grub/grub.cfg", "/vmlinuz-v1.13.0-amd64"])?;
    for host in [ipxe, scripted, kernel, booting] {
        loads(host, &[LOADER])?;
        host.lease(IPXE)?;
    }
    for host in [scripted, kernel, booting] {
        host.get_script()?;
    }
    for host in [kernel, booting] {
        host.get_kernel()?;
    }
    booting.get_initramfs()?;
    for _ in 0..2 {
        loads(running, &[LOADER])?;
        running.lease(IPXE)?;
        running.get_script()?;
        running.get_kernel()?;
        running.get_initramfs()?;
        running.comes_to("booting", &pxed)?;
        running.lease(TALOS)?;
        running.comes_to("running", &pxed)?;
    }
    held.lease(FIRMWARE)?;
    u_boot.lease(U_BOOT)?;
    u_boot.load(&format!("pxelinux.cfg/01-{}", u_boot.dashed_mac()))?;
    u_boot_efi.lease(ARM_FIRMWARE)?;
    u_boot_efi.load("ipxe-efi-arm64.efi")?;
    // It never confirms the only block, for which pxed waits for ten seconds.
    unconfirmed.lease(FIRMWARE)?;
    let mut whole = unconfirmed.request(LOADER.as_bytes(), BLOCK)?;
    whole.load_blocks(0)?;

    let server = cluster::SERVER;
    let ask_talos = format!("talosctl --nodes {} --insecure get disks", running.address);
    let asks_for_script = format!("U-Boot asked for pxelinux.cfg/01-{} 3 min ago", u_boot.dashed_mac());
    let release = format!("which pxed release {} does not change.", held.machine.mac);
    let place = format!("is that port in the VLAN of eth0 ({server})?");
    let cases: [Case<'_>; 16] = [
        (silent, "never-seen", &["It has sent nothing in the ", "Is it powered on", &place, &silent.machine.mac]),
        (
            unrequested,
            "offered",
            &["asked for an address 2 times in 3 min, was offered 10.99.0.102 and never requested it", "PortFast"],
        ),
        (
            addressed,
            "addressed",
            &[
                "Its firmware has had an address for 3 min.",
                "Its request for ipxe-efi-x86_64.efi.",
                "reach 10.99.0.1, UDP port 69?",
            ],
        ),
        (
            loaded,
            "loader-done",
            &["Its firmware got the loader 3 min ago; iPXE has not asked", "Secure Boot", "pxed.dev/loader: snponly"],
        ),
        (
            foreign,
            "loader-done",
            &["the loader that the spec names, own.efi, 3 min ago", "What own.efi does next is up to it."],
        ),
        (shim, "loader-done", &["shim has asked for nothing since", "ask for GRUB, grubx64.efi", "has been revoked"]),
        (grub, "kernel-done", &["It got its kernel 3 min ago.", "GRUB shows why", "bad shim signature"]),
        (
            ipxe,
            "ipxe-addressed",
            &["iPXE has had an address for 3 min.", "(--http-port)", "An iPXE that was built without HTTP"],
        ),
        (scripted, "scripted", &["It asked for its boot script 3 min ago.", "the script shows what it does"]),
        (
            kernel,
            "kernel-done",
            &["It got its kernel 3 min ago.", "Its request for the initramfs.", "too little memory?"],
        ),
        (
            booting,
            "booting",
            &["It got kernel and initramfs 3 min ago and starts Talos v1.13.0.", "Try its Talos API", "lack a driver"],
        ),
        (
            running,
            "running",
            &[
                "has been running with 10.99.0.112 for 3 min",
                "pxed has not seen Talos' API (TCP port 50000) answer in the 3 min since",
                &ask_talos,
                "It was booted from the network 2 times",
            ],
        ),
        (
            held,
            "sent-to-disk",
            &[
                "It was told to boot from its own disk 3 min ago.",
                "boot-policy: hold",
                &release,
                "its disk has none that boots",
            ],
        ),
        (
            unconfirmed,
            "loading-loader",
            &[
                "It was sent the whole loader ipxe-efi-x86_64.efi by TFTP, but did not confirm its end",
                "If it has the file, it does not start it",
                "If it does not have the file: ",
            ],
        ),
        (u_boot, "scripted", &[&asks_for_script, "U-Boot shows what it does and what failed."]),
        (u_boot_efi, "loader-done", &["If its firmware is U-Boot: iPXE hangs", "setenv boot_targets pxe; saveenv"]),
    ];
    say_later(&mut pxed, &lab, &cases)
}

/// Waits until each machine is at its stage, lets minutes pass, and waits until the diagnoses have these parts.
fn say_later(pxed: &mut Pxed<'_>, lab: &Lab, cases: &[Case<'_>]) -> anyhow::Result<()> {
    for (host, stage, _) in cases {
        let mut last = Value::Null;
        pxed.eventually(stage, SOON, |pxed| {
            last = pxed.machine(&host.machine.mac)?;
            let is_told = *stage != "loading-loader" || last["events"].to_string().contains("\"unconfirmed\"");
            Ok(last["stage"] == *stage && is_told)
        })
        .with_context(|| format!("{stage}: {last}"))?;
    }

    pxed.process.signal(Signal::SIGTERM)?;
    let status = pxed.process.wait(SOON)?;
    ensure!(status.success(), "SIGTERM: {status}: {}", pxed.process.last_lines());
    past::grow_older(&pxed.state_path(), LATER)?;
    pxed.start_again(lab.artifacts.path(), &["--machine-rate", "0"])?;
    for (host, stage, parts) in cases {
        says(pxed, host.machine, parts).with_context(|| stage.to_string())?;
    }
    Ok(())
}

/// UEFI that boots by HTTP, firmware without a loader, GRUB, U-Boot, and an iPXE without HTTP.
pub(crate) fn stay_with_other_programs() -> anyhow::Result<()> {
    let mut lab = Lab::new(11, 1_000)?;
    for arm in &mut lab.machines[7..10] {
        arm.architecture = Architecture::Arm64;
    }
    let hosts = &lab.hosts::<11>()?;
    let [http, http_loaded, image, itanium, unknown, grub, configured, rest @ ..] = hosts;
    let [u_boot, u_boot_kernel, u_boot_booting, without_http] = rest;
    for loader in ["shimx64.efi", "grubx64.efi"] {
        fs::write(lab.artifacts.path().join(loader), "a loader")?;
    }
    let settings = [(image, "boot: uki"), (grub, "loader: shimx64.efi"), (configured, "loader: shimx64.efi")];
    let settings: Vec<_> = settings.map(|(host, setting)| format!("\"{}\": {{{setting}}}", host.machine.mac)).into();
    let spec = cluster::with_annotation(&lab.spec(), &format!("pxed.dev/machines: '{{{}}}'", settings.join(", ")));
    let mut pxed = lab.pxed(&spec, &[])?;
    for host in hosts {
        host.use_address()?;
    }

    for host in [http, http_loaded, image] {
        host.lease(HTTP_FIRMWARE)?;
    }
    http_loaded.get(&format!("/assets/{LOADER}"))?;
    itanium.lease(ITANIUM)?;
    unknown.lease(UNKNOWN)?;
    loads(grub, &["shimx64.efi", "grubx64.efi"])?;
    loads(configured, &["shimx64.efi", "grubx64.efi", "/grub/grub.cfg"])?;
    for host in [u_boot, u_boot_kernel, u_boot_booting] {
        host.lease(U_BOOT)?;
    }
    for host in [u_boot_kernel, u_boot_booting] {
        host.load(&format!("pxelinux.cfg/01-{}", host.dashed_mac()))?;
        host.load("vmlinuz-v1.13.0-arm64")?;
    }
    u_boot_booting.load("initramfs-v1.13.0-arm64.xz")?;
    without_http.lease(IPXE_WITHOUT_HTTP)?;

    let server = cluster::SERVER;
    let boot_http = format!("let it reach {server}, TCP, the port of boot HTTP (--http-port)?");
    let config = format!("Its request for pxelinux.cfg/01-{}.", u_boot.dashed_mac());
    let cases: [Case<'_>; 11] = [
        (
            http,
            "addressed",
            &[
                "Its request for ipxe-efi-x86_64.efi by HTTP.",
                &boot_http,
                "HTTP boot without TLS? Some firmware takes https:// alone",
            ],
        ),
        (
            http_loaded,
            "loader-done",
            &["Its firmware got the loader 3 min ago; iPXE has not asked", "refuses an unsigned loader"],
        ),
        (image, "addressed", &["Its request for its unified kernel image by HTTP.", &boot_http, "without TLS"]),
        (
            itanium,
            "failed",
            &[
                "Its firmware is Itanium (type 2), for which there is no iPXE, so that pxed has no file for it.",
                "correct the MAC",
            ],
        ),
        (unknown, "failed", &["Its firmware is unknown architecture (type 99)", "(annotation pxed.dev/loader)"]),
        (
            grub,
            "loader-done",
            &[
                "It got the loader grubx64.efi 3 min ago; GRUB has asked for nothing since.",
                "GRUB to start and to ask for its configuration, grub.cfg.",
                "grubnetx64.efi.signed as grubx64.efi",
            ],
        ),
        (
            configured,
            "scripted",
            &["GRUB asked for /grub/grub.cfg 3 min ago.", "GRUB shows what it does and what failed."],
        ),
        (u_boot, "addressed", &["Its firmware is U-Boot, in which iPXE hangs", &config, "setenv boot_targets pxe"]),
        (u_boot_kernel, "kernel-done", &["It got its kernel 3 min ago.", "or no `ramdisk_addr_r`?"]),
        (u_boot_booting, "booting", &["U-Boot's console says why it does not start the kernel", "`bootarg overflow`"]),
        (
            without_http,
            "ipxe-addressed",
            &["built without HTTP", "If ipxe-efi-x86_64.efi is what it runs: that has no HTTP.", "DOWNLOAD_PROTO_HTTP"],
        ),
    ];
    say_later(&mut pxed, &lab, &cases)?;
    for host in [itanium, unknown] {
        let diagnosis = pxed.machine(&host.machine.mac)?["diagnosis"].to_string();
        ensure!(!diagnosis.contains("firewall") && !diagnosis.contains("cpuArchitecture"), "{diagnosis}");
    }
    Ok(())
}

/// Gets an address as firmware, and loads these files one after the other by TFTP.
fn loads(host: &Host<'_>, files: &[&str]) -> anyhow::Result<()> {
    host.lease(FIRMWARE)?;
    files.iter().try_for_each(|file| host.load(file))
}
