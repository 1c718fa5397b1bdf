//! Machines that boot a unified kernel image made for them.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Firmware, Guest, Pxed,
    assets::{Architecture, Edition},
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    efi_variables::EfiVariables,
    guest::{self, BOOT, PC_KERNEL_ARGS, Report},
    signing::SigningKey,
    topology::INTERFACE,
    uki,
};

use crate::{TALOS_AMD64, TALOS_ARM64};

/// Characters that shells, URLs and scripts interpret, quotes for Linux, and more than ASCII.
const HOSTILE_ARGS: &str =
    r#"u=${uuid} v=$serial a;b |c &d #e {f} <h> %20 q='single' d="e  f" b=back\slash\\  two-spaces=ü"#;

/// Arguments of a kernel that shows its messages.
pub(crate) fn loud_args() -> String {
    PC_KERNEL_ARGS.replace("quiet ", "")
}

/// Returns the arguments that a machine's image has: Talos' own, then the machine's.
pub(crate) fn expected_args(machine: &Machine) -> String {
    let talos = if machine.architecture == Architecture::Arm64 { TALOS_ARM64 } else { TALOS_AMD64 };
    format!("{talos} {}", machine.kernel_args)
}

/// Boots UEFI by HTTP from the image that pxed makes of the stub of this edition, a kernel and an initramfs.
pub(crate) fn boots_by_http(firmware: Firmware, stub: Edition) -> anyhow::Result<()> {
    let architecture = firmware.architecture();
    let kernel_args = match architecture {
        Architecture::Amd64 => format!("{HOSTILE_ARGS} {PC_KERNEL_ARGS}"),
        Architecture::Arm64 => HOSTILE_ARGS.to_owned(),
    };
    let machine = Machine { architecture, kernel_args, ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Newer, &[(VERSION, architecture)])?;
    let stub = uki::stub(stub, architecture)?;
    artifacts.add(uki::stub_name(architecture), &stub)?;
    let pxed = Pxed::start(&network.server, &spec(&machine, &["pxed.dev/boot: uki"]), artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    booted(&pxed, &guest, &machine)?;
    got_nothing_but_the_image(&pxed, &machine)
}

/// Boots UEFI by PXE: iPXE, by TFTP, runs a script that starts the image.
pub(crate) fn boots_by_ipxe(firmware: Firmware, edition: Edition) -> anyhow::Result<()> {
    let machine = Machine { kernel_args: format!("{HOSTILE_ARGS} {PC_KERNEL_ARGS}"), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(edition, &[(VERSION, machine.architecture)])?;
    artifacts.add(uki::stub_name(machine.architecture), &uki::stub(Edition::Newer, machine.architecture)?)?;
    let pxed = Pxed::start(&network.server, &spec(&machine, &["pxed.dev/boot: uki"]), artifacts.path(), &[])?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    booted(&pxed, &guest, &machine)?;
    let told = pxed.machine(&machine.mac)?;
    let done = delivered(&told)?;
    ensure!(done == ["loader by tftp", "script by http", "uki by http"], "{done:?}: {told}");
    Ok(())
}

/// Boots firmware that accepts signatures of one key alone, which is pxed's.
pub(crate) fn signed_boots() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: format!("{HOSTILE_ARGS} {}", loud_args()), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Newer, &[(VERSION, machine.architecture)])?;
    artifacts.add(uki::stub_name(machine.architecture), &uki::stub(Edition::Installed, machine.architecture)?)?;
    let key = SigningKey::generate("pxed's lab")?;
    let options = signing_options(&key);
    let spec = spec(&machine, &["pxed.dev/boot: uki"]);
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &as_strs(&options))?;

    let variables = trusting(&key)?;
    let guest = Guest::power_on_with(&network, Firmware::SecureBootHttpX64, &machine.mac, Some(&variables))?;
    booted(&pxed, &guest, &machine)?;
    secure_boot_is_on(&guest)?;
    got_nothing_but_the_image(&pxed, &machine)
}

/// Boots shim, which Microsoft has signed, by HTTP on firmware that has Microsoft's keys alone. shim starts the image, since the machine's
/// owner has enrolled pxed's key.
pub(crate) fn shim_boots() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: format!("{HOSTILE_ARGS} {}", loud_args()), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let artifacts = Artifacts::lay_out(Edition::Newer, &[(VERSION, machine.architecture)])?;
    artifacts.add(uki::stub_name(machine.architecture), &uki::stub(Edition::Newer, machine.architecture)?)?;
    artifacts.add_grub()?;
    let key = SigningKey::generate("pxed's lab")?;
    let options = signing_options(&key);
    let spec = spec(&machine, &["pxed.dev/boot: uki", "pxed.dev/loader: shimx64.efi"]);
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &as_strs(&options))?;

    let mut variables = guest::microsofts_keys()?;
    variables.enrol_machine_owner(&key.certificate_der()?)?;
    let guest = Guest::power_on_with(&network, Firmware::SecureBootHttpX64, &machine.mac, Some(&variables))?;
    booted(&pxed, &guest, &machine)?;
    secure_boot_is_on(&guest)?;
    let told = pxed.machine(&machine.mac)?;
    let done = delivered(&told)?;
    ensure!(done == ["loader by http", "uki by http"], "{done:?}: {told}");
    Ok(())
}

/// Returns the options with which pxed signs.
pub(crate) fn signing_options(key: &SigningKey) -> Vec<String> {
    let path = |file: PathBuf| file.display().to_string();
    ["--secure-boot-key".to_owned(), path(key.key()), "--secure-boot-cert".to_owned(), path(key.certificate())].into()
}

/// Returns the variables of firmware that accepts signatures of this key alone.
pub(crate) fn trusting(key: &SigningKey) -> anyhow::Result<EfiVariables> {
    let mut variables = guest::no_keys()?;
    variables.trust_only(&key.certificate_der()?)?;
    Ok(variables)
}

pub(crate) fn as_strs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// Returns the spec of this machine with annotations for the cluster.
pub(crate) fn spec(machine: &Machine, annotations: &[&str]) -> String {
    cluster::with_annotation(&cluster::cluster(std::slice::from_ref(machine)), &annotations.join("\n    "))
}

/// Waits until the tiny system has reported, and compares its arguments byte for byte.
pub(crate) fn booted(pxed: &Pxed<'_>, guest: &Guest, machine: &Machine) -> anyhow::Result<()> {
    let Report { cmdline, interface, .. } = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected = expected_args(machine);
    ensure!(cmdline == expected, "booted with\n{cmdline}\nnot with\n{expected}");
    ensure!(interface == format!("{}/24", machine.address), "it has the address {interface}");
    Ok(())
}

/// Checks that the kernel was started by firmware that verifies signatures.
pub(crate) fn secure_boot_is_on(guest: &Guest) -> anyhow::Result<()> {
    let console = guest.console.output();
    ensure!(console.contains("secureboot: Secure boot enabled"), "Secure Boot was off:\n{console}");
    Ok(())
}

/// Checks that the image was all that the machine got, by HTTP, and that the machine counts as booted.
pub(crate) fn got_nothing_but_the_image(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<()> {
    let told = pxed.machine(&machine.mac)?;
    let done = delivered(&told)?;
    ensure!(done == ["uki by http"], "{done:?}: {told}");
    Ok(())
}

/// Returns what a booted machine got, in order, `kernel by http`.
pub(crate) fn delivered(told: &serde_json::Value) -> anyhow::Result<Vec<String>> {
    let events = told["events"].as_array().context("no events")?;
    let failed = events.iter().find(|event| event["event"] == "failed");
    ensure!(failed.is_none(), "{failed:?} failed: {told}");
    ensure!(told["boots"] == 1 && told["stage"] == "running", "it does not count as booted: {told}");
    let done = events.iter().filter(|event| event["event"] == "done");
    let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    Ok(done.map(|event| format!("{} by {}", text(event, "artifact"), text(event, "transport"))).collect())
}

/// Checks that firmware refuses an image that a key has signed which it does not trust, and one of which a byte was altered, and that pxed
/// says what it knows of the first.
pub(crate) fn altered_is_refused() -> anyhow::Result<()> {
    let [first, second] = [1, 2].map(|number| Machine { kernel_args: loud_args(), ..Machine::number(number) });
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let artifacts = Artifacts::lay_out(Edition::Newer, &[(VERSION, first.architecture)])?;
    artifacts.add(uki::stub_name(first.architecture), &uki::stub(Edition::Newer, first.architecture)?)?;
    let (key, another) = (SigningKey::generate("pxed's lab")?, SigningKey::generate("somebody else")?);
    let options = signing_options(&key);
    let spec = cluster::cluster(&[first.clone(), second.clone()]);
    let altered_for_second =
        format!("pxed.dev/machines: '{{\"{}\": {{boot: ipxe, loader: altered.efi}}}}'", second.mac);
    let spec = cluster::with_annotation(&spec, &format!("pxed.dev/boot: uki\n    {altered_for_second}"));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &as_strs(&options))?;

    let refused = |machine: &Machine, key: &SigningKey| {
        let variables = trusting(key)?;
        let guest = Guest::power_on_with(&network, Firmware::SecureBootHttpX64, &machine.mac, Some(&variables))?;
        let context = || pxed.process.last_lines();
        guest.console.wait_for_line("Access Denied", BOOT).with_context(context)?;
        ensure!(!guest.console.output().contains("Linux version"), "it was started: {}", guest.console.output());
        Ok(())
    };
    refused(&first, &another)?;

    // The image of the same machine, which only its own address gets.
    let client = network.clients.first().context("no client")?;
    client.ip(&["address", "add", &format!("{}/24", first.address), "dev", INTERFACE])?;
    let altered = artifacts.path().join("altered.efi");
    let url = format!("http://{SERVER}:8000/boot/{}/talos.efi", first.mac.replace(':', "-"));
    client.run("curl", &["--silent", "--show-error", "--fail", "--output", &altered.display().to_string(), &url])?;
    key.verify(&altered).context("the signature in another program's eyes")?;
    let mut image = fs::read(&altered)?;
    let arguments = loud_args();
    let is_argument = |window: &[u8]| window == arguments.as_bytes();
    let at = image.windows(arguments.len()).position(is_argument).context("no arguments in the image")?;
    image[at] ^= 1;
    fs::write(&altered, &image)?;
    ensure!(key.verify(&altered).is_err(), "the signature is also that of the altered image");
    refused(&second, &key)?;

    pxed.eventually("an explanation", Duration::from_secs(120), |pxed| {
        let advice = &pxed.machine(&first.mac)?["diagnosis"]["advice"].to_string();
        Ok(["may have refused the image", "Access Denied", "--secure-boot-key"]
            .iter()
            .all(|part| advice.contains(part)))
    })
}
