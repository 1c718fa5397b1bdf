//! Machines whose loader is not the iPXE of UEFI: GRUB, U-Boot, undionly.kpxe.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail, ensure};
use pxe_lab::{
    Artifacts, Bridged, Capture, Firmware, Guest, Pxed,
    assets::Edition,
    capture::{Kind, Message},
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    guest::{BOOT, PC_KERNEL_ARGS, Report},
};

use crate::{TALOS_AMD64, TALOS_ARM64};

/// Characters that the shells of both loaders would interpret, as far as both can pass them on. The quotes are for Linux.
const HOSTILE_ARGS: &str = "u=${uuid} v=$serial w=$(x) a;b |c&d #e {f} g* <h> !i ~j  two-spaces";

/// GRUB and U-Boot get such arguments only if their machines are said to have no secrets.
const BY_ADDRESS: &str = "pxed.dev/secrets: by-address";

/// Arguments that U-Boot can pass on besides.
const U_BOOT_ARGS: &str = r#"q='single' d="e  f" b=back\slash\\ e=\${uuid}"#;

/// Builds of GRUB put a backslash before these quotes, so they are given to Linux around the whole argument.
const GRUB_ARGS: (&str, &str) = (r#"d="e  f""#, r#""d=e  f""#);

/// The beginning of iPXE's option 175: on PCI, the vendor and device of QEMU's virtio card. Through UNDI, iPXE has it from its caller.
const BUS_ID_OF_VIRTIO: [u8; 7] = [177, 5, 1, 0x1a, 0xf4, 0x10, 0x00];

/// The MAC address in the environment of Debian's U-Boot for QEMU, which takes precedence over the card's.
const U_BOOT_MAC: &str = "52:52:52:52:52:52";

/// Boots firmware whose loader, named by the spec, is GRUB or starts GRUB.
pub(crate) fn grub_boots(firmware: Firmware, loader: &str) -> anyhow::Result<()> {
    let (as_specified, as_booted) = GRUB_ARGS;
    let kernel_args = |quoted| format!("{HOSTILE_ARGS} {quoted} {}", PC_KERNEL_ARGS.replace("quiet ", ""));
    let machine = Machine { kernel_args: kernel_args(as_specified), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Installed, &[(VERSION, machine.architecture)])?;
    match firmware {
        Firmware::UefiIa32 => artifacts.add_grub_ia32()?,
        _ => artifacts.add_grub()?,
    }
    let spec = spec(&machine, &format!("pxed.dev/loader: {loader}\n    {BY_ADDRESS}"));
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
    tells_the_steps(&pxed, &machine, firmware, "/grub/grub.cfg", &["loader", "kernel", "initramfs"])
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
    let spec = cluster::with_annotation(&cluster::cluster(std::slice::from_ref(&machine)), BY_ADDRESS);
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    // Its last line before it waits for a key.
    guest.wait_for_line("Net: ")?;
    guest.type_text(&format!("\n{commands}\n"))?;
    let Report { cmdline, .. } = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected = format!("{TALOS_ARM64} {}", machine.kernel_args);
    ensure!(cmdline == expected, "booted with\n{cmdline}\nnot with\n{expected}");
    let config = format!("pxelinux.cfg/01-{}", machine.mac.replace(':', "-"));
    tells_the_steps(&pxed, &machine, firmware, &config, &["kernel", "initramfs"])
}

/// Powers on a machine with 32-bit firmware, on which iPXE cannot start its kernel.
pub(crate) fn ia32_is_explained() -> anyhow::Result<()> {
    let machine = Machine::number(1);
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Installed, &[(VERSION, machine.architecture)])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;
    let capture = Capture::start(&network.net)?;

    let guest = Guest::power_on(&network, Firmware::UefiIa32, &machine.mac)?;
    let is_first = |message: &Message| message.kind == Kind::Discover && message.chaddr == machine.mac;
    let context = || guest.console.last_lines();
    let (discover, _) = capture.wait_for("DISCOVER", 0, BOOT, is_first).with_context(context)?;
    ensure!(discover.option(93) == Some(&[0, 6]), "not 32-bit firmware: {discover:?}");
    pxed.eventually("an explanation", Duration::from_secs(30), |pxed| {
        let machine = pxed.machine(&machine.mac)?;
        let advice = &machine["diagnosis"]["advice"].to_string();
        Ok(["32-bit x86 UEFI (type 6)", "iPXE cannot start a 64-bit kernel"].iter().all(|part| advice.contains(part)))
    })
}

/// Boots a BIOS whose PXE starts `undionly.kpxe`, which asks by DHCP itself, through the caller's driver.
pub(crate) fn undionly_boots(edition: Edition) -> anyhow::Result<()> {
    let machine = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(edition, &[(VERSION, machine.architecture)])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &[])?;
    let capture = Capture::start(&network.net)?;

    let guest = Guest::power_on(&network, Firmware::BiosPxe, &machine.mac)?;
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected = format!("initrd=initramfs.xz {TALOS_AMD64} {}", machine.kernel_args);
    ensure!(report.cmdline == expected, "booted with\n{}\nnot with\n{expected}", report.cmdline);
    ensure!(report.interface == format!("{}/24", machine.address), "{report:?}");
    let console = guest.console.output();
    ensure!(console.contains(&format!("{} using undionly on", machine.mac)), "not undionly's driver:\n{console}");

    let messages: Vec<_> = capture.messages().into_iter().filter(is_from_bios).collect();
    let mut exchanges: Vec<_> = messages.iter().map(|message| message.xid).collect();
    exchanges.dedup();
    let [_, of_undionly] = exchanges[..] else {
        bail!("not an exchange of its caller and one of its own: {messages:?}")
    };
    let own: Vec<_> = messages.iter().filter(|message| message.xid == of_undionly).collect();
    for kind in [Kind::Discover, Kind::Request] {
        let message = own.iter().find(|message| message.kind == kind);
        let message = message.with_context(|| format!("undionly sent no {kind:?}: {own:?}"))?;
        let features = message.option(175).unwrap_or_default();
        ensure!(message.option(77) == Some(b"iPXE") && features.starts_with(&BUS_ID_OF_VIRTIO), "{message:?}");
    }

    let told = pxed.machine(&machine.mac)?;
    let events = told["events"].as_array().context("no events")?;
    let mut steps: Vec<_> = events.iter().filter_map(step).collect();
    // A message that is repeated on a busy host is answered again.
    steps.dedup();
    let size = fs::metadata(artifacts.path().join("undionly.kpxe"))?.len();
    let expected =
        ["ipxe ack".to_owned(), format!("loader undionly.kpxe by tftp, {size} bytes"), "ipxe ack".to_owned()];
    ensure!(steps.starts_with(&expected), "{steps:?}, not {expected:?}: {told}");
    let is_by_http = |event: &&serde_json::Value| event["event"] == "done" && event["transport"] == "http";
    let by_http: Vec<_> = events.iter().filter(is_by_http).map(|event| &event["artifact"]).collect();
    ensure!(by_http == ["script", "kernel", "initramfs"], "{by_http:?}: {told}");
    let failed = events.iter().find(|event| event["event"] == "failed");
    ensure!(failed.is_none(), "{failed:?} failed: {told}");
    ensure!(told["boots"] == 1 && told["stage"] == "running", "it does not count as booted: {told}");
    Ok(())
}

/// Returns `true` if the message is from a program that was started by a BIOS.
fn is_from_bios(message: &Message) -> bool {
    let class = message.option(60).unwrap_or_default();
    class.starts_with(b"PXEClient:Arch:00000:UNDI:") && message.option(93) == Some(&[0, 0])
}

/// Returns an acknowledged address or a received loader in words.
fn step(event: &serde_json::Value) -> Option<String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    match (text("event"), text("artifact")) {
        ("ack", _) => Some(format!("{} ack", text("client"))),
        ("done", "loader") => {
            Some(format!("loader {} by {}, {} bytes", text("path"), text("transport"), event["bytes"]))
        }
        _ => None,
    }
}

/// Returns the spec of this machine with an annotation for the cluster.
fn spec(machine: &Machine, annotation: &str) -> String {
    let name = "  name: lab\n";
    let annotated = format!("{name}  annotations:\n    {annotation}\n");
    cluster::cluster(std::slice::from_ref(machine)).replacen(name, &annotated, 1)
}

/// Checks that all files came by TFTP, whole and acknowledged, that nothing failed, and the name of the configuration.
fn tells_the_steps(
    pxed: &Pxed<'_>,
    machine: &Machine,
    firmware: Firmware,
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
    ensure!(script["path"] == config, "{firmware:?} asked for {script}, not for {config}");
    // GRUB for 32-bit UEFI reads the head of the kernel, closes it, and loads it with its BIOS loader.
    let is_retried = |event: &serde_json::Value| firmware == Firmware::UefiIa32 && event["artifact"] == "kernel";
    let failed = events.iter().find(|event| event["event"] == "failed" && !is_retried(event));
    ensure!(failed.is_none(), "{failed:?} failed: {told}");
    ensure!(told["boots"] == 1 && told["stage"] == "running", "it does not count as booted: {told}");
    Ok(())
}
