//! `pxed status`: the fleet in the form that is asked for.

use anyhow::Context as _;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::{
    client::AdminClient,
    colour::{Colours, Tone},
    fleet,
    format::Format,
    health, images,
    machines::{self, Listed, Machine, State},
    nodes,
    output::{print, print_json},
    select::{SelectorArgs, check_stages, is_at},
    spec, strangers, visitor, yaml,
};
use crate::cli::exit::Exit;

/// The states at which the command fails.
const ALARMING: [&str; 2] = ["failed", super::select::STUCK];

/// The list that is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) selector: SelectorArgs,
    pub(super) limit: Option<usize>,
    pub(super) format: Format,
    pub(super) fail_on: Vec<String>,
    pub(super) exit_code: bool,
}

/// Prints the fleet.
pub(super) fn run(client: &AdminClient, asked: Asked) -> anyhow::Result<Exit> {
    let Asked { selector, limit, format, mut fail_on, exit_code } = asked;
    check_stages("fail-on", &fail_on)?;
    if exit_code {
        fail_on.extend(ALARMING.map(str::to_owned));
    }
    let is_text = matches!(format, Format::Text | Format::Wide);
    let has_events = matches!(format, Format::Json | Format::Yaml);
    let query = if has_events { Vec::new() } else { vec![("events", "0".to_owned())] };
    let text = client.get("/api/v1/machines", &query)?;
    let listed = machines::read(&text)?;
    let is_filtered = !selector.is_empty();
    let now = Timestamp::now();
    let selection = selector.resolve(listed.iter().map(|listed| &listed.machine))?;
    let chosen: Vec<&Listed<'_>> = listed.iter().filter(|listed| selection.takes(&listed.machine, now)).collect();
    let limit = limit.unwrap_or(usize::MAX);
    let shown = || chosen.iter().take(limit);
    match format {
        Format::Json => print_json(&array(shown().map(|listed| listed.json)))?,
        Format::Yaml => print(&yaml::of_json(&array(shown().map(|listed| listed.json)))?)?,
        Format::Name if chosen.is_empty() => true,
        Format::Name => print(&shown().map(|listed| format!("{}\n", listed.machine.mac)).collect::<String>())?,
        Format::Text | Format::Wide => {
            let mut machines: Vec<&Machine> = chosen.iter().map(|listed| &listed.machine).collect();
            // Those that failed or are stuck come first, each in the order of the spec, like the others.
            machines.sort_by_key(|machine| machine.state(now).min(State::Busy));
            let colours = Colours::of_stdout();
            let form = fleet::Form { limit, is_wide: format == Format::Wide, colours };
            print(&page(client, &machines, form, is_filtered, now)?)?
        }
    };
    let found = chosen.iter().filter(|listed| is_at(&fail_on, &listed.machine, now)).count();
    if found > 0 && is_text {
        super::output::complain(&format!("{found} of {} machines: {}", chosen.len(), fail_on.join(" or ")));
    }
    Ok(if found > 0 { Exit::Found } else { Exit::Success })
}

/// Returns an array as the API writes it.
fn array<'a>(objects: impl Iterator<Item = &'a str>) -> String {
    let objects: Vec<_> = objects.collect();
    if objects.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", objects.join(",\n")) }
}

/// Returns the tables, between what is wrong with the spec and the state of pxed itself.
fn page(
    client: &AdminClient,
    machines: &[&Machine],
    form: fleet::Form,
    is_filtered: bool,
    now: Timestamp,
) -> anyhow::Result<String> {
    let colours = form.colours;
    let errors: Vec<spec::SpecError> = of_json(&client.get("/api/v1/spec/errors", &[])?)?;
    let mut text = fleet::render(machines, form, now);
    let errors = toned(&spec::render(&errors), colours);
    if !errors.is_empty() {
        text = format!("{errors}\n{text}");
    }
    let mut add = |more: String| {
        if !more.is_empty() {
            text = format!("{text}\n{more}");
        }
    };
    if !is_filtered {
        // They have no stage and no cluster.
        let visitors: Vec<visitor::Visitor> = of_json(&client.get("/api/v1/visitors", &[])?)?;
        add(visitor::render(&visitors, colours, now));
    }
    // An older pxed does not have these.
    let optional = |path| client.get(path, &[]).ok();
    let unknown = optional("/api/v1/strangers").filter(|_| !is_filtered).and_then(|text| of_json(&text).ok());
    add(unknown.and_then(|unknown: Vec<_>| strangers::recent(&unknown, now)).unwrap_or_default());
    let images = optional("/api/v1/images").and_then(|text| of_json(&text).ok());
    add(images.map(|images| images::render(&images)).unwrap_or_default());
    let nodes = optional("/api/v1/nodes").and_then(|text| of_json(&text).ok());
    add(nodes.map(|nodes| nodes::render(&nodes)).unwrap_or_default());
    let health = optional("/api/v1/health").and_then(|text| health_text(&text, colours).ok());
    add(health.unwrap_or_default());
    Ok(text)
}

fn of_json<T: DeserializeOwned>(json: &str) -> anyhow::Result<T> {
    serde_json::from_str(json).context("the answer is not pxed's")
}

/// Formats the health of pxed.
pub(super) fn health_text(json: &str, colours: Colours) -> anyhow::Result<String> {
    Ok(toned(&health::render(&of_json(json)?), colours))
}

/// Paints the lines that say what is wrong.
fn toned(text: &str, colours: Colours) -> String {
    let line = |line: &str| {
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.starts_with(beginning));
        let tone = match () {
            () if begins(&["spec:", "not served:"]) => Tone::Bad,
            () if begins(&["warning:", "not confined by"]) => Tone::Warning,
            () => Tone::Plain,
        };
        format!("{}\n", colours.paint(tone, line))
    };
    text.lines().map(line).collect()
}
