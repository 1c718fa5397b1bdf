//! The dashboard: a page, and a script that reads the API.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};

/// `GET /`.
pub(super) async fn page() -> Response {
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

/// `GET /dashboard.js`.
pub(super) async fn script() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, include_str!("dashboard.js")).into_response()
}
