//! The stream of boot events, as lines.

use std::{
    collections::{HashMap, HashSet},
    io::BufRead,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    client::AdminClient,
    machines::{self, Machine},
    output::{print, print_json},
    select::{STUCK, Selection, SelectorArgs},
    target,
};
use crate::cli::{
    exit::{Ended, Exit},
    shown::Shown,
};

/// The time after which pxed is asked once more which machines are stuck: no event tells it. It is shorter than any time after which one is.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

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
    /// The time at which pxed was asked for them last.
    looked: Instant,
}

/// The machines that pxed is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Stuck,
}

impl Filter {
    /// Returns the filter of a name and a selection. An unknown one is an error at once, rather than silence.
    pub(super) fn of(client: &AdminClient, name: Option<&str>, selector: SelectorArgs) -> anyhow::Result<Self> {
        let mut filter = Self {
            selection: Selection::default(),
            only: None,
            machines: HashMap::new(),
            unknown: HashSet::new(),
            looked: Instant::now(),
        };
        if name.is_none() && selector.is_empty() {
            return Ok(filter);
        }
        filter.machines = fleet(client, Wanted::All)?;
        let all: Vec<&Machine> = filter.machines.values().collect();
        filter.only = name.map(|name| target::find(&all, name)).transpose()?.map(|machine| machine.mac.clone());
        filter.selection = selector.resolve(all.iter().copied())?;
        Ok(filter)
    }

    /// Returns whether an event is wanted. `fleet` is asked for a machine that has come into the spec since, and for those that are stuck by now.
    fn takes(
        &mut self,
        event: &Event,
        now: Instant,
        fleet: impl Fn(Wanted) -> anyhow::Result<HashMap<Shown, Machine>>,
    ) -> bool {
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
            self.machines = fleet(Wanted::All).unwrap_or_else(|_| std::mem::take(&mut self.machines));
        }
        if self.selection.names(STUCK) && now.saturating_duration_since(self.looked) >= LOOK_AGAIN {
            self.looked = now;
            self.look(fleet(Wanted::Stuck));
        }
        let Some(machine) = self.machines.get_mut(&event.mac) else { return false };
        if machine.stage != event.stage {
            machine.stage = event.stage.clone();
            machine.stage_since = event.at;
            machine.stuck = None;
        }
        self.selection.takes(machine, event.at)
    }

    /// Takes note of the machines that are stuck now. An older pxed does not list them.
    fn look(&mut self, stuck: anyhow::Result<HashMap<Shown, Machine>>) {
        let Ok(stuck) = stuck else { return };
        for machine in self.machines.values_mut() {
            machine.stuck = Some(false);
        }
        self.machines.extend(stuck);
    }
}

fn fleet(client: &AdminClient, wanted: Wanted) -> anyhow::Result<HashMap<Shown, Machine>> {
    let mut query = vec![("events", "0".to_owned())];
    if wanted == Wanted::Stuck {
        query.push(("stuck", "true".to_owned()));
    }
    let text = client.get("/api/v1/machines", &query)?;
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
                Piece::Boot(event) if !filter.takes(&event, Instant::now(), |wanted| fleet(client, wanted)) => true,
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const MAC: &str = "52:54:00:00:00:01";

    fn listed(stage: &str, stuck: bool) -> HashMap<Shown, Machine> {
        let json = format!(
            r#"[{{"mac":"{MAC}","address":"10.0.0.1","hostname":null,"cluster":"lab","role":"worker","architecture":"amd64","version":"v1.13.0",
                "policy":"auto","boots_from":"network","stage":"{stage}","stage_since":"2026-01-01T10:00:00Z","stuck":{stuck},"boots":0,
                "last_error":null,"last_error_at":null,"events":[]}}]"#
        );
        let machines = machines::read(&json).unwrap().into_iter();
        machines.map(|listed| (listed.machine.mac.clone(), listed.machine)).collect()
    }

    fn event(second: i64, stage: &str) -> Event {
        let at = "2026-01-01T10:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second);
        Event { at, mac: Shown::of(MAC), stage: Shown::of(stage), failure: false, text: Shown::of("") }
    }

    /// Returns a filter that takes stuck machines and knows these.
    fn filter(machines: HashMap<Shown, Machine>) -> Filter {
        let selector = SelectorArgs { stage: vec![STUCK.to_owned()], ..SelectorArgs::default() };
        let selection = selector.resolve(machines.values()).unwrap();
        Filter { selection, only: None, machines, unknown: HashSet::new(), looked: Instant::now() }
    }

    /// Returns whether the filter takes the event of this second, counted from its beginning. pxed may have another clock than this host.
    fn takes(
        filter: &mut Filter,
        begun: Instant,
        (second, stage): (u64, &str),
        fleet: impl Fn(Wanted) -> anyhow::Result<HashMap<Shown, Machine>>,
    ) -> bool {
        filter.takes(&event(second.try_into().unwrap(), stage), begun + Duration::from_secs(second), fleet)
    }

    #[test]
    fn machine_that_moves_on_is_stuck_no_more() {
        let mut filter = filter(listed("addressed", true));
        let begun = filter.looked;
        let nobody = |_| -> anyhow::Result<_> { panic!("nobody is asked so soon") };
        assert!(takes(&mut filter, begun, (1, "addressed"), nobody));
        assert!(!takes(&mut filter, begun, (2, "loading-loader"), nobody));
        assert!(!takes(&mut filter, begun, (3, "loading-kernel"), nobody));
    }

    #[test]
    fn machine_that_gets_stuck_later_is_taken_from_then_on() {
        let mut filter = filter(listed("addressed", false));
        let begun = filter.looked;
        let later = |wanted| {
            assert_eq!(wanted, Wanted::Stuck);
            Ok(listed("addressed", true))
        };
        assert!(!takes(&mut filter, begun, (9, "addressed"), later));
        assert!(takes(&mut filter, begun, (60, "addressed"), later));
        // It is stuck no more, and stays where it is.
        assert!(takes(&mut filter, begun, (61, "addressed"), |_| Ok(HashMap::new())));
        assert!(!takes(&mut filter, begun, (120, "addressed"), |_| Ok(HashMap::new())));
    }

    #[test]
    fn older_pxed_that_lists_no_stuck_machines_leaves_it_to_the_time_at_a_stage() {
        let mut machines = listed("addressed", false);
        machines.values_mut().for_each(|machine| machine.stuck = None);
        let mut filter = filter(machines);
        let begun = filter.looked;
        for (second, is_stuck) in [(60, false), (299, false), (301, true)] {
            let refuses = |_| Err(anyhow::anyhow!("unknown field `stuck`"));
            assert_eq!(takes(&mut filter, begun, (second, "addressed"), refuses), is_stuck, "{second}");
        }
    }
}
