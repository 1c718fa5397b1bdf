//! Files that are missing, that change under a machine's hands, and that cannot be made.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::SocketAddrV4,
    time::Duration,
};

use anyhow::Context as _;
use pxe_lab::{
    Disk, Pxed,
    assets::Architecture,
    build,
    cluster::{self, SERVER, VERSION},
    namespace, tcp, uki,
};

use super::{
    SOON,
    host::{FIRMWARE, IPXE, LOADER, Lab, kernel},
    says,
};

/// A version of which no initramfs is there.
const NEXT: &str = "v1.14.0";
/// The length of a kernel in bytes, and of the part that its machine reads before it changes.
const KERNEL: usize = 8_000_000;
const READ: usize = 500_000;
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The length of a file without content that takes minutes to read.
const LONG_TO_READ: u64 = 512 << 30;
const READ_TIME: Duration = Duration::from_secs(20);

pub(crate) fn missing_or_changed() -> anyhow::Result<()> {
    let lab = Lab::new(4, 10_000)?;
    let [waits, reads, broken_stub, without_config] = &lab.hosts()?;
    let path = |name: &str| lab.artifacts.path().join(name);
    fs::write(path(&format!("vmlinuz-{VERSION}-amd64")), vec![1; KERNEL])?;
    fs::write(path(&format!("vmlinuz-{NEXT}-amd64")), "a kernel")?;
    fs::write(path(uki::stub_name(Architecture::Amd64)), "no stub")?;
    let machines: Vec<_> = lab.machines[1..].to_vec();
    let uki = format!("pxed.dev/machines: '{{\"{}\": {{boot: uki}}}}'", broken_stub.machine.mac);
    let spec = format!(
        "{}---\n{}",
        cluster::with_annotation(&cluster::cluster(&machines), &uki),
        cluster::cluster(std::slice::from_ref(waits.machine))
            .replace("name: lab\n", "name: next\n")
            .replace(VERSION, NEXT)
    );
    let pxed = lab.pxed(&spec, &[])?;
    for host in [waits, reads, broken_stub, without_config] {
        host.use_address()?;
    }

    // It is told before the machine asks, and what it waits for then.
    let missing = "its initramfs initramfs-v1.14.0-amd64.xz is missing: pxed runs with --offline";
    says(&pxed, waits.machine, &["It has sent nothing in the ", &format!("It cannot boot: {missing}."), "Get it: "])?;
    waits.lease(IPXE)?;
    waits.get_script()?;
    let asked = [
        "It asked for its boot script and has been waiting for ",
        missing,
        "Somebody who sees to that file.",
        "Get it: ",
    ];
    says(&pxed, waits.machine, &asked)?;
    fs::write(path("copy"), "an initramfs")?;
    fs::rename(path("copy"), path(&format!("initramfs-{NEXT}-amd64.xz")))?;
    says(&pxed, waits.machine, &["All files that it boots are there now.", "Its next request, which it makes"])?;

    let address = SocketAddrV4::new(SERVER.parse()?, 8000);
    let mut connection = reads.namespace.enter(|| tcp::connect_with_receive_buffer(address, RECEIVE_BUFFER))??;
    connection.set_read_timeout(Some(READ_TIME))?;
    write!(connection, "GET {} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n", kernel())?;
    connection.read_exact(&mut vec![0; READ])?;
    File::options().write(true).open(path(&format!("vmlinuz-{VERSION}-amd64")))?.write_all(b"another kernel")?;
    // The connection breaks before the end.
    let _ = connection.read_to_end(&mut Vec::new());
    let changed =
        ["It failed ", "Somebody wrote to /assets/vmlinuz-v1.13.0-amd64 while it was sent.", "rename it (mv)"];
    says(&pxed, reads.machine, &changed)?;

    broken_stub.is_answered(&format!("/boot/{}/talos.efi", broken_stub.dashed_mac()), 503)?;
    let no_image = ["its unified kernel image cannot be made", "The machine gets its image at its next attempt"];
    says(&pxed, broken_stub.machine, &no_image)?;

    without_config.is_answered(&format!("/boot/{}/config.yaml", without_config.dashed_mac()), 404)?;
    let no_config = [
        "Talos waits for its machine configuration and asks again",
        "pxed has no machine configuration for it: name one with --talos-config",
    ];
    says(&pxed, without_config.machine, &no_config)
}

/// The loader and a kernel are not what was recorded of them.
pub(crate) fn not_as_verified() -> anyhow::Result<()> {
    let lab = Lab::new(2, 10_000)?;
    let [altered, kernel_altered] = &lab.hosts()?;
    let path = |name: &str| lab.artifacts.path().join(name);
    let replace =
        |name: &str, content: &str| fs::write(path("new"), content).and_then(|()| fs::rename(path("new"), path(name)));
    let kernel = format!("vmlinuz-{VERSION}-amd64");
    let directory = lab.artifacts.path().to_str().context("a path")?;
    let accept = ["fetch", "--artifacts", directory, "--accept", LOADER, "--accept", &kernel];
    namespace::output(lab.network.server.command(build::pxed()?.path).args(accept))?;
    let pxed = lab.pxed(&lab.spec(), &[])?;
    for host in [altered, kernel_altered] {
        host.use_address()?;
        host.lease(FIRMWARE)?;
    }

    // While the file is being read, requests by TFTP are left unanswered.
    replace(LOADER, "another loader")?;
    pxed.eventually("a refusal", SOON, |pxed| {
        altered.request_alone(LOADER.as_bytes())?;
        Ok(pxed.machine(&altered.machine.mac)?["events"]
            .to_string()
            .contains("the file is not the one that was verified"))
    })?;
    let full = path(LOADER).display().to_string();
    let sum = |file: &str| -> anyhow::Result<String> {
        let line = lab.network.server.run("sha256sum", &[file])?;
        line.split_whitespace().next().map(str::to_owned).context("no sum")
    };
    let refused =
        format!("{full} is not served: its SHA-256 is {}, and the hash that was accepted by hand says ", sum(&full)?);
    let keep = format!("keep it as it is with pxed fetch --accept {full}");
    let as_it_is = ["It failed ", "ipxe-efi-x86_64.efi is refused: ", &refused, &keep, "Get it: pxed fetch --cluster "];
    says(&pxed, altered.machine, &[&["the file is not the one that was verified."][..], &as_it_is].concat())?;

    // The advice is about the file as it is now.
    namespace::output(lab.network.server.command(build::pxed()?.path).args(accept))?;
    let there_again = ["ipxe-efi-x86_64.efi is there, as it was verified. The machine gets it at its next attempt."];
    says(&pxed, altered.machine, &there_again)?;

    replace(&kernel, "another kernel")?;
    let cannot_boot = format!(
        "It cannot boot: its kernel {kernel} is refused: {} is not served: its SHA-256 is ",
        path(&kernel).display()
    );
    says(&pxed, kernel_altered.machine, &[&cannot_boot, "Its firmware has had an address for "])?;
    kernel_altered.lease(IPXE)?;
    kernel_altered.get_script()?;
    let waits = [
        "It asked for its boot script and has been waiting for ",
        &format!("its kernel {kernel} is refused: "),
        "Somebody who sees to that file.",
    ];
    says(&pxed, kernel_altered.machine, &waits)
}

/// A kernel was replaced, and is still being read to verify it when a machine has waited for it for ten seconds.
pub(crate) fn not_verified_in_time() -> anyhow::Result<()> {
    let lab = Lab::new(1, 10_000)?;
    let [waits] = &lab.hosts()?;
    // Holes take no memory there, whoever reads them.
    let disk = Disk::new("16m")?;
    for entry in fs::read_dir(lab.artifacts.path())? {
        let entry = entry?;
        fs::copy(entry.path(), disk.path().join(entry.file_name()))?;
    }
    let kernel = format!("vmlinuz-{VERSION}-amd64");
    let directory = disk.path().to_str().context("a path")?;
    let accept = ["fetch", "--artifacts", directory, "--accept", &kernel];
    namespace::output(lab.network.server.command(build::pxed()?.path).args(accept))?;
    let pxed = Pxed::start(&lab.network.server, &lab.spec(), disk.path(), &["--machine-rate", "0"])?;
    waits.use_address()?;
    waits.lease(IPXE)?;
    waits.get_script()?;
    let new = disk.path().join("new");
    File::create(&new)?.set_len(LONG_TO_READ)?;
    fs::rename(&new, disk.path().join(&kernel))?;
    waits.is_answered(&self::kernel(), 503)?;
    let is_read =
        format!("At its next boot it has to wait for a file: its kernel {kernel} is there and is being verified.");
    says(&pxed, waits.machine, &["It failed ", "the file has changed and is being verified.", &is_read])
}
