//! Fleets that boot although pxed is killed, or the cables are bad.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, BadLink, Bridged, Namespace, Pxed,
    bad_link::Losses,
    chance::{self, Chance},
    cluster::{self, VERSION},
    storm::{self, Storm},
    topology::INTERFACE,
};

use crate::place::SOON;

/// The machines that boot while pxed is killed, and those at the end of a bad cable.
const FLEET: u16 = 1000;
const FEW: u16 = 40;

/// The number of kills.
const KILLS: usize = 3;

/// The network and the fleet's spec.
struct Fleet {
    bridged: Bridged,
    artifacts: Artifacts,
    machines: Vec<cluster::Machine>,
    spec: String,
}

impl Fleet {
    fn new(machines: u16, clients: usize, length: usize) -> anyhow::Result<Self> {
        let machines = storm::machines(machines);
        let spec = cluster::cluster_with_gateway(&machines, cluster::SERVER).replace("subnet: 24", "subnet: 16");
        let bridged = Bridged::new("10.99.0.1/16", clients)?;
        Ok(Self { bridged, artifacts: Artifacts::stand_ins(&[VERSION], length)?, machines, spec })
    }
}

pub(crate) fn killed() -> anyhow::Result<()> {
    let seed = chance::seed();
    println!("{}={seed}", chance::SEED);
    let mut chance = Chance::new(seed);
    let fleet = Fleet::new(FLEET, 1, 1 << 20)?;
    let spec = cluster::with_annotation(&fleet.spec, "pxed.dev/boot-policy: once");
    let client = &fleet.bridged.clients[0];
    let mut pxed = Pxed::start(&fleet.bridged.server, &spec, fleet.artifacts.path(), &[])?;
    let mut kills = Vec::new();
    let kill = |storm: &mut Storm| {
        for _ in 0..KILLS {
            // By chance, so there is no event to wait for.
            thread::sleep(chance.between(Duration::from_millis(300), Duration::from_millis(4000)));
            if kills.len() < KILLS && storm.is_running()? {
                pxed.process.signal(Signal::SIGKILL)?;
                kills.push(Instant::now());
                pxed.process.wait(SOON)?;
                pxed.start_again(fleet.artifacts.path(), &[])?;
            }
        }
        Ok(())
    };
    let way = ["--hurry", "--arrival", "poisson", "--over-seconds", "12", "--limit-seconds", "120"];
    let booted = storm::boot_all(client, &fleet.machines, &way, 6, kill)?;
    ensure!(kills.len() == KILLS, "{} kills: the storm was over too soon", kills.len());

    // Every machine is powered on again, and boots from its disk.
    let macs = || fleet.machines.iter().map(|machine| machine.mac.as_str());
    let again =
        Storm::begin(client, macs(), &["--hurry", "--limit-seconds", "120"])?.finish(Duration::from_secs(150))?;
    let mut excused = 0;
    for (mac, done) in &again {
        if !done.is_at_disk() {
            ensure!(booted[mac].is_just_before(&kills), "{mac} boots twice: {done:?}: {}", pxed.machine(mac)?);
            excused += 1;
        }
    }
    println!("{excused} machines were not known to have booted, of those that had their files just before a kill");
    Ok(())
}

pub(crate) fn bad_link() -> anyhow::Result<()> {
    let seed = chance::seed();
    println!("{}={seed}", chance::SEED);
    let fleet = Fleet::new(FEW, 0, 8_000)?;
    let client = Namespace::new("client")?;
    let link = BadLink::plug_in(&fleet.bridged, &client, INTERFACE, seed)?;
    let _pxed = Pxed::start(&fleet.bridged.server, &fleet.spec, fleet.artifacts.path(), &[])?;
    link.set(Losses { drop: 30, duplicate: 10, reorder: 20 });
    let seed = seed.to_string();
    let firmware = "bios,uefi-x64,http-x64,ipxe";
    let way = ["--hurry", "--firmware", firmware, "--limit-seconds", "60", "--seed", &seed];
    let boots = storm::boot_all(&client, &fleet.machines, &way, 12, |_| Ok(()))?;
    let carried = link.carried();
    ensure!(carried.dropped > 500 && carried.duplicated > 100 && carried.reordered > 100, "{carried:?}");
    println!("{} boots, {carried:?}", boots.len());
    Ok(())
}
