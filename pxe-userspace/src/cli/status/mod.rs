//! `pxed status`, `watch`, `explain`, `hold`, `release`: clients of the admin listener.

use std::process::ExitCode;

use anyhow::Context as _;
use pxe_common::MacAddr;

pub(super) mod client;
mod find;
mod fleet;
mod health;
mod images;
mod machine;
mod nodes;
mod output;
pub(super) mod place;
mod spec;
mod unix;
mod visitor;
mod watch;

use client::{AdminClient, Refused};
use output::print;
use place::Place;

/// The arguments of all clients: the place of the admin listener, and the form of the output.
#[derive(Debug, clap::Args)]
struct AdminArgs {
    #[command(flatten)]
    place: Place,
    /// Print the API's JSON instead of text
    #[arg(long)]
    json: bool,
}

impl AdminArgs {
    fn client(self) -> anyhow::Result<AdminClient> {
        self.place.client()
    }
}

/// The arguments of `pxed status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only machines at this stage or step (never-seen, asking, …, running, up, failed)
    #[arg(long)]
    stage: Option<String>,
    /// Only machines of this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// At most this many machines
    #[arg(long, value_name = "MACHINES")]
    limit: Option<usize>,
    /// Only the health of pxed itself: what is not served, what is less than it could be, and the privileges that it has given up
    #[arg(long, conflicts_with_all = ["stage", "cluster", "limit"])]
    health: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of `pxed watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Only the machine with this hardware address, in any spelling
    mac: Option<MacAddr>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of the subcommands for one machine.
#[derive(Debug, clap::Args)]
pub struct MachineArgs {
    /// Hardware address of one of the machine's network cards, in any spelling
    mac: MacAddr,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Shows the fleet by stage.
///
/// # Errors
///
/// If the admin listener cannot be reached, or has no such stage.
pub fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let StatusArgs { stage, cluster, limit, health: is_health_alone, admin } = args;
    let json = admin.json;
    let client = admin.client()?;
    if is_health_alone {
        let text = client.get("/api/v1/health", &[])?;
        return show(&if json { text } else { health_text(&text)? });
    }
    let limit = limit.map(|limit| limit.to_string());
    let is_filtered = stage.is_some() || cluster.is_some();
    let filters = [("stage", stage), ("cluster", cluster), ("limit", limit)];
    let mut query: Vec<(&str, String)> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if !json {
        query.push(("events", "0".to_owned()));
    }
    let text = client.get("/api/v1/machines", &query)?;
    if json {
        return show(&text);
    }
    let machines: Vec<fleet::Machine> = serde_json::from_str(&text).context("the answer is not pxed's")?;
    let now = jiff::Timestamp::now();
    let errors = client.get("/api/v1/spec/errors", &[])?;
    let errors: Vec<spec::SpecError> = serde_json::from_str(&errors).context("the answer is not pxed's")?;
    let mut text = fleet::render(&machines, now);
    let errors = spec::render(&errors);
    if !errors.is_empty() {
        text = format!("{errors}\n{text}");
    }
    if !is_filtered {
        // They have no stage and no cluster.
        let visitors: Vec<visitor::Visitor> =
            serde_json::from_str(&client.get("/api/v1/visitors", &[])?).context("the answer is not pxed's")?;
        let visitors = visitor::render(&visitors, now);
        if !visitors.is_empty() {
            text = format!("{text}\n{visitors}");
        }
    }
    let images = client.get("/api/v1/images", &[]).ok().and_then(|text| serde_json::from_str(&text).ok());
    let images = images.map(|images| images::render(&images)).unwrap_or_default();
    if !images.is_empty() {
        text = format!("{text}\n{images}");
    }
    let nodes = client.get("/api/v1/nodes", &[]).ok().and_then(|text| serde_json::from_str(&text).ok());
    let nodes = nodes.map(|nodes| nodes::render(&nodes)).unwrap_or_default();
    if !nodes.is_empty() {
        text = format!("{text}\n{nodes}");
    }
    if let Some(health) = health(&client) {
        text = format!("{text}\n{health}");
    }
    show(&text)
}

/// Returns the health of pxed as text, or `None` if an older pxed does not tell.
fn health(client: &AdminClient) -> Option<String> {
    health_text(&client.get("/api/v1/health", &[]).ok()?).ok()
}

fn health_text(json: &str) -> anyhow::Result<String> {
    Ok(health::render(&serde_json::from_str(json).context("the answer is not pxed's")?))
}

/// Follows events until it is interrupted.
///
/// # Errors
///
/// If the admin listener cannot be reached, or ends.
pub fn watch(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let WatchArgs { mac, admin } = args;
    let json = admin.json;
    let client = admin.client()?;
    // An unknown machine is an error at once, rather than silence. Events carry the first MAC address of a machine.
    let only = match mac {
        Some(mac) => Some(machine::first_mac(&client.get(&format!("/api/v1/machines/{mac}"), &[])?)?),
        None => None,
    };
    watch::follow(&client, only.as_deref(), json)
}

/// Explains one machine of the spec, or a client that asked and is not in it.
///
/// # Errors
///
/// If the admin listener cannot be reached, or does not know the machine.
pub fn explain(args: MachineArgs) -> anyhow::Result<ExitCode> {
    let MachineArgs { mac, admin } = args;
    let json = admin.json;
    show(&explanation(&admin.client()?, mac, json, jiff::Timestamp::now())?)
}

/// Returns what is known of a machine: of the spec, of a Matchbox directory, or a stranger.
fn explanation(client: &AdminClient, mac: MacAddr, json: bool, now: jiff::Timestamp) -> anyhow::Result<String> {
    let is_unknown = |error: &anyhow::Error| error.downcast_ref().is_some_and(Refused::is_not_found);
    let unknown = match client.get(&format!("/api/v1/machines/{mac}"), &[]) {
        Ok(text) => return if json { Ok(text) } else { machine::explained(&text, now) },
        Err(error) if is_unknown(&error) => error,
        Err(error) => return Err(error),
    };
    match client.get(&format!("/api/v1/visitors/{mac}"), &[]) {
        Ok(text) => {
            if json {
                Ok(text)
            } else {
                let explained = visitor::explained(&text, now)?;
                // The reason why it is no machine of the spec, if there is one.
                let is_left_out = !unknown.to_string().ends_with("is not a machine of the spec");
                Ok(if is_left_out { format!("{unknown}\n\n{explained}") } else { explained })
            }
        }
        Err(error) if is_unknown(&error) => Err(anyhow::anyhow!("{unknown}, and {error}")),
        Err(error) => Err(error),
    }
}

/// Holds one machine.
///
/// # Errors
///
/// If the admin listener cannot be reached, or does not know the machine.
pub fn hold(args: MachineArgs) -> anyhow::Result<ExitCode> {
    decide(args, "hold")
}

/// Releases one machine.
///
/// # Errors
///
/// If the admin listener cannot be reached, or does not know the machine.
pub fn release(args: MachineArgs) -> anyhow::Result<ExitCode> {
    decide(args, "release")
}

fn decide(args: MachineArgs, decision: &str) -> anyhow::Result<ExitCode> {
    let MachineArgs { mac, admin } = args;
    let json = admin.json;
    let text = admin.client()?.post(&format!("/api/v1/machines/{mac}/{decision}"))?;
    if json { show(&text) } else { show(&machine::decided(&text)?) }
}

fn show(text: &str) -> anyhow::Result<ExitCode> {
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
