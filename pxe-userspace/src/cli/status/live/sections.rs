//! The parts of a frame: what is wrong, the clusters, the stages, the transfers, the machines.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ratatui::{
    style::Style,
    text::{Line as Text, Span},
};

use super::{style::style, view::View};
use crate::{
    cli::status::{
        colour::Tone,
        machines::{Machine, State},
        table::elapsed,
    },
    journal::{Stage, Step},
};

/// The most rows of a part. No terminal shows more.
const ROWS: usize = 200;
/// The width from which rows have all columns.
const WIDE: usize = 72;
/// The states in the order of a bar, with their marks: a bar can be read without colours.
const MARKS: [(State, char); 5] =
    [(State::Good, '█'), (State::Busy, '▒'), (State::Stuck, '!'), (State::Failed, 'x'), (State::Unseen, '·')];

/// A part of a frame.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) lines: Vec<Text<'static>>,
    /// The rows that there are besides.
    pub(super) hidden: usize,
    /// The rows that make the part worth its room.
    pub(super) least: usize,
}

/// Returns the parts of a frame, the most important first.
pub(super) fn of(view: &View, width: usize, now: Timestamp) -> Vec<Section> {
    let mut sections = vec![troubled(view, width, now), clusters(view, width, now), stages(view, width, now)];
    sections.push(transfers(view, width, now));
    if !view.has_events {
        sections.push(machines(view, width, now));
    }
    sections
}

fn section(title: String, least: usize, all: usize, lines: Vec<Text<'static>>) -> Section {
    let hidden = all.saturating_sub(lines.len());
    Section { title, lines, hidden, least }
}

fn troubled(view: &View, width: usize, now: Timestamp) -> Section {
    let found = view.troubled(now);
    let lines = found.iter().take(ROWS).map(|(machine, state)| {
        let error = machine.last_error.as_deref().unwrap_or_default();
        let words = match state {
            State::Stuck => format!("stuck at {}", machine.stage),
            _ => machine.stage.to_string(),
        };
        let (name, age) = (name(machine, width), elapsed(machine.stage_since, now));
        let line = match state {
            State::Failed => format!("{name}  {age:>4}  {error}"),
            _ => format!("{name}  {age:>4}  {words}"),
        };
        Text::from(Span::styled(line, style(view, state.tone())))
    });
    section(format!("failed and stuck: {}", found.len()), 3, found.len(), lines.collect())
}

/// Returns the names of a machine that fit.
fn name(machine: &Machine, width: usize) -> String {
    let mac = &machine.mac;
    match &machine.hostname {
        Some(hostname) if width >= WIDE => format!("{mac}  {hostname:<16.16}"),
        None if width >= WIDE => format!("{mac}  {:<16}", machine.address),
        Some(hostname) => format!("{hostname:<17.17}"),
        None => mac.to_string(),
    }
}

fn clusters(view: &View, width: usize, now: Timestamp) -> Section {
    let mut clusters: BTreeMap<&str, Vec<State>> = BTreeMap::new();
    for machine in &view.machines {
        clusters.entry(&machine.cluster).or_default().push(machine.state(now));
    }
    let of_name = clusters.keys().map(|name| name.chars().count()).max().unwrap_or(0).min(width / 4).max(4);
    let count = |states: &[State], wanted| states.iter().filter(|state| **state == wanted).count();
    let lines = clusters.iter().take(ROWS).map(|(name, states)| {
        let up = format!("{}/{} done", count(states, State::Good), states.len());
        let room = width.saturating_sub(of_name + up.len() + 3).min(60);
        let mut spans = vec![Span::raw(format!("{name:<of_name$.of_name$} "))];
        let parts: Vec<_> =
            MARKS.iter().map(|&(state, mark)| (count(states, state), mark, style(view, state.tone()))).collect();
        spans.extend(bar(&parts, room));
        spans.push(Span::raw(format!("  {up}")));
        Text::from(spans)
    });
    section("clusters".to_owned(), 1, clusters.len(), lines.collect())
}

/// Returns a bar of this length with a piece for each part. Each part that is not empty has a mark at least, as long as there is room.
fn bar(parts: &[(usize, char, Style)], length: usize) -> Vec<Span<'static>> {
    let total: usize = parts.iter().map(|(count, ..)| count).sum();
    let used = parts.iter().filter(|(count, ..)| *count > 0).count();
    let spare = length.saturating_sub(used);
    let (mut seen, mut drawn) = (0, 0);
    parts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|&(count, mark, style)| {
            seen += count;
            let end = spare * seen / total.max(1);
            let piece = (end - drawn + 1).min(length);
            drawn = end;
            Span::styled(String::from_iter(std::iter::repeat_n(mark, piece)), style)
        })
        .collect()
}

fn stages(view: &View, width: usize, now: Timestamp) -> Section {
    let mut stages: BTreeMap<Option<Step>, (usize, Tone)> = BTreeMap::new();
    for machine in &view.machines {
        let tone = machine.state(now).tone();
        let tone = if tone == Tone::Warning { Tone::Busy } else { tone };
        stages.entry(machine.known_stage().map(Stage::step)).or_insert((0, tone)).0 += 1;
    }
    let most = stages.values().map(|(count, _)| *count).max().unwrap_or(0).max(1);
    let digits = most.to_string().len();
    let room = width.saturating_sub(10 + digits + 3).min(60);
    let lines = stages.iter().map(|(stage, &(count, tone))| {
        let name = stage.map_or("other", Step::name);
        let length = (count * room).div_ceil(most);
        let bar = String::from_iter(std::iter::repeat_n('█', length));
        Text::from(vec![Span::raw(format!("{name:<10} {count:>digits$} ")), Span::styled(bar, style(view, tone))])
    });
    section("stages".to_owned(), 2, stages.len(), lines.collect())
}

fn transfers(view: &View, width: usize, now: Timestamp) -> Section {
    let mut running: Vec<_> =
        view.machines.iter().filter_map(|machine| Some((machine, machine.progress.as_ref()?))).collect();
    // The slowest are of most interest: those that have the least of their file.
    running.sort_by_key(|(machine, progress)| (progress.percent(), machine.stage_since));
    let lines = running.iter().take(ROWS).map(|(machine, progress)| {
        let name = name(machine, width);
        let percent = progress.percent().unwrap_or(0);
        let artifact = format!("{:<9.9}", &*progress.artifact);
        let room = width.saturating_sub(name.chars().count() + 9 + 4 + 6).min(30);
        let done = usize::try_from(percent).unwrap_or(100) * room / 100;
        let bar: String = std::iter::repeat_n('█', done).chain(std::iter::repeat_n('·', room - done)).collect();
        let tone = machine.state(now).tone();
        Text::from(vec![
            Span::raw(format!("{name}  {artifact}  ")),
            Span::styled(bar, style(view, tone)),
            Span::raw(format!(" {percent:>3}%")),
        ])
    });
    section(format!("loading: {}", running.len()), 2, running.len(), lines.collect())
}

fn machines(view: &View, width: usize, now: Timestamp) -> Section {
    let rest = view.machines.iter().skip(view.scroll).take(ROWS);
    let lines = rest.map(|machine| {
        let (name, age, state) = (name(machine, width), elapsed(machine.stage_since, now), machine.state(now));
        let mut spans = vec![
            Span::raw(format!("{name}  ")),
            Span::styled(format!("{:<17}", &*machine.stage), style(view, state.tone())),
        ];
        if width >= WIDE {
            let Machine { cluster, role, .. } = machine;
            spans.push(Span::raw(format!("  {age:>4}  {role} of {cluster}")));
        } else {
            spans.push(Span::raw(format!(" {age:>4}")));
        }
        Text::from(spans)
    });
    let from = if view.scroll > 0 { format!(", from number {}", view.scroll + 1) } else { String::new() };
    section(
        format!("machines: {}{from}", view.machines.len()),
        3,
        view.machines.len() - view.scroll.min(view.machines.len()),
        lines.collect(),
    )
}
