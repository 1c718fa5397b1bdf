//! Readiness for probes, and metrics for Prometheus.

use std::sync::atomic::Ordering;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{context::Admin, refusal::refuse};

/// `GET /readyz`.
pub(super) async fn ready(State(admin): State<Admin>) -> Response {
    if admin.context.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

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
