//! The routes of those who ask by DHCP without being in a cluster spec, and their JSON. Scripts depend on it.

use std::{net::Ipv4Addr, time::SystemTime};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use pxe_common::MacAddr;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    context::Admin,
    paging::{self, Pages},
    refusal::{Refusal, refuse},
};
use crate::{
    journal::json::rfc3339,
    model::{
        inventory::Inventory,
        near_miss::{NearMiss, digits_off},
        strangers::Overheard,
    },
};

/// A stranger as `GET /api/v1/strangers` lists it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StrangerJson {
    mac: String,
    interface: String,
    vlan: Option<u16>,
    #[schema(value_type = Option<String>, format = Ipv4)]
    relay: Option<Ipv4Addr>,
    firmware: Option<String>,
    architecture: Option<u16>,
    problem: Option<&'static str>,
    first_seen: String,
    last_seen: String,
    count: u64,
    nearest: Option<NearestJson>,
}

/// The machine of the spec that is probably meant.
#[derive(Debug, Serialize, ToSchema)]
struct NearestJson {
    mac: String,
    machine: String,
    #[schema(value_type = String, format = Ipv4)]
    address: Ipv4Addr,
    hostname: Option<String>,
    cluster: String,
    digits: usize,
    text: &'static str,
    source: String,
}

impl StrangerJson {
    fn of(stranger: &Overheard, nearest: Option<NearMiss<'_>>) -> Self {
        let Overheard { last, first_seen, count } = stranger;
        Self {
            mac: last.mac.to_string(),
            interface: last.interface.as_ref().to_owned(),
            vlan: last.vlan,
            relay: last.relay,
            firmware: last.firmware(),
            architecture: last.architecture,
            problem: last.problem,
            first_seen: rfc3339(*first_seen),
            last_seen: rfc3339(last.at),
            count: *count,
            nearest: nearest.map(|NearMiss { machine, mac, slip }| NearestJson {
                mac: mac.to_string(),
                machine: machine.mac.to_string(),
                address: machine.address,
                hostname: machine.hostname.as_deref().map(ToOwned::to_owned),
                cluster: machine.cluster.as_ref().to_owned(),
                digits: digits_off(last.mac, mac),
                text: slip.in_words(),
                source: machine.source.in_words(),
            }),
        }
    }
}

/// `GET /api/v1/strangers`: an array, the stranger that asked last comes first.
#[utoipa::path(get, path = "/api/v1/strangers", operation_id = "list_strangers", tag = "pxed", params(Pages), responses(
    (status = 200, description = "The strangers, of whom the one that asked last comes first", body = Vec<StrangerJson>, headers(
        ("X-Total-Count" = u64, description = "The number of strangers on all pages"),
    )),
    (status = 400, description = "A mistake of the query", body = Refusal),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    uri: Uri,
    pages: Result<Query<Pages>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(pages) = pages.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
    let inventory = admin.context.journal.inventory();
    let strangers = of_now(&admin, &inventory);
    let json = |stranger| StrangerJson::of(stranger, admin.context.journal.nearest(stranger.last.mac, &inventory));
    let strangers: Vec<_> = strangers.iter().map(json).collect();
    Ok(paging::page(&uri, pages, &strangers, |stranger| stranger.mac.clone()))
}

/// `GET /api/v1/strangers/{mac}`.
#[utoipa::path(get, path = "/api/v1/strangers/{mac}", operation_id = "get_stranger", tag = "pxed", params(
    ("mac" = String, Path, description = "Its MAC address, in any spelling"),
), responses(
    (status = 200, description = "The stranger", body = StrangerJson),
    (status = 404, description = "It has not asked", body = Refusal),
))]
pub(super) async fn one(State(admin): State<Admin>, Path(mac): Path<String>) -> Result<Response, Response> {
    let inventory = admin.context.journal.inventory();
    let found = mac.parse::<MacAddr>().ok().filter(|&mac| inventory.by_mac(mac).is_none());
    let stranger = found.and_then(|mac| admin.context.strangers.lock().stranger(mac).cloned());
    let Some(stranger) = stranger else {
        return Err(refuse(StatusCode::NOT_FOUND, format!("no stranger {mac} has asked by DHCP since pxed started")));
    };
    let nearest = admin.context.journal.nearest(stranger.last.mac, &inventory);
    Ok(Json(StrangerJson::of(&stranger, nearest)).into_response())
}

/// Returns what is known of a MAC address that the spec does not name.
pub(super) fn unknown(admin: &Admin, mac: MacAddr) -> String {
    let stranger = admin.context.strangers.lock().stranger(mac).cloned();
    let inventory = admin.context.journal.inventory();
    let nearest = admin.context.journal.nearest(mac, &inventory).map(|NearMiss { machine, mac: meant, slip }| {
        let name = machine.hostname.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        let source = machine.source.in_words();
        format!(
            "{}: the spec names {meant}{name}, of which nothing was heard. If that is this machine, write in {source}: macAddress: {mac}",
            slip.in_words()
        )
    });
    let heard = stranger.map(|Overheard { last, count, .. }| {
        let vlan = last.vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
        let times = if count == 1 { "once,".to_owned() } else { format!("{count} times, the last") };
        let ago = SystemTime::now().duration_since(last.at).unwrap_or_default().as_secs();
        format!("it asked by DHCP on {}{vlan}, {times} {ago} s ago ({})", last.interface, rfc3339(last.at))
    });
    let adopt = format!("to add it, see pxed adopt {mac} --cluster NAME");
    let known: Vec<String> = match (heard, nearest) {
        (None, None) => Vec::new(),
        (heard, nearest) => heard.into_iter().chain(nearest).chain([adopt]).collect(),
    };
    let more: String = known.iter().map(|known| format!("; {known}")).collect();
    format!("{mac} is not a machine of the spec{more}")
}

/// Returns the strangers, without those that the spec names by now.
fn of_now(admin: &Admin, inventory: &Inventory) -> Vec<Overheard> {
    let mut strangers = admin.context.strangers.lock();
    let (named, strange): (Vec<_>, Vec<_>) =
        strangers.iter().cloned().partition(|stranger| inventory.by_mac(stranger.last.mac).is_some());
    named.iter().for_each(|stranger| strangers.forget(stranger.last.mac));
    strange
}
