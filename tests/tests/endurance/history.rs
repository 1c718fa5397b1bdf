//! The history of boot events on a disk that takes nothing for a while.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Disk, Pxed, build,
    cluster::{self, Machine},
    namespace::output,
    pxed::Launch,
    suite,
    topology::INTERFACE,
};

use crate::place::{Place, SOON};

/// The size of the disk. The history leaves a quarter of it free.
const SIZE: usize = 1 << 20;

/// A change of the disk.
type Change = fn(&Disk) -> anyhow::Result<()>;

/// The ways in which a disk takes nothing: how it begins and ends, its words in the log, and whether the state files suffer as well.
const WAYS: [(Change, Change, &str, bool); 3] = [
    (|disk| nearly_fill(disk.path()), |disk| Ok(fs::remove_file(disk.path().join(ROOM))?), "no room", false),
    (Disk::fill, Disk::empty, "no room", true),
    // For a moment it may be written to.
    (
        |disk| suite::eventually("a disk that rests", SOON, || Ok(disk.make_read_only().is_ok())),
        Disk::make_writable,
        "Read-only file system",
        true,
    ),
];

/// The file that leaves an eighth of the disk.
const ROOM: &str = "room";

fn nearly_fill(disk: &Path) -> anyhow::Result<()> {
    Ok(fs::write(disk.join(ROOM), vec![0; SIZE / 8 * 7])?)
}

/// The boot events so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    all: f64,
    written: f64,
    dropped: f64,
}

impl Counts {
    fn read(pxed: &Pxed<'_>) -> anyhow::Result<Self> {
        let metrics = pxed.metrics()?;
        let sum = |name: &str| metrics.sum(name, &[]);
        Ok(Self {
            all: sum("pxed_boot_events_total"),
            written: sum("pxed_history_events_total"),
            dropped: sum("pxed_history_events_dropped_total"),
        })
    }

    /// Waits until each event is either on the disk or counted as missing.
    fn settled(pxed: &Pxed<'_>) -> anyhow::Result<Self> {
        let mut counts = Self::read(pxed)?;
        pxed.eventually("every event is accounted for", SOON, |pxed| {
            let before = std::mem::replace(&mut counts, Self::read(pxed)?);
            Ok(counts == before && counts.written + counts.dropped == counts.all)
        })
        .with_context(|| format!("{counts:?}"))?;
        Ok(counts)
    }
}

/// Lets a machine boot, without the pauses of its firmware.
fn boots(place: &Place, machine: &Machine) -> anyhow::Result<()> {
    let client = place.bridged.clients.get(1).context("a second client")?;
    let mut command = client.command(build::pxed()?.path);
    command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--firmware", "ipxe", "--mac", &machine.mac]);
    output(&mut command).map(drop)
}

/// Returns the texts of a machine's events, without what a restart adds to them.
fn events(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<Vec<String>> {
    let told = pxed.machine(&machine.mac)?;
    let events = told["events"].as_array().context("events")?.iter();
    let text = |event: &serde_json::Value| {
        let text = event["text"].as_str().unwrap_or_default().trim_end_matches(" (before pxed was restarted)");
        format!("{} {text}", event["at"])
    };
    Ok(events.map(text).collect())
}

/// Boots go on; what could not be written is counted and told of once; what was written is there after a restart.
pub(crate) fn unwritable() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let disk = Disk::new(&SIZE.to_string())?;
    let all: Vec<_> = (1..=30).map(Machine::number).collect();
    let mut fresh = all.iter();
    let launch = Launch { state_directory: Some(disk.path()), ..Launch::default() };
    let spec = cluster::cluster(&all);
    let mut pxed = Pxed::launch_by(&place.bridged.server, &spec, place.artifacts.path(), &[], &launch)?;
    pxed.wait_until_ready()?;
    let count = |pxed: &Pxed<'_>, pattern: &str| pxed.process.output().matches(pattern).count();
    let health = |pxed: &Pxed<'_>, what: &str, is_told: bool| {
        pxed.eventually(what, SOON, |pxed| Ok(pxed.admin("/api/v1/health")?.contains("the history") == is_told))
    };
    let (mut kept, mut missing, mut between) = (Vec::new(), Vec::new(), Vec::new());
    for (round, (spoil, repair, words, harms_state)) in WAYS.into_iter().enumerate() {
        let machine = fresh.next().context("a machine")?;
        boots(&place, machine)?;
        let before = Counts::settled(&pxed)?;
        kept.push(machine);
        let states = count(&pxed, "the state is not saved");

        spoil(&disk)?;
        for machine in fresh.by_ref().take(2) {
            boots(&place, machine).with_context(|| pxed.process.last_lines())?;
            missing.push(machine);
        }
        let spoilt = Counts::settled(&pxed)?;
        ensure!(spoilt.written == before.written && spoilt.dropped > before.dropped, "{before:?}, then {spoilt:?}");
        health(&pxed, "a warning about the history", true)?;
        ensure!(pxed.admin("/readyz")? == "ready\n", "not ready");
        let told = pxed.process.output();
        let told: Vec<_> = told.lines().filter(|line| line.contains("the history cannot be written")).collect();
        ensure!(told.len() == round + 1, "told {} times in {} rounds: {told:?}", told.len(), round + 1);
        let line = told.last().context("a line")?;
        let directory = pxed.state_path().join("history");
        let is_told = line.contains(words) && line.contains(&directory.display().to_string());
        ensure!(line.contains("ERROR") && is_told, "{words:?} is not in {line}");
        let is_harmed = count(&pxed, "the state is not saved") > states;
        ensure!(is_harmed == harms_state, "the state is not saved: {is_harmed}: {}", pxed.process.last_lines());

        repair(&disk)?;
        suite::eventually("a history that is written again", SOON, || {
            let machine = fresh.next().context("too few machines")?;
            boots(&place, machine)?;
            between.push(machine);
            Ok(Counts::settled(&pxed)?.written > spoilt.written)
        })?;
        ensure!(count(&pxed, "the history is written again") == round + 1, "{}", pxed.process.last_lines());
        health(&pxed, "no warning about the history any more", false)?;
    }

    let remembered = |pxed: &Pxed<'_>, machines: &[&Machine]| {
        machines.iter().map(|machine| events(pxed, machine)).collect::<anyhow::Result<Vec<_>>>()
    };
    let (before, of_between) = (remembered(&pxed, &kept)?, remembered(&pxed, &between)?);
    pxed.process.signal(Signal::SIGTERM)?;
    ensure!(pxed.process.wait(SOON)?.success(), "it failed: {}", pxed.process.last_lines());
    pxed.start_again(place.artifacts.path(), &[])?;
    ensure!(!pxed.process.output().contains("history"), "{}", pxed.process.output());
    let after = remembered(&pxed, &kept)?;
    ensure!(before.iter().all(|events| !events.is_empty()) && after == before, "{before:?} became {after:?}");
    let lost = remembered(&pxed, &missing)?;
    ensure!(lost.iter().all(Vec::is_empty), "nobody wrote {lost:?}");
    // Of those that booted while the disk recovered, some events are there, as they were.
    let some = remembered(&pxed, &between)?;
    for (some, all) in some.iter().zip(&of_between) {
        ensure!(some.iter().all(|event| all.contains(event)), "{all:?} became {some:?}");
    }
    ensure!(some.iter().any(|events| !events.is_empty()), "nothing of {of_between:?}");
    // The boot policy follows from the state, which was saved as soon as there was room.
    for machine in all.iter().filter(|machine| kept.contains(machine) || missing.contains(machine)) {
        let boots = pxed.machine(&machine.mac)?["boots"].as_u64();
        ensure!(boots == Some(1), "{} has booted {boots:?} times", machine.mac);
    }
    Ok(())
}
