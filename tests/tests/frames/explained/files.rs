//! Files that are missing, that change under a machine's hands, and that cannot be made.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::SocketAddrV4,
    time::Duration,
};

use pxe_lab::{
    assets::Architecture,
    cluster::{self, SERVER, VERSION},
    tcp, uki,
};

use super::{
    host::{IPXE, Lab, kernel},
    says,
};

/// A version of which no initramfs is there.
const NEXT: &str = "v1.14.0";
/// The length of a kernel in bytes, and of the part that its machine reads before it changes.
const KERNEL: usize = 8_000_000;
const READ: usize = 500_000;
const RECEIVE_BUFFER: usize = 16 * 1024;
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
