//! Error responses of the API.

use std::path::Path;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of an error response.
#[derive(Serialize, ToSchema)]
pub(super) struct Refusal<'a> {
    /// The fault, and the remedy.
    error: &'a str,
    /// The Unix socket, for a change that this way in does not take.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<&'a Path>,
}

/// Returns an error response with the body `{"error": "…"}`.
pub(super) fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    let error = &error.into();
    (status, Json(Refusal { error, socket: None })).into_response()
}

/// Returns the response of a door that is for reads, with the path of the socket that is not.
pub(super) fn reads_only(socket: Option<&Path>) -> Response {
    let error = "without a token, the admin API answers reads only on TCP: changes come by its Unix socket (--admin unix:PATH), or with the \
                 token of --admin-token";
    (StatusCode::FORBIDDEN, Json(Refusal { error, socket })).into_response()
}
