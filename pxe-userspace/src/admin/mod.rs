//! The admin listener: API, metrics, health checks and dashboard. By default, none of it is on the boot network.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 as long as the process answers |
//! | `GET /readyz` | 200 while every interface and address of the spec is served; otherwise 503 with the reasons, as before the start is complete and while pxed ends |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /api/v1/machines` | the machines, as an array. `?stage=`, `?cluster=`, `?role=` and `?q=` select some, `?sort=` orders them, `?limit=` and `?cursor=` make pages of them, `?events=` shows the last events of each |
//! | `GET /api/v1/machines/{mac}` | one machine, with its diagnosis |
//! | `POST /api/v1/machines/{mac}/hold`, `…/release` | the machine after the decision; with a spec from Kubernetes, also what was written there |
//! | `GET /api/v1/stages` | the number of machines at each stage |
//! | `GET /api/v1/visitors` | clients that asked boot HTTP and that no cluster spec names, with their last requests and the outcomes |
//! | `GET /api/v1/visitors/{name}` | one of them, by MAC address, UUID or IP address |
//! | `GET /api/v1/images` | the files that the machines need: those that are there, are being downloaded, failed, are missing or refused |
//! | `GET /api/v1/nodes` | the nodes that share the fleet: their sites and addresses, and the number of machines that each answers first |
//! | `GET /api/v1/health` | what is not as it should be, and the file descriptors in use |
//! | `GET /api/v1/setup` | the version, the kernel, and the options that were given, without secrets |
//! | `GET /api/v1/spec/errors` | the errors of the specs, each with the number of machines that it leaves out or keeps as before |
//! | `POST /api/v1/captures?machine=…` | the frames of one machine from now on, as pcapng, until the client leaves; `?seconds=` and `?packets=` end it before. It has secrets, so it is no read |
//! | `GET /api/v1/events` | boot events from now on, as server-sent events |
//! | `GET /api/v1/openapi.json` | the description of this API |
//! | `GET /` | the dashboard; what is below `/dashboard/` belongs to it and may change |
//!
//! A list has `X-Total-Count`, and `Link` to its next page if it has `?limit=`. Answers have an `ETag`, and one that the client has already is 304.
//!
//! Who may do what is decided by the way in: see the module `access`. The module `origin` keeps out web pages in an operator's browser.

use std::{io, sync::Arc};

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use tokio::net::TcpListener;

mod access;
mod captures;
mod config;
mod context;
mod dashboard;
mod doors;
mod etag;
mod events;
mod exposition;
mod health;
mod images;
mod listener;
mod machine_list;
mod machines;
mod monitoring;
mod nodes;
mod openapi;
mod origin;
mod paging;
mod refusal;
mod selection;
mod setup;
mod socket;
mod spec;
mod strangers;
pub mod token;
mod visitors;

use access::Door;
pub use config::AdminConfig;
use context::Admin;
pub use context::{AdminContext, CaptureSource, ClusterPolicy, Decision};
pub use doors::Doors;
pub use health::{Findings, Health};
use listener::{Accepts, Limited};
use refusal::refuse;
pub use socket::{AdminSocket, SOCKET, SOCKET_NAME, SocketError};
use token::Token;

/// The fewest connections of one door.
const FEWEST: usize = 4;

/// Serves the admin API on at most `connections` connections at the same time until `shutdown` is ready. Does not wait for open connections, since a follower of events would never
/// end.
///
/// # Errors
///
/// If a listener fails.
pub async fn serve(
    doors: Doors,
    connections: usize,
    context: AdminContext,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Doors { socket, tcp, probes, token } = doors;
    let path = socket.as_ref().map(|socket| Arc::new(socket.path().to_owned()));
    let admin = Admin::new(context);
    // Each has connections of its own, so that those who reach one cannot keep out those who reach another.
    let doors = usize::from(socket.is_some()) + usize::from(tcp.is_some()) + usize::from(probes.is_some());
    let limit = (connections / doors.max(1)).max(FEWEST);
    let is_local = |tcp: &TcpListener| tcp.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let of_tcp = tcp.as_ref().map(|tcp| match (is_local(tcp), token) {
        (true, token) => Door::Loopback { token, socket: path },
        (false, Some(token)) => Door::Public { token },
        (false, None) => Door::Probes,
    });
    tokio::select! {
        result = serve_socket(socket, limit, &admin) => result,
        result = serve_at(tcp, limit, of_tcp, &admin) => result,
        result = serve_at(probes, limit, Some(Door::Probes), &admin) => result,
        () = shutdown => Ok(()),
    }
}

/// Serves the Unix socket, and makes it again whenever somebody has deleted it: without it, commands take pxed to be down.
async fn serve_socket(socket: Option<AdminSocket>, limit: usize, admin: &Admin) -> io::Result<()> {
    let Some(mut socket) = socket else { return std::future::pending().await };
    let health = &admin.context.health;
    loop {
        let path = socket.path().to_owned();
        let (listener, file) = socket.into_parts();
        tokio::select! {
            result = serve_at(listener, limit, Some(Door::Socket), admin) => return result,
            () = file.until_gone() => {}
        }
        socket = AdminSocket::bind_again(&path, |trouble| {
            tracing::error!("{trouble}");
            health.set_socket(Some(trouble));
        })
        .await;
        tracing::warn!("{}: somebody deleted the socket of the admin API; it is there again", path.display());
        health.set_socket(None);
    }
}

/// Serves one door; for ever, if it is closed.
async fn serve_at<L: Accepts>(listener: Option<L>, limit: usize, door: Option<Door>, admin: &Admin) -> io::Result<()> {
    let Some((listener, door)) = listener.zip(door) else { return std::future::pending().await };
    axum::serve(Limited::new(listener, limit), routes(admin.clone(), door)).await
}

/// Returns the routes of the admin API as a loopback address has them, with this token.
pub fn router(context: AdminContext, token: Option<Token>) -> Router {
    routes(Admin::new(context), Door::Loopback { token, socket: None })
}

/// Returns the routes of the admin API behind a door.
fn routes(admin: Admin, door: Door) -> Router {
    let guarded = Router::new()
        .route("/api/v1/machines", get(machine_list::list))
        .route("/api/v1/machines/{mac}", get(machines::one))
        .route("/api/v1/machines/{mac}/hold", post(machines::hold))
        .route("/api/v1/machines/{mac}/release", post(machines::release))
        .route("/api/v1/stages", get(machines::stages))
        .route("/api/v1/captures", post(captures::start))
        .route("/api/v1/visitors", get(visitors::list))
        .route("/api/v1/visitors/{name}", get(visitors::one))
        .route("/api/v1/strangers", get(strangers::list))
        .route("/api/v1/strangers/{mac}", get(strangers::one))
        .route("/api/v1/images", get(images::list))
        .route("/api/v1/nodes", get(nodes::list))
        .route("/api/v1/health", get(monitoring::health))
        .route("/api/v1/setup", get(setup::setup))
        .route("/api/v1/spec/errors", get(spec::errors))
        .route("/api/v1/events", get(events::follow))
        .route("/api/v1/openapi.json", get(openapi::document))
        .merge(dashboard::routes())
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such page; the API is below /api/v1/"))
        .layer(middleware::from_fn(etag::tagged))
        .layer(middleware::from_fn_with_state(door, access::guard));
    Router::new()
        .route("/healthz", get(monitoring::alive))
        .route("/readyz", get(monitoring::ready))
        .route("/metrics", get(monitoring::metrics))
        .merge(guarded)
        // Outside of the guard, which says who may use a method and not which there are.
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this page does not have this method")
        })
        .with_state(admin)
}

#[cfg(test)]
mod measure;
#[cfg(test)]
pub(crate) mod tests;
