//! What is not a file: each machine's script, and Matchbox's routes.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use axum::{
    Extension, Router,
    extract::{Path, Query, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{StatusCode, header};
use pxe_common::MacAddr;

use super::{
    Context, Refused,
    connection::{Answer, Connection},
    matchbox,
    metrics::Route,
};
use crate::{
    boot::script::{self, script},
    inventory::Machine,
    journal::{
        EventKind,
        event::{ArtifactKind, Transport},
        policy::Disposition,
    },
    spec::matchbox::{Group, Labels, NetBoot, Profile, Template},
};

/// Who asks: put into each request by the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// HEAD is about an answer, it is not a step of a boot.
    pub(super) is_head: bool,
}

/// Put into an answer whose arrival is an event.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) mac: MacAddr,
    pub(super) artifact: ArtifactKind,
    pub(super) path: Arc<str>,
}

impl Connection {
    /// The machine whose address the client has.
    pub(super) fn machine(&self) -> Option<Arc<Machine>> {
        self.context.machine_at(self.peer)
    }
}

impl Context {
    fn machine_at(&self, address: IpAddr) -> Option<Arc<Machine>> {
        let IpAddr::V4(address) = address else { return None };
        self.inventory.load().by_address(address).map(Arc::clone)
    }

    fn disposition(&self, machine: &Machine) -> Disposition {
        self.policies.load().disposition(machine)
    }
}

/// A path as events keep it: text, and not as long as a client likes.
pub(super) fn short_path(path: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(path.get(..256).unwrap_or(path)).into()
}

/// The router of everything that is not a file.
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
        .route("/boot/{file}", get(own_script))
        .fallback(not_found)
        .with_state(context)
}

type Labelled = Query<Vec<(String, String)>>;

async fn not_found() -> Response {
    nothing()
}

fn nothing() -> Response {
    (StatusCode::NOT_FOUND, text_type(), "404 page not found\n").into_response()
}

const fn text_type() -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8")]
}

fn matchbox_text(text: impl Into<String>) -> Answer {
    (Extension(Route::Matchbox), text_type(), text.into()).into_response()
}

/// The script that makes any iPXE ask again with what it knows about itself.
async fn bootstrap(State(context): State<Arc<Context>>, Extension(peer): Extension<Peer>) -> Response {
    let response = matchbox_text(matchbox::BOOTSTRAP);
    match context.machine_at(peer.address) {
        Some(machine) => delivered(&context, peer, machine.mac, "/boot.ipxe", response),
        None => response,
    }
}

/// `/boot/{mac}.ipxe`
async fn own_script(
    State(context): State<Arc<Context>>,
    Extension(peer): Extension<Peer>,
    Path(file): Path<String>,
) -> Response {
    let mac = file.strip_suffix(".ipxe").and_then(|mac| mac.parse().ok());
    let Some(machine) = mac.and_then(|mac| context.inventory.load().by_mac(mac).map(Arc::clone)) else {
        return nothing();
    };
    let path = format!("/boot/{file}");
    if let Some(refused) = refused(&context, peer, &machine, &path) {
        return refused;
    }
    let disposition = context.disposition(&machine);
    match script(&machine, context.http_port, disposition) {
        Some(text) => {
            let response = (Extension(Route::Script), text_type(), text).into_response();
            disposed(&context, peer, &machine, disposition);
            delivered(&context, peer, machine.mac, &path, response)
        }
        None => {
            disposed(&context, peer, &machine, disposition);
            nothing()
        }
    }
}

/// `/ipxe?mac=…`
async fn ipxe(
    State(context): State<Arc<Context>>,
    Extension(peer): Extension<Peer>,
    Query(labels): Labelled,
) -> Response {
    let Some(machine) = matchbox::machine_of(&labels, &context.inventory.load()) else {
        return boot_of_profile(&context, &labels, "/ipxe", matchbox::profile_ipxe);
    };
    if let Some(refused) = refused(&context, peer, &machine, "/ipxe") {
        return refused;
    }
    let disposition = context.disposition(&machine);
    let text = match disposition {
        Disposition::Network if matchbox::is_wrong_architecture(&labels, machine.architecture) => {
            let reason = "the firmware's architecture is not the one in the cluster spec";
            failed(&context, peer, machine.mac, "/ipxe", reason);
            return matchbox_text(script::wrong_architecture_script(&machine));
        }
        Disposition::Network => Some(matchbox::ipxe(&machine)),
        Disposition::Disk => script(&machine, context.http_port, disposition),
    };
    disposed(&context, peer, &machine, disposition);
    match text {
        Some(text) => delivered(&context, peer, machine.mac, "/ipxe", matchbox_text(text)),
        None => nothing(),
    }
}

/// `/grub?mac=…`: for a machine that is to boot from its disk nothing matches, and GRUB goes on.
async fn grub(
    State(context): State<Arc<Context>>,
    Extension(peer): Extension<Peer>,
    Query(labels): Labelled,
) -> Response {
    let Some(machine) = matchbox::machine_of(&labels, &context.inventory.load()) else {
        return boot_of_profile(&context, &labels, "/grub", matchbox::profile_grub);
    };
    if let Some(refused) = refused(&context, peer, &machine, "/grub") {
        return refused;
    }
    let disposition = context.disposition(&machine);
    disposed(&context, peer, &machine, disposition);
    match disposition {
        Disposition::Network => {
            let response = matchbox_text(matchbox::grub(&machine, context.http_port));
            delivered(&context, peer, machine.mac, "/grub", response)
        }
        Disposition::Disk => nothing(),
    }
}

/// `/metadata?mac=…`
async fn metadata(
    State(context): State<Arc<Context>>,
    Extension(peer): Extension<Peer>,
    Query(labels): Labelled,
    RawQuery(raw): RawQuery,
) -> Response {
    let raw = raw.as_deref().unwrap_or_default();
    let text = match matchbox::machine_of(&labels, &context.inventory.load()) {
        Some(machine) => {
            if let Some(refused) = refused(&context, peer, &machine, "/metadata") {
                return refused;
            }
            matchbox::metadata(&machine, &labels, raw)
        }
        None => {
            let labels = Labels::new(&labels);
            let Some(group) = group(&context, &labels, "/metadata") else { return nothing() };
            matchbox::group_metadata(&group, &labels, raw)
        }
    };
    // Matchbox's own spelling of the type.
    (Extension(Route::Matchbox), [(header::CONTENT_TYPE, "plain/text")], text).into_response()
}

/// The group that the labels select in the Matchbox directory. What is in it has no address of its own, so that it is
/// given to whoever asks, as Matchbox does.
fn group(context: &Context, labels: &Labels, path: &str) -> Option<Arc<Group>> {
    let group = context.catalog.load().select(labels).map(Arc::clone)?;
    tracing::debug!(mac = labels.get("mac"), path, group = group.id, profile = group.profile.id, "Matchbox group");
    Some(group)
}

fn boot_of_profile(
    context: &Context,
    labels: &[(String, String)],
    path: &str,
    text: fn(&NetBoot) -> String,
) -> Response {
    let group = group(context, &Labels::new(labels), path);
    match group.as_ref().and_then(|group| group.profile.boot.as_ref()) {
        Some(boot) => matchbox_text(text(boot)),
        None => nothing(),
    }
}

/// The group for a machine that the cluster spec does not have; a machine of the cluster spec has none of these
/// configurations.
fn group_beside_fleet(context: &Context, labels: &[(String, String)], path: &str) -> Option<(Labels, Arc<Group>)> {
    if matchbox::machine_of(labels, &context.inventory.load()).is_some() {
        return None;
    }
    let labels = Labels::new(labels);
    let group = group(context, &labels, path)?;
    Some((labels, group))
}

/// `/ignition`
async fn ignition(State(context): State<Arc<Context>>, Query(labels): Labelled) -> Response {
    let group = group_beside_fleet(&context, &labels, "/ignition");
    match group.and_then(|(_, group)| group.profile.ignition.clone()) {
        Some(text) => {
            let content_type = [(header::CONTENT_TYPE, "application/json")];
            (Extension(Route::Matchbox), content_type, text.to_string()).into_response()
        }
        None => nothing(),
    }
}

/// `/generic`
async fn generic(State(context): State<Arc<Context>>, Query(labels): Labelled, RawQuery(raw): RawQuery) -> Response {
    rendered(&context, &labels, raw.as_deref(), "/generic", |profile| profile.generic.as_deref())
}

/// `/cloud`
async fn cloud(State(context): State<Arc<Context>>, Query(labels): Labelled, RawQuery(raw): RawQuery) -> Response {
    rendered(&context, &labels, raw.as_deref(), "/cloud", |profile| profile.cloud.as_deref())
}

fn rendered(
    context: &Context,
    labels: &[(String, String)],
    raw_query: Option<&str>,
    path: &str,
    template: fn(&Profile) -> Option<&Template>,
) -> Response {
    let Some((labels, group)) = group_beside_fleet(context, labels, path) else { return nothing() };
    let Some(template) = template(&group.profile) else { return nothing() };
    match template.render(&matchbox::variables(&group, &labels, raw_query.unwrap_or_default())) {
        Ok(text) => matchbox_text(text),
        Err(variable) => {
            tracing::debug!(mac = labels.get("mac"), path, group = group.id, variable, "a template lacks a value");
            nothing()
        }
    }
}

/// The refusal for a client that has another address than the machine, for a script may hold its secrets.
fn refused(context: &Context, peer: Peer, machine: &Machine, path: &str) -> Option<Response> {
    if !context.check_source || peer.address == machine.address {
        return None;
    }
    let Machine { mac, address, .. } = machine;
    let reason = format!("asked from {}, but only {address} gets what is for {mac}", peer.address);
    tracing::debug!(%mac, peer = %peer.address, "boot HTTP refused a script to another address");
    context.metrics.refused(Refused::Source);
    failed(context, peer, *mac, path, &reason);
    let route = if path.starts_with("/boot/") { Route::Script } else { Route::Matchbox };
    Some((StatusCode::FORBIDDEN, Extension(route), text_type(), format!("{reason}\n")).into_response())
}

fn failed(context: &Context, peer: Peer, mac: MacAddr, path: &str, reason: &str) {
    if !peer.is_head {
        let (artifact, transport) = (ArtifactKind::Script, Transport::Http);
        let kind = EventKind::Failed { artifact, transport, path: path.into(), bytes: 0, reason: reason.into() };
        context.events.send(mac, SystemTime::now(), kind);
    }
}

fn disposed(context: &Context, peer: Peer, machine: &Machine, disposition: Disposition) {
    if disposition == Disposition::Disk && !peer.is_head {
        context.events.send(machine.mac, SystemTime::now(), EventKind::SentToDisk);
    }
}

/// Announces that the machine asked for this answer, and has the connection announce its arrival.
fn delivered(context: &Context, peer: Peer, mac: MacAddr, path: &str, mut response: Response) -> Response {
    if !peer.is_head {
        let (artifact, path) = (ArtifactKind::Script, short_path(path.as_bytes()));
        let kind = EventKind::Requested { artifact, transport: Transport::Http, path: Arc::clone(&path) };
        context.events.send(mac, SystemTime::now(), kind);
        response.extensions_mut().insert(Delivery { mac, artifact, path });
    }
    response
}
