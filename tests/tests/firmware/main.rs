//! Real firmware in QEMU boots from pxed: from power-on to the userspace of a Linux that reports its
//! arguments and its address.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Firmware, Guest, Pxed,
    assets::{self, Architecture, Edition},
    cluster::{self, GATEWAY, Machine, SERVER, SERVER_ADDRESS, VERSION},
    guest::PC_KERNEL_ARGS,
    suite,
};

use node_dies::{Loading, machine_follows};

mod fetched;
mod loaders;
mod node_dies;
mod uki;

/// Typical content of `kernelCmdlineArgs`: base64 with all its letters, and characters that HTML would escape.
const KERNEL_ARGS: &str = "talos.config.inline=aGVsbG8+d29ybGQ/+/8A+/== pxed.test=a&b<c>'d'";

/// The arguments that Talos 1.13 needs, in pxed's order; the machine's own follow.
const TALOS_AMD64: &str = "talos.platform=metal slab_nomerge pti=on console=tty0 consoleblank=0 \
     printk.devkmsg=on init_on_alloc=1 nvme_core.io_timeout=4294967295 selinux=1 module.sig_enforce=1 \
     proc_mem.force_override=never";
const TALOS_ARM64: &str = "talos.platform=metal slab_nomerge pti=on console=ttyAMA0 console=tty0 \
     consoleblank=0 printk.devkmsg=on init_on_alloc=1 nvme_core.io_timeout=4294967295 selinux=1 module.sig_enforce=1 \
     proc_mem.force_override=never";

/// The source of the loader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoaderBy {
    Tftp,
    Http,
    /// The firmware's network card already has iPXE.
    Itself,
}

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("ovmf_boots_by_pxe", || {
            boots(Firmware::UefiX64(Edition::Installed), Edition::Installed, LoaderBy::Tftp)
        }),
        suite::test("newer_ovmf_and_ipxe_boot_by_pxe", || {
            boots(Firmware::UefiX64(Edition::Newer), Edition::Newer, LoaderBy::Tftp)
        }),
        suite::test("ovmf_boots_by_http", || {
            boots(Firmware::UefiHttpX64(Edition::Installed), Edition::Newer, LoaderBy::Http)
        }),
        suite::test("seabios_boots_with_the_ipxe_of_its_card", || {
            boots(Firmware::Bios(Edition::Installed), Edition::Installed, LoaderBy::Itself)
        }),
        suite::test("seabios_boots_with_a_newer_ipxe", || {
            boots(Firmware::Bios(Edition::Newer), Edition::Newer, LoaderBy::Itself)
        }),
        suite::test("machine_follows_another_node_in_the_middle_of_its_initramfs", || {
            machine_follows(Firmware::UefiX64(Edition::Installed), Edition::Installed, Loading::Initramfs)
        }),
        suite::test("machine_follows_another_node_in_the_middle_of_its_kernel", || {
            machine_follows(Firmware::Bios(Edition::Newer), Edition::Newer, Loading::Kernel)
        }),
        suite::test("undionly_boots_on_its_callers_driver", || loaders::undionly_boots(Edition::Installed)),
        suite::test("newer_undionly_boots_on_its_callers_driver", || loaders::undionly_boots(Edition::Newer)),
        suite::test("ovmf_boots_by_its_second_card_with_a_loader_of_its_own", || {
            second_card_boots(Firmware::UefiX64(Edition::Installed), "snponly", "snponly-x86_64.efi")
        }),
        suite::test("ovmf_boots_by_http_with_a_loader_of_its_own", || {
            second_card_boots(
                Firmware::UefiHttpX64(Edition::Installed),
                "vendor/loader.efi",
                "/assets/vendor/loader.efi",
            )
        }),
        suite::test("aavmf_boots_by_pxe", || boots(Firmware::UefiArm64, Edition::Newer, LoaderBy::Tftp)),
        suite::test("newer_ovmf_boots_by_http", || {
            boots(Firmware::UefiHttpX64(Edition::Newer), Edition::Newer, LoaderBy::Http)
        }),
        suite::test("aavmf_boots_by_http", || boots(Firmware::UefiHttpArm64, Edition::Newer, LoaderBy::Http)),
        suite::test("u_boot_boots_by_pxe_get", || {
            loaders::u_boot_boots(Edition::Installed, "setenv autoload no; dhcp; pxe get; pxe boot")
        }),
        suite::test("newer_u_boot_boots_by_bootflow", || {
            loaders::u_boot_boots(Edition::Newer, "setenv boot_targets pxe; boot")
        }),
        suite::test("ia32_ovmf_boots_by_grub", || loaders::grub_boots(Firmware::UefiIa32, "grubnetia32.efi")),
        suite::test("ia32_ovmf_is_explained_at_its_first_packet", loaders::ia32_is_explained),
        suite::test("shim_and_grub_boot", || loaders::grub_boots(Firmware::UefiX64(Edition::Newer), "shimx64.efi")),
        suite::test("shim_and_grub_boot_with_secure_boot", || {
            loaders::grub_boots(Firmware::SecureBootX64, "shimx64.efi")
        }),
        suite::test("ovmf_boots_a_uki_by_http", || {
            uki::boots_by_http(Firmware::UefiHttpX64(Edition::Installed), Edition::Installed)
        }),
        suite::test("newer_ovmf_boots_a_uki_by_http", || {
            uki::boots_by_http(Firmware::UefiHttpX64(Edition::Newer), Edition::Newer)
        }),
        suite::test("aavmf_boots_a_uki_by_http", || uki::boots_by_http(Firmware::UefiHttpArm64, Edition::Newer)),
        suite::test("ovmf_boots_a_uki_by_ipxe", || {
            uki::boots_by_ipxe(Firmware::UefiX64(Edition::Installed), Edition::Newer)
        }),
        suite::test("signed_uki_boots_with_secure_boot", uki::signed_boots),
        suite::test("shim_boots_a_signed_uki_with_secure_boot", uki::shim_boots),
        suite::test("empty_directory_boots_by_ipxe_from_a_mirror", fetched::by_ipxe),
        suite::test("empty_directory_boots_by_uki_from_a_mirror", fetched::by_uki),
        suite::test("empty_directory_boots_by_signed_uki_from_a_mirror", fetched::by_signed_uki),
        suite::test("empty_directory_boots_by_factory_uki_from_a_mirror", fetched::by_factory_uki),
        suite::test("altered_uki_is_refused_with_secure_boot", uki::altered_is_refused),
    ])
}

fn boots(firmware: Firmware, loaders: Edition, loader_by: LoaderBy) -> anyhow::Result<()> {
    let architecture = firmware.architecture();
    let arm64 = architecture == Architecture::Arm64;
    let kernel_args = if arm64 { KERNEL_ARGS.to_owned() } else { format!("{KERNEL_ARGS} {PC_KERNEL_ARGS}") };
    let machine = Machine { architecture, kernel_args, ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(loaders, &[(VERSION, architecture)])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;

    let talos = if arm64 { TALOS_ARM64 } else { TALOS_AMD64 };
    let expected = format!("initrd=initramfs.xz {talos} {}", machine.kernel_args);
    ensure!(arguments(&report.cmdline) == expected, "booted with\n{}\nnot with\n{expected}", report.cmdline);
    ensure!(report.mac == machine.mac, "{report:?}");
    ensure!(report.interface == format!("{}/24", machine.address), "{report:?}");
    ensure!(
        report.lease.starts_with(&format!("{}/24 router={GATEWAY} dns={}", machine.address, cluster::DNS)),
        "{report:?}"
    );
    ensure!(report.lease.contains(&format!("server={SERVER}")), "{report:?}");
    went_through_af_xdp(&pxed)?;
    tells_the_steps(&pxed, &machine, loader_by)
}

/// The spec names another card of the machine first, and a loader for it, of which the firmware has to ask for `path`.
fn second_card_boots(firmware: Firmware, loader: &str, path: &str) -> anyhow::Result<()> {
    let snponly = assets::installed("ipxe", "/usr/lib/ipxe/snponly.efi")?;
    let (machine, card) =
        (Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) }, Machine::number(2).mac);
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Installed, &[(VERSION, Architecture::Amd64)])?;
    fs::create_dir(artifacts.path().join("vendor"))?;
    artifacts.add("vendor/loader.efi", &snponly)?;
    let annotations = format!(
        "name: lab\n  annotations:\n    pxed.dev/machines: |\n      {}: {{additionalMacAddresses: [{card}], loader: {loader}}}\n",
        machine.mac
    );
    let spec = cluster::cluster(std::slice::from_ref(&machine)).replace("name: lab\n", &annotations);
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &card)?;
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    ensure!(report.mac == card && report.interface == format!("{}/24", machine.address), "{report:?}");
    let seen = pxed.machine(&card)?;
    ensure!(seen["mac"] == machine.mac.as_str() && seen["boots"] == 1, "{seen}");
    let events = seen["events"].as_array().context("no events")?;
    let loaded = |event: &serde_json::Value| event["event"] == "done" && event["artifact"] == "loader";
    let loaders: Vec<_> = events.iter().filter(|event| loaded(event)).map(|event| &event["path"]).collect();
    ensure!(loaders == [path], "{loaders:?}: {seen}");
    Ok(())
}

/// Returns the kernel's arguments, without the image's name that UEFI puts before them.
fn arguments(cmdline: &str) -> &str {
    match cmdline.split_once(' ') {
        Some((name, arguments)) if name.starts_with("vmlinuz") => arguments,
        _ => cmdline,
    }
}

/// Checks for at least two DHCP exchanges of two packets each, and no packet lost by the rings.
fn went_through_af_xdp(pxed: &Pxed<'_>) -> anyhow::Result<()> {
    let metrics = pxed.metrics()?;
    let redirected = metrics.sum("pxed_xdp_packets_total", &["verdict=\"redirect\""]);
    ensure!(redirected >= 4.0, "only {redirected} frames went through AF_XDP: {metrics:?}");
    ensure!(
        metrics.sum("pxed_port", &["path=\"xdp_driver\""]) > 0.0,
        "the interface is not served by driver XDP: {metrics:?}"
    );
    ensure!(metrics.sum("pxed_queue_lost_total", &[]) == 0.0, "frames were lost: {metrics:?}");
    Ok(())
}

/// Checks that the machine's events contain every step.
fn tells_the_steps(pxed: &Pxed<'_>, machine: &Machine, loader_by: LoaderBy) -> anyhow::Result<()> {
    let machine = pxed.machine(&machine.mac)?;
    let text = machine.to_string();
    // The script has iPXE stay until it has acknowledged its initramfs, so that a policy of `once` can go by it.
    let events = machine["events"].as_array().context("no events")?;
    let has_initramfs = events.iter().any(|event| event["event"] == "done" && event["artifact"] == "initramfs");
    ensure!(has_initramfs && machine["boots"] == 1, "the initramfs was not delivered: {text}");
    let mut steps = vec!["discover", "offer", "request", "ack", "script", "kernel", "initramfs"];
    if loader_by != LoaderBy::Itself {
        steps.push("loader");
    }
    for step in steps {
        ensure!(text.contains(&format!("\"{step}\"")), "no {step} in the machine's events: {text}");
    }
    let by_tftp = text.contains("\"tftp\"");
    ensure!(by_tftp == (loader_by == LoaderBy::Tftp), "TFTP {by_tftp}: {text}");
    Ok(())
}
