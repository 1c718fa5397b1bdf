//! `pxed status`, `watch`, `explain`, `strangers`, `adopt`, `hold`, `release`: clients of the admin listener.

use std::{env, io::IsTerminal as _, net::Ipv4Addr, process::ExitCode};

use pxe_common::MacAddr;

pub(super) mod client;
mod colour;
mod decide;
mod explain;
mod find;
mod fleet;
mod format;
mod free_address;
mod health;
mod images;
mod list;
mod live;
mod machine;
mod machines;
mod nodes;
mod output;
pub(super) mod place;
mod poll;
mod select;
mod spec;
mod strangers;
mod table;
mod target;
mod unix;
mod visitor;
mod watch;
mod wrap;
mod yaml;

use super::exit;
use client::AdminClient;
use colour::Colours;
use decide::{Decision, Wanted};
use format::Format;
use list::Asked;
use output::{end_when_unread, print, print_json};
use place::Place;
use select::SelectorArgs;
use wrap::Width;

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
#[command(after_help = exit::HELP)]
pub struct StatusArgs {
    #[command(flatten)]
    selector: SelectorArgs,
    /// List at most this many machines; all that are selected are counted
    #[arg(long, value_name = "MACHINES")]
    limit: Option<usize>,
    /// Form of the list [default: text]
    #[arg(short, long, value_name = "FORM", conflicts_with = "json")]
    output: Option<Format>,
    /// Go on showing it: on a terminal as a live view (q quits), otherwise with a line for each machine whose stage changes
    #[arg(short, long, conflicts_with_all = ["limit", "fail_on", "exit_code"])]
    watch: bool,
    /// Fail with status 3 if a selected machine is at one of these stages, or stuck
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    fail_on: Vec<String>,
    /// The same as --fail-on failed,stuck
    #[arg(long)]
    exit_code: bool,
    /// Only the health of pxed itself: what is not served, what is less than it could be, and the privileges that it has given up
    #[arg(long, conflicts_with_all = ["cluster", "stage", "role", "limit", "output", "watch", "fail_on", "exit_code"])]
    health: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of `pxed watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct WatchArgs {
    /// Only this machine: hardware address in any spelling, IP address or host name
    #[arg(value_name = "MACHINE")]
    machine: Option<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of `pxed explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct MachineArgs {
    /// Hardware address of one of the machine's network cards in any spelling, its IP address, or its host name
    #[arg(value_name = "MACHINE")]
    machine: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of `pxed strangers`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct StrangersArgs {
    /// Form of the list [default: text]
    #[arg(short, long, value_name = "FORM", conflicts_with = "json")]
    output: Option<Format>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The arguments of `pxed adopt`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct AdoptArgs {
    /// Hardware address of the stranger, in any spelling
    #[arg(value_parser = crate::cluster_spec::machine_mac)]
    mac: MacAddr,
    /// The cluster that it is to belong to
    #[arg(long)]
    cluster: String,
    /// Its address [default: a free one after the highest of the cluster]
    #[arg(long, value_name = "IP")]
    address: Option<Ipv4Addr>,
    #[command(flatten)]
    place: Place,
}

/// The arguments of `pxed hold` and `pxed release`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct DecideArgs {
    /// The machines: hardware addresses in any spelling, IP addresses or host names
    #[arg(value_name = "MACHINE", conflicts_with_all = ["cluster", "stage", "role"])]
    machines: Vec<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Change the machines of --cluster, --stage and --role without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Shows the fleet by stage.
///
/// # Errors
///
/// If the admin listener cannot be reached, or knows no such cluster, stage or role.
pub fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let StatusArgs { selector, limit, output, watch, fail_on, exit_code, health, admin } = args;
    let json = admin.json;
    let client = admin.client()?;
    if health {
        let text = client.get("/api/v1/health", &[])?;
        return if json { show_json(&text) } else { show(&list::health_text(&text, Colours::of_stdout())?) };
    }
    let format = output.unwrap_or(if json { Format::Json } else { Format::Text });
    if watch && format == Format::Text && has_live_view() {
        return live::run(client, live::Asked { machine: None, selector, has_events: false });
    }
    if watch {
        end_when_unread();
        return Ok(poll::run(&client, selector, format)?.into());
    }
    Ok(list::run(&client, Asked { selector, limit, format, fail_on, exit_code })?.into())
}

/// Follows events until it is interrupted: on a terminal below a live view of the fleet, otherwise as lines.
///
/// # Errors
///
/// If the admin listener cannot be reached, does not know the machine, or ends.
pub fn watch(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let WatchArgs { machine, selector, admin } = args;
    let json = admin.json;
    let client = admin.client()?;
    if !json && has_live_view() {
        return live::run(client, live::Asked { machine, selector, has_events: true });
    }
    end_when_unread();
    let filter = watch::Filter::of(&client, machine.as_deref(), selector)?;
    Ok(watch::follow(&client, filter, json)?.into())
}

/// Explains one machine of the spec, or a client that asked and is not in it.
///
/// # Errors
///
/// If the admin listener cannot be reached, or does not know the machine.
pub fn explain(args: MachineArgs) -> anyhow::Result<ExitCode> {
    let MachineArgs { machine, admin } = args;
    let json = admin.json;
    let form = explain::Form { json, width: Width::of_stdout() };
    let text = explain::explanation(&admin.client()?, &machine, form, jiff::Timestamp::now())?;
    if json { show_json(&text) } else { show(&text) }
}

/// Lists who asks by DHCP without being in the spec, the one that asked last first.
///
/// # Errors
///
/// If the admin listener cannot be reached.
pub fn strangers(args: StrangersArgs) -> anyhow::Result<ExitCode> {
    let StrangersArgs { output, admin } = args;
    let format = output.unwrap_or(if admin.json { Format::Json } else { Format::Text });
    strangers::list(&admin.client()?, format)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the YAML that makes a stranger a machine of a cluster.
///
/// # Errors
///
/// If the admin listener cannot be reached, there is no such cluster, or the machine is in the spec already.
pub fn adopt(args: AdoptArgs) -> anyhow::Result<ExitCode> {
    let AdoptArgs { mac, cluster, address, place } = args;
    show(&strangers::adopted(&place.client()?, mac, &cluster, address)?)
}

/// Holds machines.
///
/// # Errors
///
/// If the admin listener cannot be reached, does not know a machine, or nobody can be asked for a confirmation.
pub fn hold(args: DecideArgs) -> anyhow::Result<ExitCode> {
    decide(args, Decision::Hold)
}

/// Releases machines.
///
/// # Errors
///
/// If the admin listener cannot be reached, does not know a machine, or nobody can be asked for a confirmation.
pub fn release(args: DecideArgs) -> anyhow::Result<ExitCode> {
    decide(args, Decision::Release)
}

fn decide(args: DecideArgs, decision: Decision) -> anyhow::Result<ExitCode> {
    let DecideArgs { machines: names, selector, yes, admin } = args;
    let json = admin.json;
    Ok(decide::run(&admin.client()?, decision, Wanted { names, selector, yes }, json)?.into())
}

/// Returns whether standard output is a terminal that a live view can be drawn on.
fn has_live_view() -> bool {
    std::io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn show(text: &str) -> anyhow::Result<ExitCode> {
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn show_json(json: &str) -> anyhow::Result<ExitCode> {
    print_json(json)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
