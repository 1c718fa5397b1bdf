//! The clients that no cluster spec names: machines of a Matchbox directory, and strangers.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    colour::Colours,
    table::{Cell, elapsed, header, table},
};
use crate::cli::shown::Shown;

/// The most visitors in the table of `pxed status`.
const SHOWN: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct Visitor {
    name: Shown,
    uuid: Option<Shown>,
    address: Shown,
    last_seen: Timestamp,
    group: Option<Shown>,
    profile: Option<Shown>,
    requests: Vec<Request>,
}

/// A request and its outcome.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    at: Timestamp,
    request: Shown,
    status: u16,
    text: Shown,
    times: u32,
}

/// Formats a table of visitors, the last one first; nothing if there are none.
pub(super) fn render(visitors: &[Visitor], colours: Colours, now: Timestamp) -> String {
    if visitors.is_empty() {
        return String::new();
    }
    let rows = visitors.iter().take(SHOWN).map(|visitor| {
        let last = visitor.requests.last();
        let path = last.and_then(|last| last.request.split('?').next());
        vec![
            Cell::from(&*visitor.name),
            (&*visitor.address).into(),
            elapsed(visitor.last_seen, now).into(),
            visitor.group.as_deref().unwrap_or_default().into(),
            visitor.profile.as_deref().unwrap_or_default().into(),
            path.unwrap_or_default().into(),
            last.map(|last| &*last.text).unwrap_or_default().into(),
        ]
    });
    let columns = header(["ASKED BY", "ADDRESS", "AGO", "GROUP", "PROFILE", "LAST REQUEST", "OUTCOME"]);
    let rows: Vec<_> = std::iter::once(columns).chain(rows).collect();
    let mut text = table(&rows, colours);
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
