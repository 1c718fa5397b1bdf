//! The version of the running pxed, its kernel, and the options that it was started with.

use std::{collections::BTreeMap, env};

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::redaction::Redaction;

/// The beginning of the names of pxed's variables.
const PREFIX: &str = "PXED_";

/// The answer of `GET /api/v1/setup`.
#[derive(Debug, Serialize, ToSchema)]
struct SetupJson {
    version: &'static str,
    profile: &'static str,
    kernel: String,
    /// The command line, a word each.
    command_line: Vec<String>,
    /// The variables by which options were given.
    environment: BTreeMap<String, String>,
}

/// `GET /api/v1/setup`. Whoever may read the API may read it, so it has no secrets.
#[utoipa::path(get, path = "/api/v1/setup", operation_id = "get_setup", tag = "pxed", responses(
    (status = 200, description = "The version, the kernel, and the options that were given, without secrets", body = SetupJson),
))]
pub(super) async fn setup() -> Response {
    let redaction = Redaction::default();
    let words = env::args_os().map(|word| redaction.of(&word.to_string_lossy()));
    let variables = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let environment = variables.filter(|(name, _)| name.starts_with(PREFIX)).map(|(name, value)| {
        let line = redaction.of(&format!("{name}={}", value.to_string_lossy()));
        let value = line.split_once('=').map_or("", |(_, value)| value).trim().to_owned();
        (name, value)
    });
    Json(SetupJson {
        version: env!("CARGO_PKG_VERSION"),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        kernel: kernel(),
        command_line: words.collect(),
        environment: environment.collect(),
    })
    .into_response()
}

/// Returns the name and the release of the kernel.
pub(super) fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "Linux".to_owned(),
        |name| format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
    )
}
