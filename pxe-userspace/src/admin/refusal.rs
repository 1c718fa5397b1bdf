//! Error responses of the API.

use std::path::Path;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

/// Returns an error response with the body `{"error": "…"}`.
pub(super) fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
    }
    (status, Json(Refusal { error: error.into() })).into_response()
}

/// Returns the response of a door that is for reads, with the path of the socket that is not.
pub(super) fn reads_only(socket: Option<&Path>) -> Response {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        socket: Option<&'a Path>,
    }
    let error = "without a token, the admin API answers reads only on TCP: changes come by its Unix socket (--admin unix:PATH), or with the \
                 token of --admin-token";
    (StatusCode::FORBIDDEN, Json(Refusal { error, socket })).into_response()
}
