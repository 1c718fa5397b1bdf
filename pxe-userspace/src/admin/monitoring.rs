//! Health for probes and people, and metrics for Prometheus.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    context::Admin,
    exposition::{self, Format},
    health::Findings,
    refusal::refuse,
    spec::{self, SpecHealth},
};
use crate::{
    descriptors, logging,
    model::{
        api_state::ApiState,
        confinement::{Confinement, Measure},
    },
};

/// `GET /metrics`. Reading them waits for a look at an interface that hangs, which must not keep the threads that answer everybody.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "pxed", responses(
    (status = 200, description = "The metrics, as `Accept` asks for them", content(
        (String = "text/plain"),
        (String = "application/openmetrics-text"),
    )),
))]
pub(super) async fn metrics(State(admin): State<Admin>, request: HeaderMap) -> Response {
    let format = Format::wanted(&request);
    let encode = move || exposition::encode(&admin.context.registry, format);
    let failed =
        |error: String| refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics could not be written: {error}"));
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(text)) => {
            ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response()
        }
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// The answer of `GET /api/v1/health`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthJson<'a> {
    ready: bool,
    #[schema(value_type = Vec<String>)]
    problems: &'a [String],
    #[schema(value_type = Vec<String>)]
    warnings: &'a [String],
    /// The way in which the machines' secrets are guarded, as a sentence.
    secrets: &'a str,
    #[schema(value_type = Vec<String>)]
    datapath: &'a [String],
    file_descriptors: FileDescriptors,
    log_lines_dropped: u64,
    /// The privileges that this process has given up.
    #[schema(value_type = Vec<Measure>)]
    confinement: &'a Confinement,
    /// The errors of the specs.
    spec: SpecHealth,
    /// The connection to the API server; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ApiState>)]
    kubernetes: Option<Arc<ApiState>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileDescriptors {
    /// `null` if none was free to count them with.
    open: Option<u64>,
    limit: u64,
}

/// `GET /api/v1/health`.
#[utoipa::path(get, path = "/api/v1/health", operation_id = "get_health", tag = "pxed", responses(
    (status = 200, description = "What is not as it should be", body = HealthJson),
))]
pub(super) async fn health(State(admin): State<Admin>) -> Response {
    let findings = admin.context.health.findings();
    let Findings { is_serving: _, problems, warnings, datapath } = &*findings;
    // Asked now, since a look at what serves may be what fails.
    let now = (admin.context.mistakes)().into_iter().chain(admin.context.health.socket());
    let warnings: Vec<_> = warnings.iter().cloned().chain(now).collect();
    Json(HealthJson {
        ready: findings.is_ready(),
        problems,
        warnings: &warnings,
        secrets: &admin.context.health.secrets(),
        datapath,
        file_descriptors: FileDescriptors { open: descriptors::in_use(), limit: descriptors::limit() },
        log_lines_dropped: logging::dropped().get(),
        confinement: &admin.context.confinement,
        spec: spec::health(&admin.context.faults),
        kubernetes: admin.context.api.as_ref().map(|api| api.load_full()),
    })
    .into_response()
}

/// `GET /healthz`.
#[utoipa::path(get, path = "/healthz", operation_id = "get_liveness", tag = "pxed", responses(
    (status = 200, description = "The process answers", body = String, content_type = "text/plain"),
))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 503 names what is not served, line by line.
pub(super) async fn ready(State(admin): State<Admin>) -> Response {
    let findings = admin.context.health.findings();
    if findings.is_ready() {
        // The rest of the spec is served, so a probe must not restart pxed for it.
        let spec = spec::health(&admin.context.faults).text;
        let told = spec.into_iter().chain((admin.context.mistakes)());
        return format!("ready\n{}", told.map(|text| format!("{text}\n")).collect::<String>()).into_response();
    }
    let reasons: String = findings.problems.iter().map(|problem| format!("{problem}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reasons}")).into_response()
}
