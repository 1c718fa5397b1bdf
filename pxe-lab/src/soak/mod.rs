//! A soak: fleets boot, again and again, while an attacker is at work and things go wrong, and no machine may be lost.
//!
//! In the first two thirds of the time pxed is killed, cables lose frames, the interface goes down and the disk is full, by chance and one
//! after the other. In the last third pxed lives undisturbed but for the attacker and the cable, which shows whether its memory grows.
//!
//! The attacker has a port of the switch of its own, and sends with its own MAC address. Frames with a machine's own MAC address as their
//! source are left out: a switch learns from them where the machine is, and neither it nor pxed can tell them from the machine's.

mod attackers;
mod fleet;
mod report;
mod watch;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::{attackers::Attackers, fleet::Fleet, watch::Watch};
pub use self::{
    report::Report,
    watch::{Growth, resident_kib},
};
use crate::{
    Artifacts, BadLink, Bridged, Disk, Namespace, Pxed, bad_link::Losses, chance::Chance, cluster::VERSION,
    pxed::Launch, storm::Storm, suite, topology::INTERFACE,
};

/// The time within which pxed ends after SIGKILL, and an interface is served again.
const SOON: Duration = Duration::from_secs(30);
/// The time within which a storm must be over.
const STORM: Duration = Duration::from_secs(400);
/// The length of each file that machines load, in bytes.
const FILE_BYTES: usize = 300_000;
/// The rounds without faults after which a machine that has not booted is lost.
const LAST_ROUNDS: usize = 6;

/// The extent of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The time in which storms begin. The last one may take longer.
    pub duration: Duration,
    /// The number of machines, at least 2.
    pub machines: u16,
    /// The seed of everything that happens by chance.
    pub seed: u64,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Nothing,
    Kill,
    BadLink,
    InterfaceDown,
    DiskFull,
}

impl Fault {
    fn draw(chance: &mut Chance, is_calm: bool) -> Self {
        match chance.below(if is_calm { 4 } else { 10 }) {
            0..2 => Self::Nothing,
            2..4 => Self::BadLink,
            4..6 => Self::InterfaceDown,
            6..8 => Self::DiskFull,
            _ => Self::Kill,
        }
    }
}

/// Runs a soak. `say` is told what happens.
///
/// # Errors
///
/// Fails if the lab cannot be made, pxed ends by itself, or it does not come back. Lost machines are in the report.
pub fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let mut chance = Chance::new(plan.seed);
    let mut fleet = Fleet::new(plan.machines);
    let bridged = Bridged::new("10.99.0.1/16", 1)?;
    let client = Namespace::new("fleet")?;
    let link = BadLink::plug_in(&bridged, &client, INTERFACE, chance.draw())?;
    let disk = Disk::new("8m")?;
    let artifacts = Artifacts::stand_ins(&[VERSION], FILE_BYTES)?;
    let launch = Launch { state_directory: Some(disk.path()), ..Launch::default() };
    let mut pxed = Pxed::launch_by(&bridged.server, &fleet.spec(), artifacts.path(), &[], &launch)?;
    pxed.wait_until_ready()?;
    let watch = Watch::start(pxed.process.id())?;
    let attackers = Attackers::start(&bridged, fleet.machines())?;
    let begun = Instant::now();
    let mut report = Report { seed: plan.seed, ..Report::default() };
    let mut rounds_left = LAST_ROUNDS;
    let mut was_calm = false;
    loop {
        let is_over = begun.elapsed() >= plan.duration;
        let is_calm = begun.elapsed() >= plan.duration * 2 / 3;
        if is_calm && !was_calm {
            was_calm = true;
            watch.begin_calm();
            say("pxed is left alone from now on, but for the attacker and bad cables");
        }
        if is_over {
            if fleet.is_up() || rounds_left == 0 {
                break;
            }
            rounds_left -= 1;
        }
        let macs = fleet.power_on();
        let storm_seconds = (macs.len() / 60).max(2).to_string();
        let way = ["--hurry", "--arrival", "poisson", "--over-seconds", &storm_seconds, "--limit-seconds", "90"];
        let mut storm = Storm::begin(&client, macs.iter().map(String::as_str), &way)?;
        while storm.is_running()? {
            if is_over {
                // Nothing else happens to machines that are left from a storm with faults.
                let _ = suite::eventually("the storm is over", Duration::from_secs(1), || Ok(!storm.is_running()?));
                continue;
            }
            let fault = Fault::draw(&mut chance, is_calm);
            *report.faults.entry(format!("{fault:?}")).or_default() += 1;
            let time = chance.between(Duration::from_millis(300), Duration::from_millis(3000));
            match fault {
                Fault::Nothing => rest(&mut storm, time),
                Fault::Kill => {
                    rest(&mut storm, time);
                    pxed.process.signal(Signal::SIGKILL)?;
                    fleet.killed(Instant::now());
                    pxed.process.wait(SOON)?;
                    pxed.start_again(artifacts.path(), &[])?;
                    watch.follow(pxed.process.id());
                    report.restarts += 1;
                }
                Fault::BadLink => {
                    link.set(Losses { drop: chance.below(31), duplicate: chance.below(11), reorder: chance.below(21) });
                    rest(&mut storm, time);
                    link.set(Losses::default());
                }
                Fault::InterfaceDown => {
                    bridged.server.ip(&["link", "set", INTERFACE, "down"])?;
                    rest(&mut storm, time);
                    bridged.server.ip(&["link", "set", INTERFACE, "up"])?;
                    pxed.eventually("the interface is served again", SOON, |pxed| Ok(pxed.admin("/readyz").is_ok()))?;
                }
                Fault::DiskFull => {
                    disk.fill()?;
                    rest(&mut storm, time);
                    disk.empty()?;
                }
            }
            anyhow::ensure!(pxed.process.is_running()?, "pxed has ended: {}", pxed.process.last_lines());
        }
        fleet.account(&storm.finish(STORM)?, &mut report);
        say(&format!("{} s: {}", begun.elapsed().as_secs(), report.line()));
    }
    report.lost = fleet.down();
    report.took = begun.elapsed();
    report.attacks = attackers.counts();
    report.frames = link.carried();
    report.memory = watch.end();
    Ok(report)
}

/// Lets this time pass, or less if the storm is over.
fn rest(storm: &mut Storm, time: Duration) {
    let _ = suite::eventually("", time, || Ok(!storm.is_running()?));
}
