//! The answers that are not files: each machine's own script and configuration, and Matchbox's routes through an axum router.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddrV4},
    sync::Arc,
    time::SystemTime,
};

use axum::{Extension, Router, extract::State, routing::get};
use http::StatusCode;
use pxe_common::MacAddr;

use super::{
    answer::Text,
    context::Context,
    delivery::Delivery,
    guarded, matchbox,
    metrics::{Refused, Route},
    query::Query,
    visits::Finding,
};
use crate::{
    boot::{
        config::{self, Answer, ConfigRequest, Files},
        script::{self, script},
        uki_script::uki_script,
        waiting,
    },
    cluster_spec::matchbox::{Group, Labels, NetBoot, Profile, Template},
    guard::Purpose,
    model::{
        boot_method::BootMethod,
        config_files::ConfigFile,
        event::{ArtifactKind, EventKind, short_path},
        failure::WRONG_ARCHITECTURE,
        images::{BootFiles, Images},
        inventory::Machine,
        machine_path::{MachineFile, MachinePath},
        origin::Origin,
        policy::Disposition,
        token::{Token, Tokens},
        visitors::{Match, Outcome},
    },
};

/// The client, as an extension of each request to the router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The address and port of ours that it asks. Scripts and configurations lead back there.
    pub(super) server: SocketAddrV4,
    /// Set for a HEAD request, which is not a step of a boot.
    pub(super) is_head: bool,
}

/// Returns the router for everything that is neither a file nor a machine's own script.
pub(super) fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/", get(async || matchbox_text("matchbox\n")))
        .route("/boot.ipxe", get(bootstrap))
        .route("/boot.ipxe.0", get(bootstrap))
        .route("/ipxe", get(ipxe))
        .route("/grub", get(grub))
        .route("/metadata", get(metadata))
        .route("/ignition", get(ignition))
        .route("/generic", get(generic))
        .route("/cloud", get(cloud))
        .fallback(not_found)
        .with_state(context)
}

/// The query of a request, as an extension of each request to the router.
type Asked = Extension<Arc<Query>>;

async fn not_found() -> Text {
    Text::not_found().found(Outcome::NoRoute)
}

fn matchbox_text(text: impl Into<Cow<'static, str>>) -> Text {
    Text::new(Route::Matchbox, text)
}

/// Answers `/boot.ipxe`: the script that makes any iPXE request again, with what it knows about the machine.
async fn bootstrap(State(context): State<Arc<Context>>, Extension(peer): Extension<Peer>) -> Text {
    let response = matchbox_text(matchbox::BOOTSTRAP);
    match context.machine_at(peer.address) {
        Some(machine) => delivered(&context, peer, machine.mac, "/boot.ipxe", response),
        None => response.found(Outcome::Served),
    }
}

/// Answers `/boot/{mac}.ipxe` and `/boot/{mac}/{token}.ipxe`, one of which every machine requests. It bypasses the router,
/// which would take longer than writing the script.
pub(super) fn own_script(context: &Context, peer: Peer, path: &[u8]) -> Text {
    let Some((MachinePath { mac, token }, MachineFile::Script)) = MachinePath::split(path) else {
        return Text::not_found();
    };
    let Some(machine) = context.inventory.load().by_mac(mac).map(Arc::clone) else { return Text::not_found() };
    let path = MachinePath::masked(path).escape_ascii().to_string();
    if let Some(refused) = refused(context, peer, &machine, &path) {
        return refused;
    }
    let disposition = context.disposition(&machine);
    if let Some(refused) = unguarded(context, peer, &machine, token, disposition, &path) {
        return refused;
    }
    let images = context.images.load();
    let tokens = guarded::renewed(context, &machine, token, peer.server);
    let url = || script::script_url(&machine, peer.server, tokens.boot);
    if let Some(waiting) = waiting(context, peer, &machine, disposition, &images, url) {
        return Text { route: Route::Script, ..waiting };
    }
    disposed(context, peer, &machine, disposition);
    match script_of(peer.server, tokens, &images, &machine, disposition) {
        Some(text) => delivered(context, peer, machine.mac, &path, Text::new(Route::Script, text)),
        None => Text::not_found(),
    }
}

/// Returns the script that the machine runs now, or `None` if the answer is 404.
fn script_of(
    server: SocketAddrV4,
    tokens: Tokens,
    images: &Images,
    machine: &Arc<Machine>,
    disposition: Disposition,
) -> Option<String> {
    let machine = images.as_bootable(machine);
    if disposition == Disposition::Network && machine.boot != BootMethod::Ipxe {
        let files = BootFiles::of(machine, images.stubs());
        return Some(uki_script(machine, server, tokens, &files));
    }
    script(machine, server, tokens, disposition)
}

/// Answers a request for a configuration of GRUB or U-Boot that is not among the artifacts.
pub(super) fn loader_config(context: &Context, peer: Peer, path: &[u8], file: ConfigFile) -> Text {
    let (inventory, policies, images) = (context.inventory.load(), context.policies.load(), context.images.load());
    let request = ConfigRequest {
        file,
        peer: peer.address,
        server: *peer.server.ip(),
        inventory: &inventory,
        policies: &policies,
        images: &images,
        check_source: context.check_source,
        files: Files::Http { port: peer.server.port() },
        now: SystemTime::now(),
    };
    let path = &short_path(path);
    match request.answer() {
        Answer::Config { machine, disposition, text } => {
            disposed(context, peer, &machine, disposition);
            delivered(context, peer, machine.mac, path, Text::new(Route::Script, text))
        }
        Answer::Waits { machine, event, text, pause } => {
            awaits(context, peer, machine.mac, event);
            match text {
                Some(text) => Text::new(Route::Script, text),
                None => Text {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    retry_after: Some(pause),
                    ..Text::new(Route::Script, "a file that this machine boots is not there yet\n")
                },
            }
        }
        Answer::ToDisk(machine) => {
            disposed(context, peer, &machine, Disposition::Disk);
            Text::not_found()
        }
        Answer::NotTheirs { machine, reason } => refuse(context, peer, &machine, path, Route::Script, &reason),
        Answer::NoMachine => Text::not_found(),
    }
}

/// Answers `/ipxe?mac=…`.
async fn ipxe(State(context): State<Arc<Context>>, Extension(peer): Extension<Peer>, Extension(query): Asked) -> Text {
    let Some(machine) = matchbox::machine_of(&query.pairs, &context.inventory.load()) else {
        return boot_of_profile(&context, &query, matchbox::profile_ipxe);
    };
    if let Some(refused) = refused(&context, peer, &machine, "/ipxe") {
        return refused;
    }
    let disposition = context.disposition(&machine);
    if let Some(refused) = unguarded(&context, peer, &machine, None, disposition, "/ipxe") {
        return refused;
    }
    let images = context.images.load();
    let is_wrong = matchbox::is_wrong_architecture(&query.pairs, machine.architecture);
    if disposition == Disposition::Network && is_wrong {
        failed(&context, peer, machine.mac, "/ipxe", WRONG_ARCHITECTURE);
        return matchbox_text(script::wrong_architecture_script(&machine));
    }
    if let Some(text) = waiting(&context, peer, &machine, disposition, &images, || matchbox::ipxe_path(&machine)) {
        return text;
    }
    let text = match disposition {
        Disposition::Network if images.as_bootable(&machine).boot == BootMethod::Ipxe => {
            Some(matchbox::ipxe(images.as_bootable(&machine), peer.server))
        }
        _ => script_of(peer.server, Tokens::default(), &images, &machine, disposition),
    };
    disposed(&context, peer, &machine, disposition);
    match text {
        Some(text) => delivered(&context, peer, machine.mac, "/ipxe", matchbox_text(text)),
        None => Text::not_found(),
    }
}

/// Answers `/grub?mac=…`. A machine that is to boot from its disk gets 404, and GRUB goes on.
async fn grub(State(context): State<Arc<Context>>, Extension(peer): Extension<Peer>, Extension(query): Asked) -> Text {
    let Some(machine) = matchbox::machine_of(&query.pairs, &context.inventory.load()) else {
        return boot_of_profile(&context, &query, matchbox::profile_grub);
    };
    if let Some(refused) = refused(&context, peer, &machine, "/grub") {
        return refused;
    }
    let disposition = context.disposition(&machine);
    if let Some(refused) = unguarded(&context, peer, &machine, None, disposition, "/grub") {
        return refused;
    }
    let images = context.images.load();
    let bootable = images.as_bootable(&machine);
    if disposition == Disposition::Network
        && let Some(awaited) = images.awaited(bootable)
    {
        awaits(&context, peer, machine.mac, awaited.event());
        let root = format!("(http,{})/assets", peer.server);
        return matchbox_text(waiting::grub_config(bootable, awaited, &root, SystemTime::now()));
    }
    disposed(&context, peer, &machine, disposition);
    match disposition {
        Disposition::Network => {
            let text = matchbox::grub(bootable, peer.server);
            let response = matchbox_text(text);
            delivered(&context, peer, machine.mac, "/grub", response)
        }
        Disposition::Disk => Text::not_found(),
    }
}

/// Answers `/metadata?mac=…`.
async fn metadata(
    State(context): State<Arc<Context>>,
    Extension(peer): Extension<Peer>,
    Extension(query): Asked,
) -> Text {
    let Query { raw, pairs } = &*query;
    let text = match matchbox::machine_of(pairs, &context.inventory.load()) {
        Some(machine) => match refused(&context, peer, &machine, "/metadata") {
            Some(refused) => return refused,
            None => matchbox_text(matchbox::metadata(&machine, pairs, raw)),
        },
        None => {
            let labels = Labels::new(pairs);
            match group(&context, &labels) {
                Ok(group) => served(&group, matchbox::group_metadata(&group, &labels, raw)),
                Err(outcome) => return Text::not_found().found(outcome),
            }
        }
    };
    // Matchbox spells the type like this.
    Text { content_type: "plain/text", ..text }
}

/// Returns the group that the labels select in the Matchbox directory. A group has no address of its own, so every client
/// gets it, as with Matchbox.
fn group(context: &Context, labels: &Labels) -> Result<Arc<Group>, Outcome> {
    let catalog = context.catalog.load();
    let selected = catalog.select(labels).map(Arc::clone);
    selected.ok_or_else(|| Outcome::NoGroup { selectors: catalog.selectors() })
}

/// Returns the answer for a client that a group selects.
fn served(group: &Group, text: String) -> Text {
    matchbox_text(text).found(found(group, Outcome::Served))
}

/// Returns the answer for a client whose group has no answer for it.
fn unserved(group: &Group, outcome: Outcome) -> Text {
    Text::not_found().found(found(group, outcome))
}

fn found(group: &Group, outcome: Outcome) -> Finding {
    let matched = Match { group: group.id.as_str().into(), profile: group.profile.id.as_str().into() };
    Finding { outcome, matched: Some(matched) }
}

fn boot_of_profile(context: &Context, query: &Query, text: fn(&NetBoot) -> String) -> Text {
    match group(context, &Labels::new(&query.pairs)) {
        Ok(group) => match &group.profile.boot {
            Some(boot) => served(&group, text(boot)),
            None => unserved(&group, Outcome::NoConfig { field: "boot" }),
        },
        Err(outcome) => Text::not_found().found(outcome),
    }
}

/// Returns the group for a machine that is not in the cluster spec. A machine in the cluster spec has none of these
/// configurations.
fn group_beside_fleet(context: &Context, query: &Query) -> Result<(Labels, Arc<Group>), Outcome> {
    if matchbox::machine_of(&query.pairs, &context.inventory.load()).is_some() {
        return Err(Outcome::NoConfigInSpec);
    }
    let labels = Labels::new(&query.pairs);
    let group = group(context, &labels)?;
    Ok((labels, group))
}

/// Answers `/ignition`.
async fn ignition(State(context): State<Arc<Context>>, Extension(query): Asked) -> Text {
    let group = match group_beside_fleet(&context, &query) {
        Ok((_, group)) => group,
        Err(outcome) => return Text::not_found().found(outcome),
    };
    match &group.profile.ignition {
        Some(text) => Text { content_type: "application/json", ..served(&group, text.to_string()) },
        None => unserved(&group, Outcome::NoConfig { field: "ignition_id" }),
    }
}

/// Answers `/generic`.
async fn generic(State(context): State<Arc<Context>>, Extension(query): Asked) -> Text {
    rendered(&context, &query, "generic_id", |profile| profile.generic.as_deref())
}

/// Answers `/cloud`.
async fn cloud(State(context): State<Arc<Context>>, Extension(query): Asked) -> Text {
    rendered(&context, &query, "cloud_id", |profile| profile.cloud.as_deref())
}

fn rendered(
    context: &Context,
    query: &Query,
    field: &'static str,
    template: fn(&Profile) -> Option<&Template>,
) -> Text {
    let (labels, group) = match group_beside_fleet(context, query) {
        Ok(found) => found,
        Err(outcome) => return Text::not_found().found(outcome),
    };
    let Some(template) = template(&group.profile) else { return unserved(&group, Outcome::NoConfig { field }) };
    match template.render(&matchbox::variables(&group, &labels, &query.raw)) {
        Ok(text) => served(&group, text),
        Err(name) => unserved(&group, Outcome::NoValue { name }),
    }
}

/// Returns the refusal for a client without the machine's address, since a script may contain the machine's secrets.
fn refused(context: &Context, peer: Peer, machine: &Machine, path: &str) -> Option<Text> {
    let reason = config::refusal(machine, peer.address, context.check_source)?;
    let route = if path.starts_with("/boot/") { Route::Script } else { Route::Matchbox };
    Some(refuse(context, peer, machine, path, route, &reason))
}

/// Returns the refusal for a request that may be somebody else's, although it comes from the machine's address: its URL lacks the unguessable
/// part. The way to the disk is no secret.
fn unguarded(
    context: &Context,
    peer: Peer,
    machine: &Machine,
    token: Option<Token>,
    disposition: Disposition,
    path: &str,
) -> Option<Text> {
    if disposition == Disposition::Disk {
        return None;
    }
    let reason = guarded::refusal(context, machine, token, Purpose::Boot, peer.server, "boot script")?;
    tracing::debug!(mac = %machine.mac, peer = %peer.address, "boot HTTP refused a script without its token");
    context.metrics.refused(Refused::Token);
    not_theirs(context, peer, machine.mac, path, &reason);
    let route = if path.starts_with("/boot/") { Route::Script } else { Route::Matchbox };
    Some(Text { status: StatusCode::FORBIDDEN, ..Text::new(route, format!("{reason}\n")) })
}

fn refuse(context: &Context, peer: Peer, machine: &Machine, path: &str, route: Route, reason: &str) -> Text {
    context.asked_by_another(machine.mac, peer.address, path.to_owned());
    Text { status: StatusCode::FORBIDDEN, ..Text::new(route, format!("{reason}\n")) }
}

/// Announces that somebody who may not be the machine does not get its script.
fn not_theirs(context: &Context, peer: Peer, mac: MacAddr, path: &str, reason: &str) {
    if !peer.is_head {
        Delivery::new(mac, ArtifactKind::Script, path.as_bytes()).unproven().refused(&context.events, reason);
    }
}

/// Announces that the machine does not get its script.
fn failed(context: &Context, peer: Peer, mac: MacAddr, path: &str, reason: &str) {
    if !peer.is_head {
        Delivery::new(mac, ArtifactKind::Script, path.as_bytes()).refused(&context.events, reason);
    }
}

/// Returns the script of a machine that waits for a file before it can boot from the network. `url` returns where it gets its script.
fn waiting(
    context: &Context,
    peer: Peer,
    machine: &Arc<Machine>,
    disposition: Disposition,
    images: &Images,
    url: impl FnOnce() -> String,
) -> Option<Text> {
    let bootable = images.as_bootable(machine);
    let awaited = images.awaited(bootable).filter(|_| disposition == Disposition::Network)?;
    awaits(context, peer, machine.mac, awaited.event());
    Some(matchbox_text(waiting::ipxe_script(bootable, awaited, &url(), SystemTime::now())))
}

/// Announces that the machine is told to wait. The answer itself is no step of its boot.
fn awaits(context: &Context, peer: Peer, mac: MacAddr, event: EventKind) {
    if !peer.is_head {
        context.events.send(mac, SystemTime::now(), Origin::Machine, event);
    }
}

/// Announces that the machine is told to boot from its disk, if that is so.
fn disposed(context: &Context, peer: Peer, machine: &Machine, disposition: Disposition) {
    if disposition == Disposition::Disk && !peer.is_head {
        context.events.send(machine.mac, SystemTime::now(), Origin::Machine, EventKind::SentToDisk);
    }
}

/// Announces that the machine requested this answer, and tracks its arrival.
fn delivered(context: &Context, peer: Peer, mac: MacAddr, path: &str, text: Text) -> Text {
    if peer.is_head {
        return text;
    }
    let delivery = Delivery::new(mac, ArtifactKind::Script, path.as_bytes());
    delivery.requested(&context.events);
    Text { delivery: Some(delivery), ..text }
}
