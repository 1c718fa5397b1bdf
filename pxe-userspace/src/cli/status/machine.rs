//! The explanation of one machine.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    machines::Machine,
    visitor::{self, Request},
    wrap::Width,
};
use crate::cli::shown::Shown;

/// The number of events that an explanation shows.
const EVENTS: usize = 24;

#[derive(Debug, Deserialize)]
struct Explained {
    #[serde(flatten)]
    machine: Machine,
    #[serde(default)]
    loaders: BTreeMap<Shown, Shown>,
    events: Vec<Event>,
    /// The last boot in sentences.
    #[serde(default)]
    story: Vec<Shown>,
    diagnosis: Diagnosis,
    /// The requests that belong to no boot: the spec has nothing for them.
    #[serde(default)]
    requests: Vec<Request>,
    /// The error in the spec for which it is served as before.
    spec_error: Option<Shown>,
    /// The DHCP frames in its name that other hosts sent.
    frames_of_others: Option<Others>,
}

#[derive(Debug, Deserialize)]
struct Others {
    last_at: Timestamp,
    text: Shown,
}

#[derive(Debug, Deserialize)]
struct Event {
    at: Timestamp,
    text: Shown,
}

#[derive(Debug, Deserialize)]
struct Diagnosis {
    reached: Shown,
    waits_for: Shown,
    advice: Vec<Shown>,
}

/// Formats what a machine did, how far it came, what it waits for, and what to do next.
pub(super) fn explained(json: &str, width: Width, now: Timestamp) -> anyhow::Result<String> {
    let explained: Explained = serde_json::from_str(json).context("the answer is not pxed's")?;
    let Explained { machine, loaders, events, story, diagnosis, requests, spec_error, frames_of_others } = explained;
    let Machine { mac, additional_macs, hostname, address, cluster, role, architecture, version, .. } = machine;
    let Machine { policy, boots_from, stage, boots, .. } = machine;
    let name = hostname.map_or_else(String::new, |name| format!(" {name}"));
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "{mac}{name}, {address}: {role} of {cluster}, Talos {version} {architecture}");
    if !additional_macs.is_empty() {
        let _ = writeln!(text, "other network cards: {}", additional_macs.join(", "));
    }
    if !loaders.is_empty() {
        let loaders: Vec<_> = loaders.iter().map(|(class, name)| format!("{name} ({class})")).collect();
        let _ = writeln!(text, "loaders of its own: {}", loaders.join(", "));
    }
    let _ = writeln!(
        text,
        "policy {policy}, next boot from {boots_from}, {boots} {} so far",
        if boots == 1 { "boot" } else { "boots" }
    );
    if let Some(error) = spec_error {
        text.push_str(
            &width.wrap("", &format!("served as before, because its entry in the spec has an error: {error}")),
        );
    }
    text.push_str(if events.is_empty() { "\nno events\n" } else { "\nevents (UTC)\n" });
    for Event { at, text: event } in events.iter().skip(events.len().saturating_sub(EVENTS)) {
        text.push_str(&width.wrap(&format!("{}  ", at.strftime("%Y-%m-%d %H:%M:%S%.3f")), event));
    }
    if let Some(Others { last_at, text: others }) = frames_of_others {
        text.push_str("\nof other hosts\n");
        text.push_str(&width.wrap(&format!("{}  ", last_at.strftime("%Y-%m-%d %H:%M:%S%.3f")), &others));
    }
    if !requests.is_empty() {
        let _ = writeln!(text, "\nother requests\n{}", visitor::lines(&requests, now).trim_end());
    }
    if !story.is_empty() {
        text.push_str("\nlast boot (UTC)\n");
    }
    story.iter().for_each(|sentence| text.push_str(&width.wrap("", sentence)));
    let Diagnosis { reached, waits_for, advice } = diagnosis;
    let _ = writeln!(text, "\nstage      {stage}");
    text.push_str(&width.wrap("so far     ", &reached));
    text.push_str(&width.wrap("waits for  ", &waits_for));
    if !advice.is_empty() {
        text.push_str("\nNext:\n");
    }
    advice.iter().for_each(|advice| text.push_str(&width.wrap("- ", advice)));
    Ok(text)
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(flatten)]
    machine: Machine,
    /// The writes into the API of a Kubernetes cluster, and the reason for which it is still held.
    #[serde(default)]
    written: Vec<Shown>,
}

/// A machine after a hold or a release.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) text: String,
    /// The policy in force.
    pub(super) policy: Shown,
}

/// Reads and formats a machine after a hold or a release.
pub(super) fn decided(json: &str) -> anyhow::Result<Decided> {
    let Answer { machine, written } = serde_json::from_str(json).context("the answer is not pxed's")?;
    let Machine { mac, policy, boots_from, .. } = machine;
    let mut text = format!("{mac}: policy {policy}, next boot from {boots_from}\n");
    // Writing to a string cannot fail.
    written.iter().for_each(|note| _ = writeln!(text, "  {note}"));
    Ok(Decided { text, policy })
}
