//! The HTTP client of the admin listener.

use std::{
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;
use ureq::{
    Agent, Body, BodyReader, RequestBuilder,
    http::{Response, StatusCode},
};

use super::unix;
use crate::{
    admin::token::{self, TokenError},
    cli::{
        admin_address::AdminAddress,
        exit::{Ended, Exit},
        shown::Shown,
    },
};

/// The largest answer in bytes. A fleet of 100,000 machines with all its events stays below it.
const MAX_ANSWER_BYTES: u64 = 4 << 30;
/// The time that a whole answer may take, unless it is a stream.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer of the API that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(in crate::cli) struct Refused {
    status: u16,
    error: Shown,
    /// The socket that takes what a listener for reads refuses.
    socket: Option<PathBuf>,
}

impl Refused {
    pub(in crate::cli) fn is_not_found(&self) -> bool {
        self.status == 404
    }
}

/// A client of one admin listener.
#[derive(Debug)]
pub(in crate::cli) struct AdminClient {
    agent: Agent,
    base: String,
    /// The place of the listener, for messages.
    place: String,
    token: Option<Bearer>,
    /// The time that a whole answer may take.
    patience: Duration,
}

/// The token of a client. One that cannot be read is no fault as long as nobody wants it.
#[derive(Debug)]
pub(super) struct Bearer(Result<String, TokenError>);

impl Bearer {
    /// Reads the token of this file.
    pub(super) fn of(file: &Path) -> Self {
        Self(token::read(file))
    }
}

impl AdminClient {
    /// Creates a client of the listener at this address.
    pub(super) fn new(admin: &AdminAddress, token: Option<Bearer>) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            // A web proxy does not lead to this host.
            .proxy(None)
            .build();
        let base = admin.to_url();
        match admin.socket() {
            // Its permissions are what counts.
            Some(path) => {
                let agent = unix::agent(config, path.to_owned());
                Self { agent, base, place: admin.to_string(), token: None, patience: PATIENCE }
            }
            None => Self { agent: config.into(), place: base.clone(), base, token, patience: PATIENCE },
        }
    }

    /// Returns the client, with another time that a whole answer may take.
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns the place of the listener, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Returns the body of the answer to a GET.
    pub(in crate::cli) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<String> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let request = self.bearing(self.agent.get(format!("{}{path}", self.base))).query_pairs(pairs);
        let response = request.config().timeout_global(Some(self.patience)).build().call();
        self.text(response)
    }

    /// Returns the body of the answer to a GET with its tag, unless it has the tag already.
    pub(super) fn get_unless(
        &self,
        path: &str,
        query: &[(&str, String)],
        tag: Option<&str>,
    ) -> anyhow::Result<Option<(String, Option<String>)>> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let mut request = self.bearing(self.agent.get(format!("{}{path}", self.base))).query_pairs(pairs);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let response = request.config().timeout_global(Some(self.patience)).build().call();
        if tag.is_some() && response.as_ref().is_ok_and(|response| response.status() == StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        let tag_of = |response: &Response<Body>| Some(response.headers().get("etag")?.to_str().ok()?.to_owned());
        let tag = response.as_ref().ok().and_then(tag_of);
        Ok(Some((self.text(response)?, tag)))
    }

    /// Returns the body of the answer to a POST without content. Its type distinguishes it from the form of a web page. A listener that is for
    /// reads names the socket that is not.
    pub(super) fn post(&self, path: &str) -> anyhow::Result<String> {
        let request = self.bearing(self.agent.post(format!("{}{path}", self.base)));
        let request = request.header("content-type", "application/json");
        let request = request.config().timeout_global(Some(self.patience)).build();
        let refused = match self.text(request.send_empty()) {
            Err(error) => error,
            text => return text,
        };
        match refused.downcast_ref::<Refused>().and_then(|refused| refused.socket.clone()) {
            Some(socket) => Self::new(&AdminAddress::of_socket(socket), None).post(path),
            None => Err(refused),
        }
    }

    /// Starts something by a POST without content, and returns what it writes, to be read as it arrives. A listener that is for reads names
    /// the socket that is not.
    pub(in crate::cli) fn start(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<BodyReader<'static>> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let request = self.bearing(self.agent.post(format!("{}{path}", self.base))).query_pairs(pairs);
        let refused = match self.answered(request.header("content-type", "application/json").send_empty()) {
            Ok(response) => return Ok(response.into_body().into_with_config().limit(u64::MAX).reader()),
            Err(error) => error,
        };
        match refused.downcast_ref::<Refused>().and_then(|refused| refused.socket.clone()) {
            Some(socket) => Self::new(&AdminAddress::of_socket(socket), None).start(path, query),
            None => Err(refused),
        }
    }

    /// Returns the body of the answer to a GET, to be read as it arrives.
    pub(super) fn stream(&self, path: &str) -> anyhow::Result<BufReader<BodyReader<'static>>> {
        let response = self.answered(self.bearing(self.agent.get(format!("{}{path}", self.base))).call())?;
        Ok(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn bearing<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(Bearer(Ok(token))) => request.header("authorization", format!("Bearer {token}")),
            _ => request,
        }
    }

    fn text(&self, response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<String> {
        let mut response = self.answered(response)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        body.read_to_string().with_context(|| format!("{} ended its answer too early", self.place))
    }

    fn answered(&self, response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        #[derive(Deserialize)]
        struct Refusal {
            error: Shown,
            socket: Option<PathBuf>,
        }
        let mut response = response.with_context(|| {
            let message = format!(
                "no pxed answers at {}: is `pxed run` running on this host? Elsewhere, name its admin listener with \
                 --admin, PXED_ADMIN, or the --config file of that pxed",
                self.place
            );
            Ended::new(Exit::Unreachable, message)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.body_mut().read_json::<Refusal>() {
            Ok(Refusal { error, socket }) => {
                let refused = Refused { status: status.as_u16(), error, socket };
                let is_not_found = refused.is_not_found();
                match &self.token {
                    Some(Bearer(Err(error))) if matches!(status.as_u16(), 401 | 403) => {
                        Err(anyhow::Error::new(refused).context(error.to_string()))
                    }
                    _ if is_not_found => {
                        let words = refused.to_string();
                        Err(anyhow::Error::new(refused).context(Ended::new(Exit::NotFound, words)))
                    }
                    _ => Err(refused.into()),
                }
            }
            Err(_) => {
                let message = format!("{} answers with status {status}: is it pxed's admin listener?", self.place);
                Err(Ended::new(Exit::Unreachable, message).into())
            }
        }
    }
}
