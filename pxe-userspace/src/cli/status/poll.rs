//! `pxed status --watch` without a terminal: a line for each machine whose stage has changed.

use std::{collections::HashMap, thread, time::Duration};

use jiff::Timestamp;

use super::{
    client::AdminClient,
    colour::Colours,
    fleet,
    format::Format,
    machines::{self, Machine},
    output::{print, print_json},
    select::{Selection, SelectorArgs},
    table::{Cell, Columns},
    yaml,
};
use crate::cli::{exit::Exit, shown::Shown};

/// The time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of a machine that a line shows. A change of it makes another line.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    stage: Shown,
    boots: u32,
    policy: Shown,
    boots_from: Shown,
    stuck: Option<bool>,
}

impl Told {
    fn of(machine: &Machine) -> Self {
        let Machine { stage, boots, policy, boots_from, stuck, .. } = machine.clone();
        Self { stage, boots, policy, boots_from, stuck }
    }
}

/// Prints every selected machine, and then each that has changed, until nobody reads it.
pub(super) fn run(client: &AdminClient, selector: SelectorArgs, format: Format) -> anyhow::Result<Exit> {
    let colours = Colours::of_stdout();
    let mut told: HashMap<Shown, Told> = HashMap::new();
    let mut columns = Columns::default();
    let mut selector = Some(selector);
    let mut selection = Selection::default();
    loop {
        let text = client.get("/api/v1/machines", &[("events", "0".to_owned())])?;
        let listed = machines::read(&text)?;
        let now = Timestamp::now();
        let is_first = selector.is_some();
        if let Some(selector) = selector.take() {
            selection = selector.resolve(listed.iter().map(|listed| &listed.machine))?;
        }
        let changed: Vec<_> = listed
            .iter()
            .filter(|listed| told.get(&listed.machine.mac) != Some(&Told::of(&listed.machine)))
            .filter(|listed| selection.takes(&listed.machine, now))
            .collect();
        let is_wide = format == Format::Wide;
        let mut rows: Vec<Vec<Cell>> = if is_first { vec![fleet::columns(is_wide)] } else { Vec::new() };
        rows.extend(changed.iter().map(|listed| fleet::row(&listed.machine, is_wide, now)));
        let is_read = match format {
            Format::Text | Format::Wide if rows.is_empty() => true,
            Format::Text | Format::Wide => print(&columns.format(&rows, colours))?,
            _ if changed.is_empty() => true,
            Format::Name => {
                print(&changed.iter().map(|listed| format!("{}\n", listed.machine.mac)).collect::<String>())?
            }
            Format::Json => {
                // A line break outside of strings is one of the form alone.
                let lines = changed.iter().map(|listed| format!("{}\n", listed.json.replace('\n', " ")));
                print_json(&lines.collect::<String>())?
            }
            Format::Yaml => {
                let documents = changed.iter().map(|listed| Ok(format!("---\n{}", yaml::of_json(listed.json)?)));
                print(&documents.collect::<anyhow::Result<String>>()?)?
            }
        };
        if !is_read {
            return Ok(Exit::Success);
        }
        told = listed.iter().map(|listed| (listed.machine.mac.clone(), Told::of(&listed.machine))).collect();
        thread::sleep(PAUSE);
    }
}
