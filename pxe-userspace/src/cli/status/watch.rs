//! The stream of boot events.

use std::{io::BufRead, process::ExitCode};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::Deserialize;

use super::{client::AdminClient, output::print};

/// The fields of an event that are shown.
#[derive(Debug, Deserialize)]
struct Event {
    at: Timestamp,
    mac: String,
    stage: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Lagged {
    missed: u64,
}

/// Follows the stream until it ends.
pub(super) fn follow(client: &AdminClient, only: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let mut name = String::new();
    for line in client.stream("/api/v1/events")?.lines() {
        let line = line.context("pxed ended the stream of events")?;
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ")
            && let Some(text) = render(&name, data, only, json)?
            && !print(&text)?
        {
            return Ok(ExitCode::SUCCESS);
        }
    }
    bail!("pxed ended the stream of events: was it stopped?")
}

/// Formats an event of the stream as one line. Returns `None` if it belongs to another machine.
pub(super) fn render(name: &str, data: &str, only: Option<&str>, json: bool) -> anyhow::Result<Option<String>> {
    if name == "lagged" {
        let Lagged { missed } = serde_json::from_str(data).context("the answer is not pxed's")?;
        return Ok((!json).then(|| format!("… {missed} events not shown: they came faster than they were read")));
    }
    let Event { at, mac, stage, text } = serde_json::from_str(data).context("the answer is not pxed's")?;
    if only.is_some_and(|only| only != mac) {
        return Ok(None);
    }
    if json {
        return Ok(Some(data.to_owned()));
    }
    Ok(Some(format!("{}  {mac}  {stage:<17}  {text}", at.strftime("%H:%M:%S%.3f"))))
}
