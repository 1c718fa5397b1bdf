//! The HTTP client of the admin listener.

use std::{io::BufReader, time::Duration};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use ureq::{Agent, Body, BodyReader, http::Response};

use crate::cli::admin_address::AdminAddress;

/// The largest answer in bytes. A fleet of 100,000 machines with all its events stays below it.
const MAX_ANSWER_BYTES: u64 = 4 << 30;

/// An answer of the API that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct Refused {
    status: u16,
    error: String,
}

impl Refused {
    pub(super) fn is_not_found(&self) -> bool {
        self.status == 404
    }
}

/// A client of one admin listener.
#[derive(Debug)]
pub(super) struct AdminClient {
    agent: Agent,
    base: String,
}

impl AdminClient {
    /// Creates a client of the listener at this address.
    pub(super) fn new(admin: &AdminAddress) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            // A web proxy does not lead to this host.
            .proxy(None)
            .build();
        Self { agent: config.into(), base: admin.to_url() }
    }

    /// Returns the body of the answer to a GET.
    pub(super) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<String> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let response = self.agent.get(format!("{}{path}", self.base)).query_pairs(pairs).call();
        self.text(response)
    }

    /// Returns the body of the answer to a POST without content. Its type distinguishes it from the form of a web page.
    pub(super) fn post(&self, path: &str) -> anyhow::Result<String> {
        let request = self.agent.post(format!("{}{path}", self.base));
        self.text(request.header("content-type", "application/json").send_empty())
    }

    /// Returns the body of the answer to a GET, to be read as it arrives.
    pub(super) fn stream(&self, path: &str) -> anyhow::Result<BufReader<BodyReader<'static>>> {
        let response = self.answered(self.agent.get(format!("{}{path}", self.base)).call())?;
        Ok(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn text(&self, response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<String> {
        let mut response = self.answered(response)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        body.read_to_string().with_context(|| format!("{} ended its answer too early", self.base))
    }

    fn answered(&self, response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let mut response = response.with_context(|| {
            format!(
                "no pxed answers at {}: is `pxed run` running on this host? Elsewhere, name its admin listener with \
                 --admin, PXED_ADMIN, or the --config file of that pxed",
                self.base
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        match response.body_mut().read_json::<Refusal>() {
            Ok(Refusal { error }) => Err(Refused { status: response.status().as_u16(), error }.into()),
            Err(_) => bail!("{} answers with status {}: is it pxed's admin listener?", self.base, response.status()),
        }
    }
}
