//! The fleet as a table.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use serde::Deserialize;

use crate::journal::Stage;

/// The fields of a machine that the tables show.
#[derive(Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) mac: String,
    pub(super) address: String,
    pub(super) cluster: String,
    pub(super) role: String,
    pub(super) architecture: String,
    pub(super) version: String,
    pub(super) policy: String,
    pub(super) boots_from: String,
    pub(super) stage: String,
    pub(super) stage_since: Timestamp,
    pub(super) boots: u32,
    pub(super) last_error: Option<String>,
}

/// Formats two tables: the number of machines at each stage, and the machines.
pub(super) fn render(machines: &[Machine], now: Timestamp) -> String {
    if machines.is_empty() {
        return "no machines\n".to_owned();
    }
    let mut text = stages(machines);
    text.push('\n');
    let header = ["MAC", "ADDRESS", "CLUSTER", "ROLE", "STAGE", "FOR", "BOOTS", "NEXT BOOT", "LAST ERROR"];
    let rows = machines.iter().map(|machine| {
        // An error is of no interest once the machine is up.
        let up = [Stage::Running, Stage::Up, Stage::OnDisk].iter().any(|stage| stage.name() == machine.stage);
        let last_error = if up { None } else { machine.last_error.clone() };
        [
            machine.mac.clone(),
            machine.address.clone(),
            machine.cluster.clone(),
            machine.role.clone(),
            machine.stage.clone(),
            elapsed(machine.stage_since, now),
            machine.boots.to_string(),
            machine.boots_from.clone(),
            last_error.unwrap_or_default(),
        ]
    });
    let rows: Vec<[String; 9]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    text.push_str(&table(&rows));
    text
}

/// Formats one line for each stage with machines, in the order of a boot.
fn stages(machines: &[Machine]) -> String {
    let mut counts: BTreeMap<Option<Stage>, usize> = BTreeMap::new();
    for machine in machines {
        // `None` is a stage of a later pxed.
        *counts.entry(machine.stage.parse().ok()).or_default() += 1;
    }
    let rows: Vec<[String; 2]> = counts
        .into_iter()
        .map(|(stage, count)| [stage.map_or("other", Stage::name).to_owned(), count.to_string()])
        .chain([["machines".to_owned(), machines.len().to_string()]])
        .collect();
    table(&rows)
}

/// Formats a table. Columns are as wide as their widest cell and two spaces apart, without spaces at the ends of lines.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Formats the time since then in its largest unit.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> String {
    match now.as_second() - since.as_second() {
        seconds if seconds < 1 => "now".to_owned(),
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
