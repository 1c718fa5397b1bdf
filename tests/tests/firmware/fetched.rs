//! Machines that boot what pxed fetched: it starts with an empty directory, on a host without any package of Debian's that could help, and
//! with a mirror of the upstreams.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Bridged, Firmware, Guest, Mirror, Pxed,
    assets::{self, Architecture, Edition},
    cluster::{Machine, SERVER_ADDRESS, VERSION, with_schematic},
    guest::{BOOT, PC_KERNEL_ARGS},
    initramfs,
    mirror::{Certificate, Fault},
    pxed::{BARE_HOST, Launch},
    signing::SigningKey,
    uki::like_the_factorys,
};
use tempfile::TempDir;

use crate::{
    arguments,
    uki::{
        as_strs, booted, delivered, expected_args, got_nothing_but_the_image, loud_args, secure_boot_is_on,
        signing_options, spec, trusting,
    },
};

/// The schematic of the Image Factory without customisation.
const PLAIN_SCHEMATIC: &str = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

/// Another schematic.
const SCHEMATIC: &str = "ee21ef4a5ef808a9b7484cc0dda0f25075021691c8c09a276591eedb638ea1f9";

/// The arguments in the images of [`Mirror`]'s Image Factory.
const FACTORYS_ARGS: &str = "talos.platform=metal factorys=own console=ttyS0 panic=-1 no_timer_check";

/// Boots by PXE, iPXE and a script, all of which pxed fetches. The kernel is still on its way when iPXE asks for the script.
pub(crate) fn by_ipxe() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let mirror = Mirror::start_in(&network.server)?;
    let kernel = initramfs::kernel(Architecture::Amd64)?;
    mirror.release(VERSION, "vmlinuz-amd64", kernel.as_path())?;
    mirror.release(VERSION, "initramfs-amd64.xz", initramfs::content(Architecture::Amd64)?)?;
    let ipxe = assets::installed("ipxe", "/usr/lib/ipxe/ipxe.efi")?;
    mirror.put("/ipxe/x86_64-efi/ipxe.efi", ipxe.as_path())?;
    mirror.put("/ipxe/undionly.kpxe", assets::installed("ipxe", "/usr/lib/ipxe/undionly.kpxe")?)?;
    let path = format!("/talos/{VERSION}/vmlinuz-amd64");
    mirror.fail(&path, Fault::Slow { bytes_per_second: fs::metadata(&kernel)?.len() / 1000 });
    let artifacts = TempDir::new()?;
    let pxed = run(&network, &spec(&machine, &[]), artifacts.path(), &mirror, &[])?;

    let guest = Guest::power_on(&network, Firmware::UefiX64(Edition::Installed), &machine.mac)?;
    let waits =
        guest.wait_for_line("waits for the kernel").map_err(|error| error.context(pxed.process.last_lines()))?;
    ensure!(waits.contains(&machine.mac), "another machine's line: {waits}");
    guest.wait_for_line(" percent (")?;
    mirror.heal(&path);
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    let expected = format!("initrd=initramfs.xz {}", expected_args(&machine));
    ensure!(arguments(&report.cmdline) == expected, "booted with\n{}\nnot with\n{expected}", report.cmdline);
    let told = pxed.machine(&machine.mac)?;
    let mut done = delivered(&told)?;
    done.dedup();
    ensure!(done == ["loader by tftp", "script by http", "kernel by http", "initramfs by http"], "{done:?}: {told}");
    ensure!(fs::read(artifacts.path().join("ipxe-efi-x86_64.efi"))? == fs::read(ipxe)?, "another loader");
    each_was_fetched_once(&mirror)
}

/// Boots by HTTP from an image that is made of the Image Factory's, since the host has no EFI stub. It is still on its way when the firmware
/// asks for it, which gets iPXE meanwhile.
pub(crate) fn by_uki() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let mirror = Mirror::start_tls_in(&network.server, Certificate::Good)?;
    let image = like_the_factorys(Architecture::Amd64, FACTORYS_ARGS)?;
    let slowly = Fault::Slow { bytes_per_second: u64::try_from(image.len() / 1000)? };
    let path = format!("/factory/image/{PLAIN_SCHEMATIC}/{VERSION}/metal-amd64-uki.efi");
    mirror.put(&path, image)?;
    let ipxe = assets::unpacked("ipxe", Architecture::Amd64)?.join("usr/lib/ipxe/ipxe.efi");
    mirror.put("/ipxe/x86_64-efi/ipxe.efi", ipxe)?;
    mirror.fail(&path, slowly);
    let artifacts = TempDir::new()?;
    let pxed = run(&network, &spec(&machine, &["pxed.dev/boot: uki"]), artifacts.path(), &mirror, &[])?;

    let guest = Guest::power_on(&network, Firmware::UefiHttpX64(Edition::Newer), &machine.mac)?;
    guest.wait_for_line("waits for the").map_err(|error| error.context(pxed.process.last_lines()))?;
    guest.wait_for_line(" percent (")?;
    mirror.heal(&path);
    booted(&pxed, &guest, &machine)?;
    let told = pxed.machine(&machine.mac)?;
    let mut done = delivered(&told)?;
    done.dedup();
    ensure!(done == ["loader by http", "script by http", "uki by http"], "{done:?}: {told}");
    each_was_fetched_once(&mirror)
}

/// Boots by HTTP, with Secure Boot, from an image that is made of a schematic's and signed for the machine.
pub(crate) fn by_signed_uki() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: loud_args(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let mirror = Mirror::start_in(&network.server)?;
    mirror.factory(
        SCHEMATIC,
        VERSION,
        "metal-amd64-uki.efi",
        like_the_factorys(Architecture::Amd64, FACTORYS_ARGS)?,
    )?;
    let key = SigningKey::generate("pxed's lab")?;
    let spec = with_schematic(&spec(&machine, &["pxed.dev/boot: uki"]), SCHEMATIC);
    let artifacts = TempDir::new()?;
    let pxed = run(&network, &spec, artifacts.path(), &mirror, &signing_options(&key))?;
    is_fetched(&pxed, &artifacts.path().join(format!("{SCHEMATIC}/uki-{VERSION}-amd64.efi")))?;

    let variables = trusting(&key)?;
    let guest = Guest::power_on_with(&network, Firmware::SecureBootHttpX64, &machine.mac, Some(&variables))?;
    booted(&pxed, &guest, &machine)?;
    secure_boot_is_on(&guest)?;
    got_nothing_but_the_image(&pxed, &machine)
}

/// Boots by HTTP, with Secure Boot, from the Image Factory's image as it is, on firmware that trusts the Factory's key.
pub(crate) fn by_factory_uki() -> anyhow::Result<()> {
    let machine = Machine { kernel_args: String::new(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let mirror = Mirror::start_in(&network.server)?;
    let key = SigningKey::generate("the Image Factory")?;
    let image = key.sign(&like_the_factorys(Architecture::Amd64, FACTORYS_ARGS)?)?;
    mirror.factory(SCHEMATIC, VERSION, "metal-amd64-secureboot-uki.efi", image)?;
    let spec = with_schematic(&spec(&machine, &["pxed.dev/boot: factory-uki"]), SCHEMATIC);
    let artifacts = TempDir::new()?;
    let pxed = run(&network, &spec, artifacts.path(), &mirror, &[])?;
    is_fetched(&pxed, &artifacts.path().join(format!("{SCHEMATIC}/secureboot-uki-{VERSION}-amd64.efi")))?;

    let variables = trusting(&key)?;
    let guest = Guest::power_on_with(&network, Firmware::SecureBootHttpX64, &machine.mac, Some(&variables))?;
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    ensure!(report.cmdline == FACTORYS_ARGS, "booted with\n{}\nnot with\n{FACTORYS_ARGS}", report.cmdline);
    secure_boot_is_on(&guest)?;
    got_nothing_but_the_image(&pxed, &machine)
}

/// Starts pxed on a host without Debian's packages, and with this mirror in place of the upstreams.
fn run<'n>(
    network: &'n Bridged,
    spec: &str,
    artifacts: &Path,
    mirror: &Mirror,
    options: &[String],
) -> anyhow::Result<Pxed<'n>> {
    let options = [vec!["--offline=false".to_owned()], mirror.options(), options.to_vec()].concat();
    let launch = Launch { wrapper: &BARE_HOST, ..Launch::default() };
    let mut pxed = Pxed::launch_by(&network.server, spec, artifacts, &as_strs(&options), &launch)?;
    pxed.wait_until_ready()?;
    Ok(pxed)
}

/// Waits for a file, which firmware that verifies signatures cannot wait for by iPXE.
fn is_fetched(pxed: &Pxed<'_>, file: &Path) -> anyhow::Result<()> {
    pxed.eventually(&format!("{}", file.display()), BOOT, |_| Ok(file.exists()))
}

/// Checks that no file was asked for twice.
fn each_was_fetched_once(mirror: &Mirror) -> anyhow::Result<()> {
    let requests = mirror.requests();
    let with_content = requests.iter().filter(|request| request.method == "GET" && matches!(request.status, 200 | 206));
    let mut paths: Vec<_> = with_content.map(|request| request.path.as_str()).collect();
    paths.sort_unstable();
    let count = paths.len();
    paths.dedup();
    ensure!(paths.len() == count, "a file was fetched twice: {requests:#?}");
    paths.first().context("nothing was fetched").map(drop)
}
