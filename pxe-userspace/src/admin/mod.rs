//! The admin listener: API, metrics, health checks and dashboard. By default, none of it is on the boot network.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 as long as the process answers |
//! | `GET /readyz` | 200 while every interface and address of the spec is served; otherwise 503 with the reasons, as before the start is complete and while pxed ends |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /api/v1/machines` | all machines, as an array. `?stage=`, `?cluster=` and `?limit=` select some, `?events=` limits the events of each |
//! | `GET /api/v1/machines/{mac}` | one machine, with its diagnosis |
//! | `POST /api/v1/machines/{mac}/hold`, `…/release` | the machine after the decision; with a spec from Kubernetes, also what was written there |
//! | `GET /api/v1/stages` | the number of machines at each stage |
//! | `GET /api/v1/visitors` | clients that asked boot HTTP and that no cluster spec names, with their last requests and the outcomes |
//! | `GET /api/v1/visitors/{name}` | one of them, by MAC address, UUID or IP address |
//! | `GET /api/v1/images` | the files that the machines need: those that are there, are being downloaded, failed, are missing or refused |
//! | `GET /api/v1/nodes` | the nodes that share the fleet: their sites and addresses, and the number of machines that each answers first |
//! | `GET /api/v1/health` | what is not as it should be, and the file descriptors in use |
//! | `GET /api/v1/spec/errors` | the errors of the specs, each with the number of machines that it leaves out or keeps as before |
//! | `GET /api/v1/events` | boot events from now on, as server-sent events |
//! | `GET /` | the dashboard |
//!
//! There is no login: everybody who reaches the listener may use it, so it belongs on a loopback or management address. The
//! module `origin` keeps out web pages in an operator's browser.

use std::io;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use tokio::net::TcpListener;

mod context;
mod dashboard;
mod events;
mod health;
mod images;
mod listener;
mod machines;
mod monitoring;
mod nodes;
mod origin;
mod refusal;
mod spec;
mod visitors;

use context::Admin;
pub use context::{AdminContext, ClusterPolicy, Decision};
pub use health::{Findings, Health};
use listener::Limited;
use refusal::refuse;

/// Serves the admin API on at most `connections` connections at the same time until `shutdown` is ready. Does not wait for open connections, since a follower of events would never
/// end.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    connections: usize,
    context: AdminContext,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::select! {
        result = axum::serve(Limited::new(listener, connections), router(context)) => result,
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
        .route("/api/v1/visitors", get(visitors::list))
        .route("/api/v1/visitors/{name}", get(visitors::one))
        .route("/api/v1/images", get(images::list))
        .route("/api/v1/nodes", get(nodes::list))
        .route("/api/v1/health", get(monitoring::health))
        .route("/api/v1/spec/errors", get(spec::errors))
        .route("/api/v1/events", get(events::follow))
        .route("/", get(dashboard::page))
        .route("/dashboard.js", get(dashboard::script))
        .layer(middleware::from_fn(origin::guard));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(monitoring::ready))
        .route("/metrics", get(monitoring::metrics))
        .merge(guarded)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such page; the API is below /api/v1/"))
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this page does not have this method")
        })
        .with_state(Admin::new(context))
}

#[cfg(test)]
mod measure;
#[cfg(test)]
pub(crate) mod tests;
