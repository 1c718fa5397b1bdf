//! The text of a report. Pure.

use std::{fmt::Write as _, path::PathBuf};

use jiff::Timestamp;
use pxe_common::MacAddr;
use serde_json::Value;

use crate::{capture::summary, model::redaction::Redaction};

/// The lines of the spec in front of the one that names the machine, and from there on.
const LINES: (usize, usize) = (6, 20);
/// The frames of a capture that are described.
const FRAMES: usize = 5_000;

/// An answer of the API, or the reason why there is none.
pub(super) type Answer = Result<Value, String>;

/// The sources of a report.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) machine: Answer,
    pub(super) visitor: Answer,
    pub(super) strangers: Answer,
    pub(super) stages: Answer,
    pub(super) health: Answer,
    pub(super) setup: Answer,
    pub(super) images: Answer,
    pub(super) nodes: Answer,
    pub(super) spec_errors: Answer,
    pub(super) mac: MacAddr,
    pub(super) now: Timestamp,
    pub(super) capture: Option<Vec<u8>>,
}

/// Returns the file of the spec that names the machine, if it is one.
pub(super) fn spec_file(sources: &Sources) -> Option<PathBuf> {
    let source = sources.machine.as_ref().ok()?.get("source")?;
    source.get("line")?;
    Some(source.get("file")?.as_str()?.into())
}

/// Returns the file of the options of the running pxed, if it names one.
pub(super) fn configuration_file(sources: &Sources) -> Option<PathBuf> {
    let setup = sources.setup.as_ref().ok()?;
    let words: Vec<&str> = setup["command_line"].as_array()?.iter().filter_map(Value::as_str).collect();
    let behind = words.windows(2).find_map(|pair| (pair[0] == "--config").then_some(pair[1]));
    let named = behind.or_else(|| words.iter().find_map(|word| word.strip_prefix("--config=")));
    named.or_else(|| setup["environment"]["PXED_CONFIG"].as_str()).map(PathBuf::from)
}

/// Writes the report from its sources, and from the files of the spec and the options as far as they can be read.
pub(super) fn report(sources: &Sources, spec: Option<&[u8]>, configuration: Option<&[u8]>) -> String {
    let Sources { machine, visitor, strangers, stages, health, setup, images, nodes, spec_errors, mac, now, capture } =
        sources;
    let spec = spec.map(String::from_utf8_lossy);
    let mut redaction = Redaction::default();
    if let Some(spec) = &spec {
        redaction.learn_arguments_of(spec);
    }
    let mut text = format!("# pxed report of {mac}\n\n");
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "Written at {now:.0} by pxed {}. `***` stands for what may be a secret.\n",
        env!("CARGO_PKG_VERSION")
    );
    match machine {
        Ok(machine) => {
            story(&mut text, machine, &redaction);
            place(&mut text, machine, spec.as_deref(), &redaction);
            let mut rest = machine.clone();
            if let Some(rest) = rest.as_object_mut() {
                rest.retain(|name, _| name != "events" && name != "diagnosis");
            }
            section(&mut text, "The machine", &redaction, &Ok(rest));
        }
        Err(error) => {
            let _ = writeln!(text, "The spec does not have it: {}\n", redaction.of(error));
        }
    }
    if visitor.is_ok() {
        section(&mut text, "Its requests by HTTP beside the spec", &redaction, visitor);
    }
    if let Some(capture) = capture {
        frames(&mut text, capture, &redaction);
    }
    for (title, answer) in [
        ("Errors of the spec", spec_errors),
        ("Who asks without being in the spec", strangers),
        ("The fleet by stage", stages),
        ("Images", images),
        ("Nodes", nodes),
        ("Health", health),
        ("Version, kernel and options", setup),
    ] {
        section(&mut text, title, &redaction, answer);
    }
    if let Some(configuration) = configuration {
        let _ = writeln!(text, "## The file of options\n");
        fenced(&mut text, "toml", &redaction.of(&String::from_utf8_lossy(configuration)));
    }
    text
}

/// Writes how far it came, what it waits for and what it did.
fn story(text: &mut String, machine: &Value, redaction: &Redaction) {
    let word = |value: &Value| redaction.of(value.as_str().unwrap_or_default());
    let diagnosis = &machine["diagnosis"];
    let _ = writeln!(text, "## How far it came\n");
    let _ = writeln!(text, "- stage: {}", word(&machine["stage"]));
    let _ = writeln!(text, "- so far: {}", word(&diagnosis["reached"]));
    let _ = writeln!(text, "- waits for: {}", word(&diagnosis["waits_for"]));
    for advice in diagnosis["advice"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "- to do: {}", word(advice));
    }
    let _ = writeln!(text, "\n## What it did (UTC)\n");
    let mut lines = String::new();
    for event in machine["events"].as_array().into_iter().flatten() {
        let _ = writeln!(lines, "{}  {}", word(&event["at"]), word(&event["text"]));
    }
    fenced(text, "", if lines.is_empty() { "nothing was heard of it" } else { &lines });
}

/// Writes the place in the spec, and its lines.
fn place(text: &mut String, machine: &Value, spec: Option<&str>, redaction: &Redaction) {
    let source = &machine["source"];
    let (file, line) = (source["file"].as_str().unwrap_or_default(), source["line"].as_u64());
    let _ = writeln!(text, "## Its place in the spec\n");
    let at = line.map_or_else(String::new, |line| format!(", line {line}"));
    let _ = writeln!(text, "{}{at}\n", redaction.of(file));
    let Some((spec, line)) = spec.zip(line.and_then(|line| usize::try_from(line).ok())) else { return };
    // All of it, because a secret may begin in front of the lines that are shown.
    let redacted = redaction.of(spec);
    let (before, after) = LINES;
    let shown = redacted.lines().enumerate().skip(line.saturating_sub(before + 1)).take(before + after);
    let numbered: String = shown.map(|(index, line)| format!("{:>5}  {line}\n", index + 1)).collect();
    fenced(text, "", &numbered);
}

/// Writes a line for each frame of a capture.
fn frames(text: &mut String, capture: &[u8], redaction: &Redaction) {
    let lines = summary::lines(capture);
    let _ = writeln!(text, "## Frames of a capture (UTC)\n");
    let mut shown = String::new();
    for summary::Line { at, text: frame, comment } in lines.iter().take(FRAMES) {
        let at = Timestamp::try_from(*at).map(|at| at.strftime("%H:%M:%S%.6f").to_string()).unwrap_or_default();
        let _ = writeln!(shown, "{at}  {}", redaction.of(frame));
        for comment in comment.lines() {
            let _ = writeln!(shown, "{:17}{}", "", redaction.of(comment));
        }
    }
    if lines.len() > FRAMES {
        let _ = writeln!(shown, "… and {} more", lines.len() - FRAMES);
    }
    fenced(text, "", if shown.is_empty() { "none: is it a file of pxed capture?" } else { &shown });
}

fn section(text: &mut String, title: &str, redaction: &Redaction, answer: &Answer) {
    let _ = writeln!(text, "## {title}\n");
    match answer {
        Ok(value) => fenced(text, "json", &redaction.of(&serde_json::to_string_pretty(value).unwrap_or_default())),
        Err(error) => {
            let _ = writeln!(text, "not known: {}\n", redaction.of(error));
        }
    }
}

/// Writes a block that nothing in it can end.
fn fenced(text: &mut String, language: &str, content: &str) {
    let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(text, "{fence}{language}\n{}\n{fence}\n", content.trim_end_matches('\n'));
}
