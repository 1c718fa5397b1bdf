//! Health for probes and people, and metrics for Prometheus.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use serde::Serialize;

use super::{context::Admin, health::Findings, refusal::refuse};
use crate::{
    descriptors, logging,
    model::{api_state::ApiState, confinement::Confinement},
};

/// `GET /metrics`. Reading them waits for a look at an interface that hangs, which must not keep the threads that answer everybody.
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    let encode = move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &admin.context.registry).map(|()| text)
    };
    let failed =
        |error: String| refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics could not be written: {error}"));
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(text)) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// The answer of `GET /api/v1/health`.
#[derive(Debug, Serialize)]
struct HealthJson<'a> {
    ready: bool,
    problems: &'a [String],
    warnings: &'a [String],
    /// The way in which the machines' secrets are guarded, as a sentence.
    secrets: &'a str,
    datapath: &'a [String],
    file_descriptors: FileDescriptors,
    log_lines_dropped: u64,
    /// The privileges that this process has given up.
    confinement: &'a Confinement,
    /// The connection to the API server; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<Arc<ApiState>>,
}

#[derive(Debug, Serialize)]
struct FileDescriptors {
    /// `null` if none was free to count them with.
    open: Option<u64>,
    limit: u64,
}

/// `GET /api/v1/health`.
pub(super) async fn health(State(admin): State<Admin>) -> Response {
    let findings = admin.context.health.findings();
    let Findings { is_serving: _, problems, warnings, datapath } = &*findings;
    Json(HealthJson {
        ready: findings.is_ready(),
        problems,
        warnings,
        secrets: &admin.context.health.secrets(),
        datapath,
        file_descriptors: FileDescriptors { open: descriptors::in_use(), limit: descriptors::limit() },
        log_lines_dropped: logging::dropped().get(),
        confinement: &admin.context.confinement,
        kubernetes: admin.context.api.as_ref().map(|api| api.load_full()),
    })
    .into_response()
}

/// `GET /readyz`: 503 names what is not served, line by line.
pub(super) async fn ready(State(admin): State<Admin>) -> Response {
    let findings = admin.context.health.findings();
    if findings.is_ready() {
        return "ready\n".into_response();
    }
    let reasons: String = findings.problems.iter().map(|problem| format!("{problem}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reasons}")).into_response()
}
