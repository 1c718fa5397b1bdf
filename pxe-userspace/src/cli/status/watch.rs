//! The stream of boot events, as lines.

use std::{
    collections::{HashMap, HashSet},
    io::BufRead,
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    client::AdminClient,
    machines::{self, Machine},
    output::{print, print_json},
    select::{Selection, SelectorArgs},
    target,
};
use crate::cli::{
    exit::{Ended, Exit},
    shown::Shown,
};

/// The fields of an event that are shown.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) at: Timestamp,
    pub(super) mac: Shown,
    pub(super) stage: Shown,
    #[serde(default)]
    pub(super) failure: bool,
    pub(super) text: Shown,
}

#[derive(Debug, Deserialize)]
struct Lagged {
    missed: u64,
}

/// A piece of the stream.
#[derive(Debug)]
pub(super) enum Piece {
    Boot(Event),
    /// Events that were lost, since they came faster than they were read.
    Missed(u64),
}

/// Reads a piece of the stream by the name of its kind.
pub(super) fn read(name: &str, data: &str) -> anyhow::Result<Piece> {
    let piece = match name {
        "lagged" => serde_json::from_str(data).map(|Lagged { missed }| Piece::Missed(missed)),
        _ => serde_json::from_str(data).map(Piece::Boot),
    };
    piece.context("the answer is not pxed's")
}

/// The machines whose events are wanted.
pub(super) struct Filter {
    selection: Selection,
    /// The MAC address of the only machine that is wanted.
    only: Option<Shown>,
    /// The machines of the fleet by MAC address, and those that are not in it.
    machines: HashMap<Shown, Machine>,
    unknown: HashSet<Shown>,
}

impl Filter {
    /// Returns the filter of a name and a selection. An unknown one is an error at once, rather than silence.
    pub(super) fn of(client: &AdminClient, name: Option<&str>, selector: SelectorArgs) -> anyhow::Result<Self> {
        let mut filter =
            Self { selection: Selection::default(), only: None, machines: HashMap::new(), unknown: HashSet::new() };
        if name.is_none() && selector.is_empty() {
            return Ok(filter);
        }
        filter.machines = fleet(client)?;
        let all: Vec<&Machine> = filter.machines.values().collect();
        filter.only = name.map(|name| target::find(&all, name)).transpose()?.map(|machine| machine.mac.clone());
        filter.selection = selector.resolve(all.iter().copied())?;
        Ok(filter)
    }

    /// Returns whether an event is wanted. `fleet` is asked for a machine that has come into the spec since.
    fn takes(&mut self, event: &Event, fleet: impl FnOnce() -> anyhow::Result<HashMap<Shown, Machine>>) -> bool {
        if let Some(only) = &self.only
            && *only != event.mac
        {
            return false;
        }
        if self.selection.is_all() {
            return true;
        }
        if !self.machines.contains_key(&event.mac) && self.unknown.insert(event.mac.clone()) {
            // The next event of another new machine asks again, if this fails.
            self.machines = fleet().unwrap_or_else(|_| std::mem::take(&mut self.machines));
        }
        let Some(machine) = self.machines.get_mut(&event.mac) else { return false };
        machine.stage = event.stage.clone();
        machine.stage_since = event.at;
        self.selection.takes(machine, event.at)
    }
}

fn fleet(client: &AdminClient) -> anyhow::Result<HashMap<Shown, Machine>> {
    let text = client.get("/api/v1/machines", &[("events", "0".to_owned())])?;
    let machines = machines::read(&text)?.into_iter();
    Ok(machines.map(|listed| (listed.machine.mac.clone(), listed.machine)).collect())
}

/// Follows the stream until it ends.
pub(super) fn follow(client: &AdminClient, mut filter: Filter, json: bool) -> anyhow::Result<Exit> {
    let mut name = String::new();
    for line in client.stream("/api/v1/events")?.lines() {
        let Ok(line) = line else { break };
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let is_read = match read(&name, data)? {
                Piece::Boot(event) if !filter.takes(&event, || fleet(client)) => true,
                Piece::Boot(_) if json => print_json(data)?,
                Piece::Boot(event) => print(&text_of(&event))?,
                Piece::Missed(_) if json => true,
                Piece::Missed(missed) => print(&missed_text(missed))?,
            };
            if !is_read {
                return Ok(Exit::Success);
            }
        }
    }
    let message = format!("{} ended the stream of events: was pxed stopped?", client.place());
    Err(Ended::new(Exit::Unreachable, message).into())
}

/// Formats an event as one line.
pub(super) fn text_of(event: &Event) -> String {
    let Event { at, mac, stage, text, .. } = event;
    format!("{}  {mac}  {stage:<17}  {text}", at.strftime("%H:%M:%S%.3f"))
}

/// Formats the number of events that were lost.
pub(super) fn missed_text(missed: u64) -> String {
    format!("… {missed} events not shown: they came faster than they were read")
}
