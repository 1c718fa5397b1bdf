//! One request and what answering it needs.

use std::net::IpAddr;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    answer,
    context::Context,
    delivery::Deliveries,
    head::Head,
    metrics::Route,
    stream::{Broken, Stream},
};

/// One request and what answering it needs.
pub(super) struct Exchange<'a> {
    pub(super) context: &'a Context,
    pub(super) deliveries: &'a mut Deliveries,
    pub(super) peer: IpAddr,
    pub(super) head: &'a Head,
    /// Whether the connection goes on after the answer.
    pub(super) stay: bool,
    /// When the request had come.
    pub(super) began: Instant,
}

impl Exchange<'_> {
    /// Returns `true` for HEAD, which is about an answer and not a step of a boot: firmware asks so for a length.
    pub(super) fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// Returns `true` for the methods that read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.head.method, Method::GET | Method::HEAD)
    }

    /// Answers with one line of text.
    pub(super) async fn answer_line(
        &self,
        stream: &mut Stream,
        route: Route,
        status: StatusCode,
        text: &str,
    ) -> Result<(), Broken> {
        self.context.metrics.answered(route, status.as_u16());
        stream.write(&answer::line(Some(self.head), status, text, self.stay)).await
    }
}
