//! The admin listener: API, metrics, health, dashboard. Nothing of it is on the boot network.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 as long as the process answers |
//! | `GET /readyz` | 200 when machines are answered, 503 before that and while it ends |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /api/v1/machines` | every machine, as an array; `?stage=` `?cluster=` `?limit=` pick some, `?events=` says how many events of each |
//! | `GET /api/v1/machines/{mac}` | one machine, with its diagnosis |
//! | `POST /api/v1/machines/{mac}/hold`, `…/release` | the machine after it |
//! | `GET /api/v1/stages` | how many machines are at each stage |
//! | `GET /api/v1/events` | boot events from now on, as server-sent events |
//! | `GET /` | the dashboard |
//!
//! There is no login: whoever reaches the listener may use it, so it belongs on a loopback or management
//! address. What a web page in an operator's browser may do is another matter: see [`origin`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::journal::Journal;

mod events;
mod machines;
mod origin;

/// Followers of the event stream at once.
const MAX_FOLLOWERS: usize = 64;

/// What the admin listener shows.
#[derive(Clone, Debug)]
pub struct AdminContext {
    /// The machines.
    pub journal: Arc<Journal>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Whether machines are answered.
    pub ready: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Admin {
    context: AdminContext,
    followers: Arc<Semaphore>,
}

/// Serves the admin API until `shutdown` is ready. Open connections are not waited for: a follower of
/// events would never end.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener, context: AdminContext, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    tokio::select! {
        result = axum::serve(listener, router(context)) => result,
        () = shutdown => Ok(()),
    }
}

/// Returns the routes of the admin API.
pub fn router(context: AdminContext) -> Router {
    let guarded = Router::new()
        .route("/api/v1/machines", get(machines::list))
        .route("/api/v1/machines/{mac}", get(machines::one))
        .route("/api/v1/machines/{mac}/hold", post(machines::hold))
        .route("/api/v1/machines/{mac}/release", post(machines::release))
        .route("/api/v1/stages", get(machines::stages))
        .route("/api/v1/events", get(events::follow))
        .route("/", get(dashboard))
        .route("/dashboard.js", get(dashboard_script))
        .layer(middleware::from_fn(origin::guard));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "no such page; the API is below /api/v1/"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .with_state(Admin { context, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) })
}

/// An error as the API gives it: `{"error": "…"}`.
fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
    }
    (status, Json(Refusal { error: error.into() })).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.context.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.context.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics could not be written: {error}")),
    }
}

async fn dashboard() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("dashboard.html")).into_response()
}

async fn dashboard_script() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, include_str!("dashboard.js")).into_response()
}

#[cfg(test)]
mod measure;
#[cfg(test)]
pub(crate) mod tests;
