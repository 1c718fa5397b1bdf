//! The head of a response, as bytes.

use std::{fmt::Write as _, time::SystemTime};

use http::{HeaderMap, StatusCode, header};

use super::{head::Head, range::format_date};

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
