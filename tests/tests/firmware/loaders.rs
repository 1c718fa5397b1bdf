//! Machines that boot by GRUB or U-Boot instead of iPXE.

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Firmware, Guest, Pxed,
    assets::Edition,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    guest::{PC_KERNEL_ARGS, Report},
};

use crate::{TALOS_AMD64, TALOS_ARM64};

/// Characters that the shells of both loaders would interpret, as far as both can pass them on. The quotes are for Linux.
const HOSTILE_ARGS: &str = "u=${uuid} v=$serial w=$(x) a;b |c&d #e {f} g* <h> !i ~j  two-spaces";

/// Arguments that U-Boot can pass on besides.
const U_BOOT_ARGS: &str = r#"q='single' d="e  f" b=back\slash\\ e=\${uuid}"#;

/// Builds of GRUB put a backslash before these quotes, so they are given to Linux around the whole argument.
const GRUB_ARGS: (&str, &str) = (r#"d="e  f""#, r#""d=e  f""#);

/// The MAC address in the environment of Debian's U-Boot for QEMU, which takes precedence over the card's.
const U_BOOT_MAC: &str = "52:52:52:52:52:52";

/// Boots firmware whose loader is shim and GRUB.
pub(crate) fn shim_and_grub_boot(firmware: Firmware) -> anyhow::Result<()> {
    let (as_specified, as_booted) = GRUB_ARGS;
    let kernel_args = |quoted| format!("{HOSTILE_ARGS} {quoted} {}", PC_KERNEL_ARGS.replace("quiet ", ""));
    let machine = Machine { kernel_args: kernel_args(as_specified), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Installed, &[(VERSION, machine.architecture)])?;
    artifacts.add_grub()?;
    let spec = spec(&machine, "pxed.dev/loader: shimx64.efi");
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    let Report { cmdline, .. } = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected =
        format!("BOOT_IMAGE=(tftp,{SERVER})/vmlinuz-{VERSION}-amd64 {TALOS_AMD64} {}", kernel_args(as_booted));
    ensure!(cmdline == expected, "booted with\n{cmdline}\nnot with\n{expected}");
    if firmware == Firmware::SecureBootX64 {
        let console = guest.console.output();
        ensure!(console.contains("secureboot: Secure boot enabled"), "Secure Boot was off:\n{console}");
    }
    tells_the_steps(&pxed, &machine, "GRUB", "/grub/grub.cfg", &["loader", "kernel", "initramfs"])
}

/// Boots a board whose user types these commands on U-Boot's console, or has them in its environment.
pub(crate) fn u_boot_boots(edition: Edition, commands: &str) -> anyhow::Result<()> {
    let firmware = Firmware::UBootArm64(edition);
    let kernel_args = format!("{HOSTILE_ARGS} {U_BOOT_ARGS}");
    let machine = Machine {
        mac: U_BOOT_MAC.to_owned(),
        architecture: firmware.architecture(),
        kernel_args,
        ..Machine::number(1)
    };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Newer, &[(VERSION, machine.architecture)])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    // Its last line before it waits for a key.
    guest.wait_for_line("Net: ")?;
    guest.type_text(&format!("\n{commands}\n"))?;
    let Report { cmdline, .. } = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected = format!("{TALOS_ARM64} {}", machine.kernel_args);
    ensure!(cmdline == expected, "booted with\n{cmdline}\nnot with\n{expected}");
    let config = format!("pxelinux.cfg/01-{}", machine.mac.replace(':', "-"));
    tells_the_steps(&pxed, &machine, "U-Boot", &config, &["kernel", "initramfs"])
}

/// Returns the spec of this machine with an annotation for the cluster.
fn spec(machine: &Machine, annotation: &str) -> String {
    let name = "  name: lab\n";
    let annotated = format!("{name}  annotations:\n    {annotation}\n");
    cluster::cluster(std::slice::from_ref(machine)).replacen(name, &annotated, 1)
}

/// Checks that all files came by TFTP, whole and acknowledged, that nothing failed, and who asked.
fn tells_the_steps(
    pxed: &Pxed<'_>,
    machine: &Machine,
    loader: &str,
    config: &str,
    artifacts: &[&str],
) -> anyhow::Result<()> {
    let told = pxed.machine(&machine.mac)?;
    let events = told["events"].as_array().context("no events")?;
    let is_done = |artifact: &str| {
        let is_it = |event: &&serde_json::Value| event["event"] == "done" && event["artifact"] == artifact;
        events.iter().find(is_it).is_some_and(|event| event["transport"] == "tftp")
    };
    for artifact in artifacts {
        ensure!(is_done(artifact), "the {artifact} was not delivered: {told}");
    }
    let script = events.iter().find(|event| event["artifact"] == "script").context("no configuration was asked for")?;
    ensure!(script["path"] == config, "{loader} asked for {script}, not for {config}");
    let failed = events.iter().find(|event| event["event"] == "failed");
    ensure!(failed.is_none(), "{failed:?} failed: {told}");
    ensure!(told["boots"] == 1 && told["stage"] == "running", "it does not count as booted: {told}");
    Ok(())
}
