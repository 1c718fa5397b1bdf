//! DHCP in others' names.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pxe_common::MacAddr;
use pxe_lab::{
    Datapath,
    attack::dhcp::{self, Disguise},
};

use crate::scene::Scene;

/// The time by which the attack may delay a boot, besides what a busy machine needs.
const DELAY: Duration = Duration::from_secs(2);
/// Far more than every bucket allows.
const FAST: u32 = 10_000;
/// More frames than the buckets hold, unless the attack is a slow one.
const DRAINED: u64 = 1_000;

/// A victim boots while an attacker sends DHCP frames in its name, slowly and fast, in every disguise.
pub(crate) fn flood(datapath: Datapath) -> anyhow::Result<()> {
    let scene = Scene::new(300_000)?;
    let victim: MacAddr = scene.machine.mac.parse()?;
    let pxed = scene.pxed(&datapath.arguments())?;
    let usual = scene.boot()?;
    let attacks = [
        (Disguise::None, 20),
        (Disguise::None, FAST),
        (Disguise::Relay([192, 0, 2, 1].into()), FAST),
        (Disguise::ChangingAddress, FAST),
    ];
    for (disguise, a_second) in attacks {
        let flood = dhcp::flood(scene.attacker()?, vec![victim], disguise, a_second);
        let drained = DRAINED.min(a_second.into());
        pxed.eventually("the attack is at its height", Duration::from_secs(30), |_| Ok(flood.sent() >= drained))?;
        let attacked = scene.boot().with_context(|| format!("{disguise:?}: {}", pxed.process.last_lines()))?;
        let sent = flood.end()?;
        println!("{datapath} {disguise:?}: {attacked:?} instead of {usual:?}, with {sent} forged frames");
        ensure!(attacked < usual + DELAY, "{disguise:?}: {attacked:?} instead of {usual:?}, with {sent} forged frames");
    }
    let metrics = pxed.metrics()?;
    let refused = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        let names = ["pxed_xdp_packets_total", "pxed_socket_frames_refused_total"];
        names.iter().map(|name| metrics.sum(name, &[&label])).sum::<f64>()
    };
    ensure!(refused("rate_limited") == 0.0, "the machine's own frames were refused");
    ensure!(refused("others_rate_limited") > 0.0, "no forged frame was refused");
    let seen = pxed.machine(&scene.machine.mac)?;
    ensure!(seen["boots_from"] == "network", "it was sent to its disk: {seen}");
    ensure!(seen["boots"] == attacks.len() + 1, "{seen}");
    ensure!(seen["frames_of_others"]["count"].as_u64() > Some(0), "{seen}");
    Ok(())
}
