//! A node that is killed while a machine loads from it. The machine goes on with the other node.

use std::{fs::File, time::Duration};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Firmware, Guest, Pxed,
    assets::{Architecture, Edition},
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    guest::PC_KERNEL_ARGS,
    topology::INTERFACE,
};

use crate::{TALOS_AMD64, arguments};

/// The second node's address; the first one has that of the spec.
const SECOND: &str = "10.99.0.2";

/// The length of the initramfs, so that its transfer takes seconds. Linux skips the zeros at its end.
const INITRAMFS_BYTES: u64 = 32 * 1024 * 1024;

/// The file that is on its way when the node dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loading {
    Kernel,
    Initramfs,
}

/// The transfer breaks off, the node does not answer, and DHCP names the other one. A kernel that has arrived is not loaded again.
pub(crate) fn machine_follows(firmware: Firmware, loaders: Edition, loading: Loading) -> anyhow::Result<()> {
    let machine = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let other = network.clients.first().context("a second host")?;
    other.ip(&["address", "add", &format!("{SECOND}/24"), "dev", INTERFACE])?;
    let artifacts = Artifacts::lay_out(loaders, &[(VERSION, Architecture::Amd64)])?;
    let initramfs = artifacts.path().join(format!("initramfs-{VERSION}-amd64.xz"));
    File::options().write(true).open(initramfs)?.set_len(INITRAMFS_BYTES)?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let specs = [spec.clone(), spec.replace(&format!("address: {SERVER}\n"), &format!("address: {SECOND}\n"))];
    let peers = ["--peers", SERVER, SECOND];
    let mut nodes = [
        Pxed::start(&network.server, &specs[0], artifacts.path(), &peers)?,
        Pxed::start(other, &specs[1], artifacts.path(), &peers)?,
    ];

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    let greeting = guest.wait_for_line("boots Talos")?;
    let (dies, address) = if greeting.contains(SECOND) { (1, SERVER) } else { (0, SECOND) };
    guest.wait_for_line(match loading {
        Loading::Kernel => "loading kernel",
        Loading::Initramfs => "loading initramfs",
    })?;
    nodes[dies].process.signal(Signal::SIGKILL)?;
    nodes[dies].process.wait(Duration::from_secs(5))?;
    let lives = &nodes[1 - dies];
    let report = guest.report().map_err(|error| error.context(lives.process.last_lines()))?;

    ensure!(guest.console.output().contains("asking DHCP again"), "the node died too late: {report:?}");
    let expected = format!("initrd=initramfs.xz {TALOS_AMD64} {}", machine.kernel_args);
    ensure!(arguments(&report.cmdline) == expected, "booted with\n{}\nnot with\n{expected}", report.cmdline);
    ensure!(report.lease.contains(&format!("server={address}")), "{report:?}");
    let seen = lives.machine(&machine.mac)?;
    ensure!(seen["boots"] == 1, "{seen}");
    let events = seen["events"].as_array().context("no events")?;
    let kernels = events.iter().filter(|event| event["event"] == "done" && event["artifact"] == "kernel").count();
    ensure!(kernels == usize::from(loading == Loading::Kernel), "{kernels} kernels from the second node: {seen}");
    Ok(())
}
