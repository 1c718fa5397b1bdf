//! Answers: a text as a plain value, and the head of a response as bytes.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::SystemTime};

use axum::{
    Extension,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use pxe_common::MacAddr;

use super::{head::Head, metrics::Route, range::format_date};
use crate::model::event::ArtifactKind;

/// An answer of one text.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) text: Cow<'static, str>,
    pub(super) route: Route,
    /// For an answer whose arrival is an event.
    pub(super) delivery: Option<Delivery>,
}

/// What is said of an answer when it has arrived.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) mac: MacAddr,
    pub(super) artifact: ArtifactKind,
    pub(super) path: Arc<str>,
}

impl Text {
    /// 200, plain text.
    pub(super) fn new(route: Route, text: impl Into<Cow<'static, str>>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status: StatusCode::OK, content_type, text: text.into(), route, delivery: None }
    }

    /// 404, in Matchbox's words.
    pub(super) fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::new(Route::Other, "404 page not found\n") }
    }
}

/// The route and the delivery come as extensions.
impl IntoResponse for Text {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        let mut response = (self.status, content_type, Extension(self.route), self.text).into_response();
        if let Some(delivery) = self.delivery {
            response.extensions_mut().insert(delivery);
        }
        response
    }
}

/// Few heads are longer, in bytes.
const USUAL_LENGTH: usize = 512;

/// A response head that is being written.
pub(super) struct AnswerHead(String);

impl AnswerHead {
    /// Status line and the headers that every answer has.
    pub(super) fn new(status: StatusCode, now: SystemTime) -> Self {
        let reason = status.canonical_reason().unwrap_or("Unknown");
        let date = format_date(now);
        let mut text = String::with_capacity(USUAL_LENGTH);
        let _ = write!(text, "HTTP/1.1 {} {reason}\r\nServer: pxed\r\nDate: {date}\r\n", status.as_u16());
        Self(text)
    }

    pub(super) fn header(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}: {value}\r\n");
    }

    /// Ends the head. `stay` is whether the connection goes on; HTTP/1.0 has to be told.
    pub(super) fn end(mut self, request: Option<&Head>, stay: bool) -> Vec<u8> {
        if !stay {
            self.header("Connection", "close");
        } else if request.is_some_and(|request| request.is_http_10) {
            self.header("Connection", "keep-alive");
        }
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }

    /// Headers of a handler; those that belong to the connection are ours to write.
    pub(super) fn headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let ours = [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING, header::DATE];
            if let (false, Ok(value)) = (ours.contains(name), value.to_str()) {
                self.header(name.as_str(), value);
            }
        }
    }
}
