//! The fleet as a table.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    colour::{Colours, Tone},
    machines::{Machine, Progress, State},
    table::{Cell, elapsed, header, table},
};
use crate::journal::Stage;

/// The form of a table of machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The most machines that are listed. All are counted.
    pub(super) limit: usize,
    /// Set if there are columns behind the usual ones.
    pub(super) is_wide: bool,
    pub(super) colours: Colours,
}

/// Formats two tables: the number of machines at each stage, and the machines.
pub(super) fn render(machines: &[&Machine], form: Form, now: Timestamp) -> String {
    let Form { limit, is_wide, colours } = form;
    if machines.is_empty() {
        return "no machines\n".to_owned();
    }
    let mut text = stages(machines, colours, now);
    let shown = machines.len().min(limit);
    if shown > 0 {
        text.push('\n');
        let rows = machines.iter().take(shown).map(|machine| row(machine, is_wide, now));
        let rows: Vec<_> = std::iter::once(columns(is_wide)).chain(rows).collect();
        text.push_str(&table(&rows, colours));
    }
    if shown < machines.len() {
        text.push_str(&format!("\n{shown} of {} machines are shown (--limit)\n", machines.len()));
    }
    text
}

/// Returns the names of the columns.
pub(super) fn columns(is_wide: bool) -> Vec<Cell> {
    let mut names = header(["MAC", "ADDRESS", "CLUSTER", "ROLE", "STAGE", "FOR", "BOOTS", "NEXT BOOT"]);
    if is_wide {
        names.extend(header(["HOSTNAME", "ARCHITECTURE", "TALOS", "POLICY", "LOADING"]));
    }
    names.extend(header(["LAST ERROR"]));
    names
}

/// Returns the cells of a machine.
pub(super) fn row(machine: &Machine, is_wide: bool, now: Timestamp) -> Vec<Cell> {
    let state = machine.state(now);
    // An error is of no interest once the machine is up.
    let last_error = machine.last_error.as_deref().filter(|_| state != State::Good).unwrap_or_default();
    let stage = match state {
        State::Stuck => format!("{},stuck", machine.stage),
        _ => machine.stage.to_string(),
    };
    let mut cells: Vec<Cell> = vec![
        (&*machine.mac).into(),
        (&*machine.address).into(),
        (&*machine.cluster).into(),
        (&*machine.role).into(),
        Cell::toned(state.tone(), stage),
        elapsed(machine.stage_since, now).into(),
        machine.boots.to_string().into(),
        (&*machine.boots_from).into(),
    ];
    if is_wide {
        cells.extend([
            Cell::from(machine.hostname.as_deref().unwrap_or_default()),
            (&*machine.architecture).into(),
            (&*machine.version).into(),
            (&*machine.policy).into(),
            machine.progress.as_ref().map(loading).unwrap_or_default().into(),
        ]);
    }
    cells.push(Cell::toned(if state == State::Failed { Tone::Bad } else { Tone::Plain }, last_error));
    cells
}

/// Formats a transfer without spaces, as in `kernel:43%`.
fn loading(progress: &Progress) -> String {
    match progress.percent() {
        Some(percent) => format!("{}:{percent}%", progress.artifact),
        None => progress.artifact.to_string(),
    }
}

/// Formats one line for each stage with machines, in the order of a boot.
fn stages(machines: &[&Machine], colours: Colours, now: Timestamp) -> String {
    let mut counts: BTreeMap<Option<Stage>, (usize, Tone)> = BTreeMap::new();
    for machine in machines {
        // `None` is a stage of a later pxed.
        let stage = machine.known_stage();
        let tone = machine.state(now).tone();
        counts.entry(stage).or_insert((0, tone)).0 += 1;
    }
    let stuck = machines.iter().filter(|machine| machine.state(now) == State::Stuck).count();
    let line = |name: &str, count: usize, tone| vec![Cell::toned(tone, name), Cell::from(count.to_string())];
    let rows: Vec<_> = counts
        .into_iter()
        .map(|(stage, (count, tone))| {
            let tone = if tone == Tone::Warning { Tone::Busy } else { tone };
            line(stage.map_or("other", Stage::name), count, tone)
        })
        .chain((stuck > 0).then(|| line("stuck", stuck, Tone::Warning)))
        .chain([line("machines", machines.len(), Tone::Heading)])
        .collect();
    table(&rows, colours)
}
