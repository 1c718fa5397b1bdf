//! One request with the state needed to answer it.

use std::{
    net::{IpAddr, SocketAddrV4},
    time::SystemTime,
};

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    answer,
    context::Context,
    delivery::Deliveries,
    head::Head,
    metrics::Route,
    query::Query,
    stream::{Broken, Stream},
    visits::Finding,
};
use crate::{cluster_spec::matchbox::Labels, model::visitors::Visit};

/// One request with the state needed to answer it.
pub(super) struct Exchange<'a> {
    pub(super) context: &'a Context,
    pub(super) deliveries: &'a mut Deliveries,
    pub(super) peer: IpAddr,
    /// The address and port of ours that it was sent to.
    pub(super) server: SocketAddrV4,
    pub(super) head: &'a Head,
    /// Set if the connection stays open after the answer.
    pub(super) stay: bool,
    /// The time at which the request had arrived.
    pub(super) began: Instant,
}

impl Exchange<'_> {
    /// Returns `true` for HEAD, which is not a step of a boot: firmware uses it to ask for a length.
    pub(super) fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// Returns `true` for GET and HEAD.
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

    /// Records a request that belongs to no machine's journal, with the status and the outcome of its answer.
    pub(super) fn visited(&self, query: &Query, status: StatusCode, finding: Finding) {
        let Finding { outcome, matched } = finding;
        let labels = Labels::new(&query.pairs);
        let visit = Visit {
            at: SystemTime::now(),
            address: self.peer,
            mac: labels.get("mac").parse().ok(),
            uuid: Some(labels.get("uuid").to_owned()),
            request: self.head.target(),
            status: status.as_u16(),
            outcome,
            matched,
        };
        self.context.visits.record(&self.context.metrics, visit);
    }
}
