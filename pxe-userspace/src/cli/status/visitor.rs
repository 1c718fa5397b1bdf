//! The clients that no cluster spec names: machines of a Matchbox directory, and strangers.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::fleet::{elapsed, table};

/// The most visitors in the table of `pxed status`.
const SHOWN: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct Visitor {
    name: String,
    uuid: Option<String>,
    address: String,
    last_seen: Timestamp,
    group: Option<String>,
    profile: Option<String>,
    requests: Vec<Request>,
}

/// A request and its outcome.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    at: Timestamp,
    request: String,
    status: u16,
    text: String,
    times: u32,
}

/// Formats a table of visitors, the last one first; nothing if there are none.
pub(super) fn render(visitors: &[Visitor], now: Timestamp) -> String {
    if visitors.is_empty() {
        return String::new();
    }
    let header = ["ASKED BY", "ADDRESS", "AGO", "GROUP", "PROFILE", "LAST REQUEST", "OUTCOME"];
    let rows = visitors.iter().take(SHOWN).map(|visitor| {
        let last = visitor.requests.last();
        let path = last.map(|last| last.request.split('?').next().unwrap_or_default().to_owned());
        [
            visitor.name.clone(),
            visitor.address.clone(),
            elapsed(visitor.last_seen, now),
            visitor.group.clone().unwrap_or_default(),
            visitor.profile.clone().unwrap_or_default(),
            path.unwrap_or_default(),
            last.map(|last| last.text.clone()).unwrap_or_default(),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let mut text = table(&rows);
    if let Some(more) = visitors.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "and {more} more, in /api/v1/visitors");
    }
    text
}

/// Formats who a visitor is, what it matched and what it asked.
pub(super) fn explained(json: &str, now: Timestamp) -> anyhow::Result<String> {
    let Visitor { name, uuid, address, group, profile, requests, .. } =
        serde_json::from_str(json).context("the answer is not pxed's")?;
    let mut text = String::new();
    let at = if name == address { String::new() } else { format!(", {address}") };
    let _ = writeln!(text, "{name}{at}: not in the cluster spec");
    if let Some(uuid) = uuid.filter(|uuid| *uuid != name) {
        let _ = writeln!(text, "uuid       {uuid}");
    }
    match (group, profile) {
        (Some(group), Some(profile)) => {
            let _ = writeln!(text, "matched    group {group}, profile {profile}");
        }
        _ => text.push_str("matched    no group so far\n"),
    }
    let _ = writeln!(text, "\nrequests\n{}", lines(&requests, now).trim_end());
    Ok(text)
}

/// Formats a line for each request: its age, the request, the answer's status and the outcome.
pub(super) fn lines(requests: &[Request], now: Timestamp) -> String {
    requests.iter().fold(String::new(), |mut text, Request { at, request, status, text: outcome, times }| {
        let ago = match elapsed(*at, now).as_str() {
            "now" => "now".to_owned(),
            age => format!("{age} ago"),
        };
        let times = if *times > 1 { format!(", {times} times") } else { String::new() };
        let _ = writeln!(text, "{ago:<8}  {request}  {status}: {outcome}{times}");
        text
    })
}
