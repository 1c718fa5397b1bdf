//! The routes of the clients that no journal follows, and their JSON. Scripts depend on it.

use std::{net::IpAddr, time::SystemTime};

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
    model::visitors::{Outcome, Request, Visitor},
};

/// A visitor as `GET /api/v1/visitors` lists it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitorJson {
    name: String,
    mac: Option<String>,
    uuid: Option<String>,
    #[schema(value_type = String)]
    address: IpAddr,
    first_seen: String,
    last_seen: String,
    group: Option<String>,
    profile: Option<String>,
    requests: Vec<RequestJson>,
}

/// A request of a visitor or of a machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestJson {
    at: String,
    request: String,
    status: u16,
    outcome: &'static str,
    text: String,
    times: u32,
}

impl From<&Visitor> for VisitorJson {
    fn from(visitor: &Visitor) -> Self {
        let Visitor { mac, uuid, address, first_seen, last_seen, matched, requests } = visitor;
        Self {
            name: visitor.to_string(),
            mac: mac.map(|mac| mac.to_string()),
            uuid: uuid.as_deref().map(ToOwned::to_owned),
            address: *address,
            first_seen: rfc3339(*first_seen),
            last_seen: rfc3339(*last_seen),
            group: matched.as_ref().map(|matched| matched.group.as_ref().to_owned()),
            profile: matched.as_ref().map(|matched| matched.profile.as_ref().to_owned()),
            requests: requests.iter().map(RequestJson::from).collect(),
        }
    }
}

impl From<&Request> for RequestJson {
    fn from(asked: &Request) -> Self {
        let Request { at, request, status, outcome, times } = asked;
        Self {
            at: rfc3339(*at),
            request: request.as_ref().to_owned(),
            status: *status,
            outcome: outcome.name(),
            text: outcome.to_string(),
            times: *times,
        }
    }
}

/// Returns the requests of these MAC addresses that are in no journal, the oldest first.
pub(super) fn requests_of(admin: &Admin, macs: impl Iterator<Item = MacAddr>) -> Vec<RequestJson> {
    let visitors = admin.context.visitors.lock();
    let found = macs.filter_map(|mac| visitors.find(&mac.to_string()));
    found.flat_map(|visitor| &visitor.requests).map(RequestJson::from).collect()
}

/// Returns the last request for what is a machine's alone that came from another address, with that address. The machine has these MAC addresses.
pub(super) fn asked_from(admin: &Admin, macs: impl Iterator<Item = MacAddr>) -> Option<(IpAddr, SystemTime)> {
    let visitors = admin.context.visitors.lock();
    let found = macs.filter_map(|mac| visitors.find(&mac.to_string()));
    let from_elsewhere = found.flat_map(|visitor| &visitor.requests).filter_map(|asked| match asked.outcome {
        Outcome::NotItsAddress { from } => Some((from, asked.at)),
        _ => None,
    });
    from_elsewhere.max_by_key(|(_, at)| *at)
}

/// `GET /api/v1/visitors`: an array, the visitor that asked last comes first.
#[utoipa::path(get, path = "/api/v1/visitors", operation_id = "list_visitors", tag = "pxed", params(Pages), responses(
    (status = 200, description = "The visitors, of whom the one that asked last comes first", body = Vec<VisitorJson>, headers(
        ("X-Total-Count" = u64, description = "The number of visitors on all pages"),
    )),
    (status = 400, description = "A mistake of the query", body = Refusal),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    uri: Uri,
    pages: Result<Query<Pages>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(pages) = pages.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
    // Boot HTTP waits while the table is locked, so it is copied first.
    let visitors: Vec<Visitor> = admin.context.visitors.lock().iter().cloned().collect();
    let visitors: Vec<_> = visitors.iter().map(VisitorJson::from).collect();
    Ok(paging::page(&uri, pages, &visitors, |visitor| visitor.name.clone()))
}

/// `GET /api/v1/visitors/{name}`: by MAC address in any spelling, UUID or IP address.
#[utoipa::path(get, path = "/api/v1/visitors/{name}", operation_id = "get_visitor", tag = "pxed", params(("name" = String, Path, description = "MAC address, UUID or IP address")), responses(
    (status = 200, description = "The visitor", body = VisitorJson),
    (status = 404, description = "It has not asked", body = Refusal),
))]
pub(super) async fn one(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Response> {
    let visitor = admin.context.visitors.lock().find(&name).map(VisitorJson::from);
    visitor.map(|visitor| Json(visitor).into_response()).ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, format!("{name} has not asked boot HTTP since pxed started, or is forgotten"))
    })
}
