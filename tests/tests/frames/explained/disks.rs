//! Machines that boot from their disks, or may do so: what counts as proof of it, and who decided.

use anyhow::ensure;
use pxe_lab::{Pxed, build, cluster, namespace};

use super::{
    host::{Client, FIRMWARE, Host, IPXE, LOADER, Lab, TALOS},
    says,
};

/// An operating system that is not Talos: it asks for time servers.
const SYSTEM: Client<'_> = &[(55, &[1, 3, 6, 42, 121])];

pub(crate) fn boot_from_their_disks() -> anyhow::Result<()> {
    let lab = Lab::new(7, 10_000)?;
    let [held, once, runs_once, auto, other_system, by_loader, unseen] = &lab.hosts()?;
    let policies: Vec<_> =
        [once, runs_once].map(|host| format!("\"{}\": {{bootPolicy: once}}", host.machine.mac)).into();
    let spec = cluster::with_annotation(&lab.spec(), &format!("pxed.dev/machines: '{{{}}}'", policies.join(", ")));
    let pxed = lab.pxed(&spec, &[])?;
    for host in [held, once, runs_once, auto, other_system, by_loader, unseen] {
        host.use_address()?;
    }

    let mut hold = lab.network.server.command(build::pxed()?.path);
    namespace::output(
        hold.arg("hold").arg(&held.machine.mac).arg(format!("--admin=unix:{}", pxed.socket().display())),
    )?;
    held.lease(FIRMWARE)?;
    let release = |host: &Host<'_>| format!("pxed release {}.", host.machine.mac);
    let by_a_person = ["It was told to boot from its own disk ", "it is held by a person (pxed hold)", &release(held)];
    says(&pxed, held.machine, &by_a_person)?;

    for host in [once, runs_once, auto, other_system] {
        boots(&pxed, host)?;
    }
    once.lease(FIRMWARE)?;
    let by_policy = ["It was told to boot from its own disk ", "its policy is once, and it was given its kernel"];
    says(&pxed, once.machine, &by_policy)?;
    let next_time = "At its next boot it is sent to its disk: its policy is once, and it was given its kernel.";
    says(&pxed, runs_once.machine, &["An operating system has been running with 10.99.0.103 for ", next_time])?;

    // Their firmware asked, and they load nothing.
    for (host, system) in [(auto, TALOS), (other_system, SYSTEM)] {
        host.lease(FIRMWARE)?;
        host.lease(system)?;
    }
    let from_disk = [
        "An operating system that pxed did not serve has been running for ",
        "counts as proof that it runs from its disk: its firmware asked, and loaded no kernel from pxed",
        "It stays there because it has been seen to run from its own disk. To install it again: ",
        &release(auto),
    ];
    says(&pxed, auto.machine, &from_disk)?;
    let not_yet = "An operating system asked ";
    says(&pxed, other_system.machine, &[not_yet, "does not count as proof of its disk yet: it is not Talos"])?;
    by_loader.lease(FIRMWARE)?;
    by_loader.load(LOADER)?;
    by_loader.comes_to("loader-done", &pxed)?;
    by_loader.lease(TALOS)?;
    says(&pxed, by_loader.machine, &["Talos asked ", "does not count as proof of its disk: "])?;
    unseen.lease(TALOS)?;
    says(&pxed, unseen.machine, &["Talos asked ", "does not count as proof of its disk: "])?;
    let diagnosis = pxed.machine(&unseen.machine.mac)?["diagnosis"].to_string();
    ensure!(diagnosis.contains("firmware"), "{diagnosis}");
    Ok(())
}

/// Boots a machine from the network until its system has an address.
fn boots(pxed: &Pxed<'_>, host: &Host<'_>) -> anyhow::Result<()> {
    host.lease(FIRMWARE)?;
    host.load(LOADER)?;
    host.lease(IPXE)?;
    host.get_script()?;
    host.get_kernel()?;
    host.get_initramfs()?;
    host.comes_to("booting", pxed)?;
    host.lease(TALOS)?;
    host.comes_to("running", pxed)
}
