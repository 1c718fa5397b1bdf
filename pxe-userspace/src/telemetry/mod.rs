//! Traces of boots, for a collector of OpenTelemetry: OTLP over HTTP, in JSON.
//!
//! A task of its own sends them in batches. A collector that is away, slow or out of order costs spans, which are counted, and nothing else:
//! nobody waits for it, and the channel in front of the task is bounded.

mod otlp;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use reqwest::{StatusCode, Url, header::CONTENT_TYPE};
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    mistakes,
    model::span::{Span, SpanSink},
};

/// The spans that may wait for a collector.
const CAPACITY: usize = 8_192;
/// The spans of one request.
const BATCH: usize = 512;
/// The time for which the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// The time that a collector has for a batch.
const ANSWER: Duration = Duration::from_secs(10);

/// The place that traces are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(Url);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}; such as http://127.0.0.1:4318"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("traces are sent by HTTP: http://HOST:4318 or https://HOST:4318".to_owned());
        }
        if !url.path().ends_with("/v1/traces") {
            let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Without user and password, which do not belong into a log.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // Neither can fail for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.fmt(f)
    }
}

/// The exporter of traces, before it runs.
#[derive(Debug)]
pub struct Exporter {
    endpoint: Endpoint,
    node: Arc<str>,
    client: reqwest::Client,
    receiver: mpsc::Receiver<Span>,
    exported: Counter,
    dropped: Counter,
}

impl Exporter {
    /// Creates the exporter of a node, and the sink that feeds it.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be made.
    pub fn new(endpoint: Endpoint, node: Arc<str>) -> Result<(Self, SpanSink), reqwest::Error> {
        // Another part of the process may have set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let agent = concat!("pxed/", env!("CARGO_PKG_VERSION"));
            reqwest::Client::builder().user_agent(agent).no_proxy().timeout(ANSWER).connect_timeout(ANSWER)
        };
        // A host without any authority can still reach a collector without TLS.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build())?;
        let dropped = Counter::default();
        let (sink, receiver) = SpanSink::channel(CAPACITY, dropped.clone());
        Ok((Self { endpoint, node, client, receiver, exported: Counter::default(), dropped }, sink))
    }

    /// Registers the metrics of the exporter.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("trace_spans_exported", "Spans of traces that the collector took", self.exported.clone());
        let help = "Spans of traces that were lost because the collector was away, slow or refused them";
        registry.register("trace_spans_dropped", help, self.dropped.clone());
    }

    /// Sends spans until every sink is gone.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut is_failing = false;
        // An idle exporter sleeps here.
        while let Some(first) = self.receiver.recv().await {
            batch.push(first);
            // An error means that the time is up.
            let _ = timeout(LINGER, async {
                while batch.len() < BATCH && self.receiver.recv_many(&mut batch, BATCH).await > 0 {}
            })
            .await;
            let spans = batch.len() as u64;
            let sent = mistakes::outlive_waiting("exporting traces", self.send(&batch)).await;
            match sent.unwrap_or_else(|| Err("pxed itself fails at it".to_owned())) {
                Ok(()) => {
                    self.exported.inc_by(spans);
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(endpoint = %self.endpoint, "traces are exported again");
                    }
                }
                Err(reason) => {
                    self.dropped.inc_by(spans);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            endpoint = %self.endpoint,
                            "traces are lost until the collector takes them again: {reason}; see --otlp-endpoint, and pxed_trace_spans_dropped_total"
                        );
                    }
                }
            }
            batch.clear();
        }
    }

    async fn send(&self, batch: &[Span]) -> Result<(), String> {
        let body = otlp::request(&self.node, batch).map_err(|error| error.to_string())?;
        let request = self.client.post(self.endpoint.0.clone()).header(CONTENT_TYPE, "application/json").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                Err("it has no /v1/traces (404): it must speak OTLP over HTTP, usually on port 4318".to_owned())
            }
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) if error.is_timeout() => Err(format!("it did not answer within {} s", ANSWER.as_secs())),
            Err(error) => Err(last_cause(&error)),
        }
    }
}

fn last_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
