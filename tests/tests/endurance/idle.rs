//! A pxed that has nothing to do.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Pxed,
    cluster::{self, Machine},
};

use crate::place::Place;

/// The most wake-ups in a second.
const MOST: f64 = 20.0;
/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// The windows of which one has to do: in the first ones, the start may not be over.
const WINDOWS: usize = 5;

/// Returns the times that each thread has begun to wait, with its name.
fn waits(process: u32) -> anyhow::Result<BTreeMap<String, (String, u64)>> {
    let mut waits = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        // A thread may end at any time.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let name = field("Name").context("no name")?.trim().to_owned();
        let count = field("voluntary_ctxt_switches").context("no count")?.trim().parse()?;
        waits.insert(path.display().to_string(), (name, count));
    }
    Ok(waits)
}

/// Returns the wake-ups of each thread in a window of time.
fn wake_ups(process: u32) -> anyhow::Result<Vec<(String, u64)>> {
    let before = waits(process)?;
    thread::sleep(WINDOW);
    let mut wake_ups: Vec<_> = waits(process)?
        .into_iter()
        .map(|(task, (name, count))| (name, count.saturating_sub(before.get(&task).map_or(0, |(_, count)| *count))))
        .filter(|(_, count)| *count > 0)
        .collect();
    wake_ups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(wake_ups)
}

/// Nobody boots, and nobody looks.
pub(crate) fn sleeps() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let machines: Vec<_> = (1..=20).map(Machine::number).collect();
    let pxed = Pxed::start(&place.bridged.server, &cluster::cluster(&machines), place.artifacts.path(), &[])?;
    let mut found = Vec::new();
    for _ in 0..WINDOWS {
        let wake_ups = wake_ups(pxed.process.id())?;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let in_a_second = wake_ups.iter().map(|(_, count)| count).sum::<u64>() as f64 / WINDOW.as_secs_f64();
        println!("{in_a_second} wake-ups a second: {wake_ups:?}");
        if in_a_second < MOST {
            return Ok(());
        }
        found.push((in_a_second, wake_ups));
    }
    ensure!(found.is_empty(), "more than {MOST} wake-ups a second: {found:?}");
    Ok(())
}
