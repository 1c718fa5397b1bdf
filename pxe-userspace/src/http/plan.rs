//! The answer to a request for a file: its status, its head, the part that is sent, and its events.

use std::time::SystemTime;

use http::StatusCode;

use super::{
    answer::AnswerHead,
    coverage::FileState,
    delivery::{Content, Delivery},
    exchange::Exchange,
    range::{self, Selection, Validators},
};

/// The answer's status and the part of the file to send.
pub(super) struct Plan {
    selection: Selection,
    pub(super) status: StatusCode,
    length: u64,
    pub(super) first: u64,
    /// The position after the last byte.
    pub(super) end: u64,
}

impl Plan {
    /// Plans the answer to a request for a file of this length and state.
    pub(super) fn new(exchange: &Exchange<'_>, length: u64, validators: &Validators) -> Self {
        let request = exchange.head;
        let selection = range::select(&request.method, &request.headers, length, validators);
        let (status, first, end) = match selection {
            Selection::Whole => (StatusCode::OK, 0, length),
            Selection::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
            Selection::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0, 0),
            Selection::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        Self { selection, status, length, first, end }
    }

    /// Returns `true` if no byte of the file is sent.
    pub(super) fn has_no_body(&self, exchange: &Exchange<'_>) -> bool {
        exchange.is_head() || self.first == self.end
    }

    /// Returns the head of the answer without its end.
    pub(super) fn head(&self, content_type: &str, validators: &Validators) -> AnswerHead {
        let Self { selection, status, length, first, end } = *self;
        let mut head = AnswerHead::new(status, SystemTime::now());
        head.header("Accept-Ranges", "bytes");
        head.header("ETag", &validators.etag);
        if let Some(modified) = validators.modified {
            head.header("Last-Modified", range::format_date(modified));
        }
        match selection {
            Selection::Part { .. } => head.header("Content-Range", format_args!("bytes {first}-{}/{length}", end - 1)),
            Selection::Unsatisfiable => head.header("Content-Range", format_args!("bytes */{length}")),
            Selection::Whole | Selection::NotModified | Selection::PreconditionFailed => {}
        }
        // 304 has no content, so it has no length either (RFC 9110 §15.4.5).
        if selection != Selection::NotModified {
            head.header("Content-Type", content_type);
            head.header("Content-Length", end - first);
        }
        head
    }

    /// Announces the request and tracks the answer, whose body begins at this position of the stream.
    pub(super) fn record(&self, delivery: Delivery, file: FileState, exchange: &mut Exchange<'_>, position: u64) {
        let events = &exchange.context.events;
        delivery.requested(events);
        match self.selection {
            Selection::Whole | Selection::Part { .. } => {
                let content = Content::File(file, self.first..self.end);
                exchange.deliveries.depart(delivery, content, exchange.began, position);
            }
            Selection::PreconditionFailed => delivery.refused(events, "the file has changed since"),
            Selection::Unsatisfiable => delivery.refused(events, "the range begins after the end of the file"),
            // The machine already has the file, so nothing is in flight.
            Selection::NotModified => {}
        }
    }
}
