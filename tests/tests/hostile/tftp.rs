//! TFTP in others' names.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use pxe_lab::{attack::tftp, topology::INTERFACE};

use crate::scene::Scene;

/// The time by which the attack may delay a boot, besides what a busy machine needs.
const DELAY: Duration = Duration::from_secs(2);
/// The file that is requested.
const FILE: &str = "ipxe-efi-x86_64.efi";
/// The forged requests a second.
const A_SECOND: u32 = 2_000;

/// Forged requests in the victim's name, thousands a second, while it boots.
pub(crate) fn requests() -> anyhow::Result<()> {
    let scene = Scene::new(300_000)?;
    let pxed = scene.pxed(&["--machine-rate", "0"])?;
    let usual = scene.boot()?;
    let flood = tftp::request_flood(scene.attacker()?, scene.target()?, vec![scene.victim()?], FILE, A_SECOND);
    // More than one address may have.
    pxed.eventually("a full table", Duration::from_secs(30), |pxed| {
        Ok(pxed.metrics()?.sum("pxed_tftp_transfers_total", &["result=\"displaced\""]) > 0.0)
    })?;
    let attacked = scene.boot().with_context(|| pxed.process.last_lines())?;
    let sent = flood.end()?;
    ensure!(attacked < usual + DELAY, "{attacked:?} instead of {usual:?} while {sent} forged requests came");
    let machine = pxed.machine(&scene.machine.mac)?;
    let events = machine.get("events").and_then(serde_json::Value::as_array).context("events")?;
    let failed = events.iter().filter(|event| event.get("event") == Some(&"failed".into())).count();
    ensure!(failed == 0, "forged requests are failures of the machine: {machine}");
    Ok(())
}

/// A forged request, and acknowledgements to every port.
pub(crate) fn acknowledgements() -> anyhow::Result<()> {
    const VICTIMS_PORT: u16 = 2070;
    let scene = Scene::new(1_000_000)?;
    let pxed = scene.pxed(&["--machine-rate", "0"])?;
    let (address, client) = (scene.victim()?, scene.bridged.clients.get(1).context("a second client")?);
    client.ip(&["address", "add", &format!("{address}/24"), "dev", INTERFACE])?;
    // Its host does not say that nobody waits there.
    let victim = client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VICTIMS_PORT)))??;
    victim.set_nonblocking(true)?;
    let (wire, target) = (scene.attacker()?, scene.target()?);
    let sent = tftp::blind_acknowledgements(&wire, target, SocketAddrV4::new(address, VICTIMS_PORT), FILE, 3)?;
    // Another client's request is answered after all that.
    pxed.eventually("the acknowledgements to have been seen", Duration::from_secs(30), |pxed| {
        Ok(pxed.metrics()?.sum("pxed_tftp_requests_total", &[]) >= 1.0)
    })?;
    scene.bridged.clients[0].ip(&["address", "add", "10.99.0.50/24", "dev", INTERFACE])?;
    scene.bridged.clients[0].enter(|| -> anyhow::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send_to(&tftp::request(FILE, 512), (target.address, 69))?;
        socket.recv(&mut [0; 1024]).context("another client gets no answer")?;
        Ok(())
    })??;
    let mut buffer = vec![0; 2048];
    let received: usize = std::iter::from_fn(|| victim.recv(&mut buffer).ok()).map(|bytes| bytes + 42).sum();
    ensure!(received > 0, "the request reached nobody");
    ensure!((received as u64) < sent / 4, "{received} bytes were drawn by {sent}");
    let done = pxed.metrics()?.sum("pxed_tftp_transfers_total", &["result=\"done\""]);
    ensure!(done == 0.0, "the whole file counts as delivered");
    Ok(())
}
