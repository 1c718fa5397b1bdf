//! The routes of single machines, and the number of machines at each stage.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pxe_common::{MacAddr, mac::ParseMacError};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    context::{Admin, AdminContext, Decision},
    images::{self, FileJson},
    refusal::{Refusal, refuse},
    spec, strangers,
    visitors::{RequestJson, asked_from, requests_of},
};
use crate::{
    journal::{Journal, MachineRecord, among_nodes, diagnose, json::MachineJson, with_address_signs},
    model::{address_signs::AddressSigns, inventory::Source, policy::BootPolicy},
};

/// `GET /api/v1/machines/{mac}`.
#[utoipa::path(get, path = "/api/v1/machines/{mac}", operation_id = "get_machine", tag = "pxed", params(("mac" = String, Path, description = "One of its MAC addresses; other spellings are understood, too", pattern = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$")), responses(
    (status = 200, description = "The machine, with its diagnosis", body = Explained),
    (status = 400, description = "Not a MAC address", body = Refusal),
    (status = 404, description = "No machine of the spec", body = Refusal),
))]
pub(super) async fn one(State(admin): State<Admin>, Path(mac): Path<String>) -> Result<Response, Response> {
    let mac = mac.parse().map_err(|error| not_a_mac(&mac, error))?;
    admin.context.journal.machine(mac).map(|record| explained(&admin, &record, Vec::new())).ok_or_else(|| {
        match spec::error_of(&admin, mac) {
            Some(error) => {
                refuse(StatusCode::NOT_FOUND, format!("{mac} is left out because of an error in the spec: {error}"))
            }
            None => refuse(StatusCode::NOT_FOUND, strangers::unknown(&admin, mac)),
        }
    })
}

/// `GET /api/v1/stages`.
#[utoipa::path(get, path = "/api/v1/stages", operation_id = "count_stages", tag = "pxed", responses(
    (status = 200, description = "The number of machines at each stage", body = BTreeMap<String, u64>),
))]
pub(super) async fn stages(State(admin): State<Admin>) -> Response {
    let counts = admin.context.journal.stages().into_iter();
    let stages: serde_json::Map<_, _> = counts.map(|(stage, count)| (stage.name().to_owned(), count.into())).collect();
    Json(stages).into_response()
}

/// `POST /api/v1/machines/{mac}/hold`.
#[utoipa::path(post, path = "/api/v1/machines/{mac}/hold", operation_id = "hold_machine", tag = "pxed", params(("mac" = String, Path, description = "One of its MAC addresses; other spellings are understood, too", pattern = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$")), responses(
    (status = 200, description = "The machine, which is kept from booting over the network", body = Explained),
    (status = 400, description = "Not a MAC address", body = Refusal),
    (status = 404, description = "No machine of the spec", body = Refusal),
    (status = 500, description = "The decision is in force, but could not be saved", body = Refusal),
))]
pub(super) async fn hold(State(admin): State<Admin>, Path(mac): Path<String>) -> Result<Response, Response> {
    decide(admin, &mac, Decision::Hold).await
}

/// `POST /api/v1/machines/{mac}/release`.
#[utoipa::path(post, path = "/api/v1/machines/{mac}/release", operation_id = "release_machine", tag = "pxed", params(("mac" = String, Path, description = "One of its MAC addresses; other spellings are understood, too", pattern = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$")), responses(
    (status = 200, description = "The machine, which boots as the spec says", body = Explained),
    (status = 400, description = "Not a MAC address", body = Refusal),
    (status = 404, description = "No machine of the spec", body = Refusal),
    (status = 500, description = "The decision is in force, but could not be saved", body = Refusal),
))]
pub(super) async fn release(State(admin): State<Admin>, Path(mac): Path<String>) -> Result<Response, Response> {
    decide(admin, &mac, Decision::Release).await
}

async fn decide(admin: Admin, mac: &str, decision: Decision) -> Result<Response, Response> {
    let mac = mac.parse().map_err(|error| not_a_mac(mac, error))?;
    let journal = Arc::clone(&admin.context.journal);
    let decide = match decision {
        Decision::Hold => Journal::hold,
        Decision::Release => Journal::release,
    };
    // The decision waits for the disk.
    let decided = tokio::task::spawn_blocking(move || decide(&journal, mac)).await;
    let failed = |error: String| refuse(StatusCode::INTERNAL_SERVER_ERROR, error);
    let record = match decided {
        Ok(Ok(Some(record))) => record,
        Ok(Ok(None)) => return Err(unknown(mac)),
        // The API server remembers it as well.
        Ok(Err(error)) if admin.context.cluster.is_none() => {
            return Err(failed(format!("the decision is in force until pxed ends, but could not be saved: {error}")));
        }
        Ok(Err(_)) => admin.context.journal.machine(mac).ok_or_else(|| unknown(mac))?,
        Err(error) => return Err(failed(error.to_string())),
    };
    let Some(cluster) = &admin.context.cluster else {
        let machine = &record.machine;
        let is_held = decision == Decision::Release && machine.policy == BootPolicy::Hold;
        let place = machine.source.in_words();
        let note = format!(
            "it is still held by the spec: see pxed.dev/boot-policy in the annotations of it, its role and its cluster ({place})"
        );
        return Ok(explained(&admin, &record, Vec::from_iter(is_held.then_some(note))));
    };
    let written = cluster.carry(mac, decision).await;
    // The spec may have changed with it.
    let record = admin.context.journal.machine(mac).unwrap_or(record);
    Ok(explained(&admin, &record, written))
}

/// A machine with the requests that its journal does not have.
#[derive(Serialize, ToSchema)]
pub(super) struct Explained<'a> {
    #[serde(flatten)]
    machine: MachineJson<'a>,
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requests: Vec<RequestJson>,
    /// The files that it boots now, as far as they are known.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileJson<'a>>,
    /// The place in the spec that names it.
    source: SourceJson,
    /// The error for which it is served as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    spec_error: Option<String>,
    /// The writes of a decision into the API of a Kubernetes cluster, and the reason for which a released machine is still held.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<String>,
}

/// A place in the spec.
#[derive(Serialize, ToSchema)]
struct SourceJson {
    /// The file, or the object of the API.
    file: String,
    /// The line, counted from 1; absent in an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl From<&Source> for SourceJson {
    fn from(Source { file, line }: &Source) -> Self {
        Self { file: file.display().to_string(), line: Some(*line).filter(|line| *line > 0) }
    }
}

fn explained(admin: &Admin, record: &MachineRecord, written: Vec<String>) -> Response {
    let (images, now) = (admin.context.images.load(), SystemTime::now());
    let AdminContext { journal, neighbour_at, .. } = &admin.context;
    let machine = &record.machine;
    let signs = AddressSigns::of(machine, &journal.inventory(), neighbour_at, asked_from(admin, machine.macs()));
    let diagnosis = with_address_signs(diagnose(record, &images, now), record, &signs, now);
    let diagnosis = among_nodes(diagnosis, record, &admin.context.nodes.load(), now);
    let files = images::of_machine(&images, &record.machine, now);
    let requests = requests_of(admin, record.machine.macs());
    let spec_error = spec::error_of(admin, record.machine.mac);
    let machine = MachineJson::explained(record, &diagnosis, now);
    let source = SourceJson::from(&record.machine.source);
    Json(Explained { machine, requests, files, source, spec_error, written }).into_response()
}

fn not_a_mac(text: &str, error: ParseMacError) -> Response {
    refuse(StatusCode::BAD_REQUEST, format!("{text}: {error}"))
}

fn unknown(mac: MacAddr) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("{mac} is not a machine of the spec"))
}
