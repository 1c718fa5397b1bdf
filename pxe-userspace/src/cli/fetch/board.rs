//! Shows downloads while they run: bars on a terminal, lines otherwise.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    fetch::{Milestones, Progress, bytes_text},
    logging,
};

/// The downloads that are shown.
pub(super) enum Board {
    Bars { all: MultiProgress, total: ProgressBar, files: Mutex<HashMap<Arc<str>, ProgressBar>> },
    Lines(Mutex<HashMap<Arc<str>, Line>>),
}

/// The last line about a download.
pub(super) struct Line {
    begin: Instant,
    /// The bytes that were there at the beginning.
    first: Option<u64>,
    milestones: Milestones,
}

impl Board {
    /// Creates a board on standard error.
    pub(super) fn new(files: usize) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines(Mutex::default());
        }
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(files as u64));
        total.set_style(style("{prefix} {bar:20} {pos}/{len} files {elapsed}"));
        total.set_prefix("total");
        total.enable_steady_tick(Duration::from_millis(200));
        Self::Bars { all, total, files: Mutex::default() }
    }

    /// Prints a line.
    pub(super) fn say(&self, line: &str) {
        match self {
            Self::Bars { all, .. } => all.suspend(|| logging::say(line)),
            Self::Lines(_) => logging::say(line),
        }
    }

    /// Shows a step of a download.
    pub(super) fn show(&self, path: &Arc<str>, step: &Progress, now: Instant) {
        match self {
            Self::Bars { all, total, files } => {
                let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = files.entry(Arc::clone(path)).or_insert_with(|| {
                    let bar = all.insert_before(total, ProgressBar::no_length());
                    bar.set_style(style("{prefix} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {msg}"));
                    bar.set_prefix(path.to_string());
                    bar
                });
                bar.set_message(message(step).unwrap_or_default());
                if let Progress::Receiving { done, total } = step {
                    if bar.length() != *total
                        && let Some(total) = total
                    {
                        bar.set_length(*total);
                        bar.reset_eta();
                    }
                    bar.set_position(*done);
                }
            }
            Self::Lines(lines) => {
                if let Some(line) = line_of(&mut lines.lock().unwrap_or_else(PoisonError::into_inner), path, step, now)
                {
                    logging::say(&line);
                }
            }
        }
    }

    /// Shows the end of a download: its length, or `None` if it failed.
    pub(super) fn end(&self, path: &Arc<str>, length: Option<u64>, now: Instant) {
        match self {
            Self::Bars { total, files, .. } => {
                if let Some(bar) = files.lock().unwrap_or_else(PoisonError::into_inner).remove(path) {
                    bar.finish_with_message(if length.is_some() { "verified" } else { "failed" });
                }
                total.inc(1);
            }
            Self::Lines(lines) => {
                let line = lines.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
                let Some(length) = length else { return };
                let speed = line.and_then(|line| {
                    let took = now.saturating_duration_since(line.begin).as_secs_f64();
                    Some(speed_text(length.saturating_sub(line.first?), took))
                });
                logging::say(&format!("{path}: verified, {}{}", bytes_text(length), speed.unwrap_or_default()));
            }
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        if let Self::Bars { total, .. } = self {
            total.finish();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are valid, so that the default never shows.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Returns the line of a step, if it gets one.
fn line_of(lines: &mut HashMap<Arc<str>, Line>, path: &Arc<str>, step: &Progress, now: Instant) -> Option<String> {
    let new = || Line { begin: now, first: None, milestones: Milestones::new(now) };
    let line = lines.entry(Arc::clone(path)).or_insert_with(new);
    if let Progress::Receiving { done, total } = step {
        let total_text = total.map(|total| format!(" of {}", bytes_text(total))).unwrap_or_default();
        if line.first.is_none() {
            *line = Line { first: Some(*done), ..new() };
            let resumed = if *done > 0 { format!(", going on from {}", bytes_text(*done)) } else { String::new() };
            let length = total.map(bytes_text).unwrap_or_else(|| "of unknown length".to_owned());
            return Some(format!("{path}: {length}{resumed}"));
        }
        if !line.milestones.is_due(*done, *total, now) {
            return None;
        }
        let share = total.filter(|&total| total > 0).map(|total| format!(" ({} %)", done.saturating_mul(100) / total));
        return Some(format!("{path}: {}{total_text}{}", bytes_text(*done), share.unwrap_or_default()));
    }
    message(step).map(|message| format!("{path}: {message}"))
}

/// Returns the words for a step that is no progress.
fn message(step: &Progress) -> Option<String> {
    match step {
        Progress::Elsewhere => Some("another process is downloading it; waiting for that".to_owned()),
        Progress::Pausing { reason, pause } => Some(format!("{reason}; trying again in {:.1} s", pause.as_secs_f64())),
        Progress::Queued | Progress::Asked | Progress::Receiving { .. } => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn speed_text(bytes: u64, seconds: f64) -> String {
    if seconds <= 0.0 {
        return String::new();
    }
    format!(" at {:.1} MB/s", bytes as f64 / 1e6 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_has_a_line_at_its_start_at_each_tenth_and_for_each_pause() {
        let start = Instant::now();
        let mut lines = HashMap::new();
        let path = Arc::from("vmlinuz");
        let mut at = |done: u64, milliseconds: u64| {
            let step = Progress::Receiving { done, total: Some(10_000_000) };
            line_of(&mut lines, &path, &step, start + Duration::from_millis(milliseconds))
        };
        assert_eq!(at(0, 0).as_deref(), Some("vmlinuz: 10.0 MB"));
        assert_eq!(at(500_000, 1), None);
        assert_eq!(at(1_000_000, 999), None, "so soon after the last line");
        assert_eq!(at(1_000_000, 1_000).as_deref(), Some("vmlinuz: 1.0 MB of 10.0 MB (10 %)"));
        assert_eq!(at(1_500_000, 11_000).as_deref(), Some("vmlinuz: 1.5 MB of 10.0 MB (15 %)"));
        assert_eq!(at(10_000_000, 20_000), None, "the end has a line of its own");
        let pause = Progress::Pausing { reason: "it broke".to_owned(), pause: Duration::from_millis(1_500) };
        let line = line_of(&mut lines, &path, &pause, start);
        assert_eq!(line.as_deref(), Some("vmlinuz: it broke; trying again in 1.5 s"));
        assert_eq!(line_of(&mut lines, &path, &Progress::Asked, start), None);
    }

    #[test]
    fn resumed_download_says_so() {
        let mut lines = HashMap::new();
        let step = Progress::Receiving { done: 4_000_000, total: None };
        let line = line_of(&mut lines, &Arc::from("vmlinuz"), &step, Instant::now());
        assert_eq!(line.as_deref(), Some("vmlinuz: of unknown length, going on from 4.0 MB"));
    }
}
