//! Error responses of the API.

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
