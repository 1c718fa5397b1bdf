//! The explanation of one machine.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    fleet::Machine,
    visitor::{self, Request},
};

/// The number of events that an explanation shows.
const EVENTS: usize = 24;

#[derive(Debug, Deserialize)]
struct Explained {
    #[serde(flatten)]
    machine: Machine,
    #[serde(default)]
    additional_macs: Vec<String>,
    hostname: Option<String>,
    #[serde(default)]
    loaders: BTreeMap<String, String>,
    events: Vec<Event>,
    diagnosis: Diagnosis,
    /// The requests that belong to no boot: the spec has nothing for them.
    #[serde(default)]
    requests: Vec<Request>,
    /// The error in the spec for which it is served as before.
    spec_error: Option<String>,
    /// The DHCP frames in its name that other hosts sent.
    frames_of_others: Option<Others>,
}

#[derive(Debug, Deserialize)]
struct Others {
    last_at: Timestamp,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    at: Timestamp,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Diagnosis {
    reached: String,
    waits_for: String,
    advice: Vec<String>,
}

/// Formats how far a machine came, what it waits for, what to do, and what it did.
pub(super) fn explained(json: &str, now: Timestamp) -> anyhow::Result<String> {
    let explained: Explained = serde_json::from_str(json).context("the answer is not pxed's")?;
    let Explained { machine, additional_macs, hostname, loaders, events, diagnosis, .. } = explained;
    let Explained { requests, spec_error, frames_of_others, .. } = explained;
    let Machine { mac, address, cluster, role, architecture, version, policy, boots_from, stage, boots, .. } = machine;
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
    let _ = writeln!(text, "policy {policy}, next boot from {boots_from}, {boots} boots so far");
    if let Some(error) = spec_error {
        let _ = writeln!(text, "served as before, because its entry in the spec has an error: {error}");
    }
    let _ = writeln!(text, "\nstage      {stage}");
    let _ = writeln!(text, "so far     {}", diagnosis.reached);
    let _ = writeln!(text, "waits for  {}", diagnosis.waits_for);
    for (index, advice) in diagnosis.advice.iter().enumerate() {
        let _ = writeln!(text, "{:<9}  {advice}", if index == 0 { "to do" } else { "" });
    }
    let _ = writeln!(text, "\n{}", if events.is_empty() { "no events" } else { "events (UTC)" });
    for Event { at, text: event } in events.iter().skip(events.len().saturating_sub(EVENTS)) {
        let _ = writeln!(text, "{}  {event}", at.strftime("%Y-%m-%d %H:%M:%S%.3f"));
    }
    if let Some(Others { last_at, text: others }) = frames_of_others {
        let _ = writeln!(text, "\nof other hosts\n{}  {others}", last_at.strftime("%Y-%m-%d %H:%M:%S%.3f"));
    }
    if !requests.is_empty() {
        let _ = writeln!(text, "\nother requests\n{}", visitor::lines(&requests, now).trim_end());
    }
    Ok(text)
}

/// Returns the MAC address that the machine goes by.
pub(super) fn first_mac(json: &str) -> anyhow::Result<String> {
    let Machine { mac, .. } = serde_json::from_str(json).context("the answer is not pxed's")?;
    Ok(mac)
}

#[derive(Debug, Deserialize)]
struct Decided {
    #[serde(flatten)]
    machine: Machine,
    /// The writes into the API of a Kubernetes cluster.
    #[serde(default)]
    written: Vec<String>,
}

/// Formats a machine after a hold or a release.
pub(super) fn decided(json: &str) -> anyhow::Result<String> {
    let Decided { machine, written } = serde_json::from_str(json).context("the answer is not pxed's")?;
    let Machine { mac, policy, boots_from, .. } = machine;
    let mut text = format!("{mac}: policy {policy}, next boot from {boots_from}\n");
    // Writing to a string cannot fail.
    written.iter().for_each(|note| _ = writeln!(text, "  {note}"));
    Ok(text)
}
