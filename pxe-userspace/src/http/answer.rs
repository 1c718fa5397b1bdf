//! Answers: a text as a value, and the head of a response as bytes.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use axum::{
    Extension,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, header};

use super::{delivery::Delivery, head::Head, metrics::Route, range::format_date, visits::Finding};

/// An answer of one text.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) text: Cow<'static, str>,
    pub(super) route: Route,
    /// Set if the arrival of the answer is an event.
    pub(super) delivery: Option<Delivery>,
    /// The time after which the client may ask again, with status 503.
    pub(super) retry_after: Option<Duration>,
    /// Set if the request belongs to no machine's journal.
    pub(super) finding: Option<Finding>,
}

impl Text {
    /// Returns plain text with status 200.
    pub(super) fn new(route: Route, text: impl Into<Cow<'static, str>>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self {
            status: StatusCode::OK,
            content_type,
            text: text.into(),
            route,
            delivery: None,
            retry_after: None,
            finding: None,
        }
    }

    /// Returns status 404, with Matchbox's text.
    pub(super) fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::new(Route::Other, "404 page not found\n") }
    }

    /// Adds what is recorded of a request that belongs to no machine's journal.
    pub(super) fn found(self, finding: impl Into<Finding>) -> Self {
        Self { finding: Some(finding.into()), ..self }
    }
}

/// Passes the route, the delivery and the finding on as extensions.
impl IntoResponse for Text {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        let mut response = (self.status, content_type, Extension(self.route), self.text).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if let Some(delivery) = self.delivery {
            response.extensions_mut().insert(delivery);
        }
        if let Some(finding) = self.finding {
            response.extensions_mut().insert(finding);
        }
        response
    }
}

/// The time after which a client may ask again for what is refused temporarily.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The initial capacity of a head, in bytes; few are longer.
const USUAL_LENGTH: usize = 512;

/// A response head that is being written.
pub(super) struct AnswerHead(String);

impl AnswerHead {
    /// Begins a head with the status line and the headers that every answer has.
    pub(super) fn new(status: StatusCode, now: SystemTime) -> Self {
        let reason = status.canonical_reason().unwrap_or("Unknown");
        let date = format_date(now);
        let mut text = String::with_capacity(USUAL_LENGTH);
        let _ = write!(text, "HTTP/1.1 {} {reason}\r\nServer: pxed\r\nDate: {date}\r\n", status.as_u16());
        Self(text)
    }

    /// Adds a header.
    pub(super) fn header(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}: {value}\r\n");
    }

    /// Adds the headers of a handler, except those that belong to the connection.
    pub(super) fn headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let ours = [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING, header::DATE];
            if let (false, Ok(value)) = (ours.contains(name), value.to_str()) {
                self.header(name.as_str(), value);
            }
        }
    }

    /// Ends the head. `stay` says that the connection stays open, which an HTTP/1.0 client must be told.
    pub(super) fn end(mut self, request: Option<&Head>, stay: bool) -> Vec<u8> {
        if !stay {
            self.header("Connection", "close");
        } else if request.is_some_and(|request| request.is_http_10) {
            self.header("Connection", "keep-alive");
        }
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }
}

/// Returns a complete answer with one line of text, or its head alone for HEAD. `request` is `None` if its head could not be
/// read.
pub(super) fn line(request: Option<&Head>, status: StatusCode, text: &str, stay: bool) -> Vec<u8> {
    let mut head = AnswerHead::new(status, SystemTime::now());
    head.header("Content-Type", "text/plain; charset=utf-8");
    head.header("Content-Length", text.len() + 1);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        head.header("Allow", "GET, HEAD");
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        head.header("Retry-After", RETRY_AFTER_SECONDS);
    }
    let mut bytes = head.end(request, stay);
    if request.is_none_or(|request| request.method != Method::HEAD) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
