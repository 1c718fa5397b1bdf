//! The place of an attack.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    attack::{frames::Wire, tftp::Target},
    build,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    namespace::output,
    topology::INTERFACE,
};

/// One flood at a time: two would compete for the processors, and a boot would wait for those.
static FLOOR: Mutex<()> = Mutex::new(());

/// A server, an attacker and a victim on a switch. No other test has one meanwhile.
pub(crate) struct Scene {
    pub(crate) bridged: Bridged,
    artifacts: Artifacts,
    pub(crate) machine: Machine,
    _floor: MutexGuard<'static, ()>,
}

impl Scene {
    pub(crate) fn new(length: usize) -> anyhow::Result<Self> {
        let _floor = FLOOR.lock().unwrap_or_else(PoisonError::into_inner);
        let bridged = Bridged::new(SERVER_ADDRESS, 2)?;
        Ok(Self { bridged, artifacts: Artifacts::stand_ins(&[VERSION], length)?, machine: Machine::number(1), _floor })
    }

    pub(crate) fn pxed(&self, arguments: &[&str]) -> anyhow::Result<Pxed<'_>> {
        let spec = cluster::cluster(std::slice::from_ref(&self.machine));
        Pxed::start(&self.bridged.server, &spec, self.artifacts.path(), arguments)
    }

    pub(crate) fn attacker(&self) -> anyhow::Result<Wire> {
        Wire::open(self.bridged.clients.first().context("a client")?, INTERFACE)
    }

    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        let mac = Wire::open(&self.bridged.server, INTERFACE)?.mac;
        Ok(Target { mac, address: cluster::SERVER.parse()? })
    }

    pub(crate) fn victim(&self) -> anyhow::Result<Ipv4Addr> {
        Ok(self.machine.address.parse()?)
    }

    /// Boots the victim. Returns the time that it took.
    pub(crate) fn boot(&self) -> anyhow::Result<Duration> {
        let client = self.bridged.clients.get(1).context("a second client")?;
        let mut command = client.command(build::pxed()?.path);
        command.args([
            "rehearse",
            "--interface",
            INTERFACE,
            "--hurry",
            "--firmware",
            "uefi-x64",
            "--mac",
            &self.machine.mac,
        ]);
        let begun = Instant::now();
        output(&mut command)?;
        Ok(begun.elapsed())
    }
}
