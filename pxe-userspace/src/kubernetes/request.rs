//! Requests for lists and watches of one kind, with limits for time and memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::{
    client::{ApiServer, words},
    fault::{Fault, FaultReason},
    objects::{Full, MOST_OBJECTS, Observed},
    parse::{self, Page},
    room::{Room, Taken},
};
use crate::model::api_object::ApiKind;

/// The time that the server is asked to keep a watch open. A watch without news and one that hangs look the same until then, and a new
/// one costs little: it begins at the version that the last one reached.
const WATCH_SECONDS: u64 = 12;

/// The limits of waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until an answer begins.
    pub(super) head: Duration,
    /// Until the answer to a watch begins, for which the server has nothing to do.
    pub(super) opening: Duration,
    /// For the next bytes of an answer.
    pub(super) part: Duration,
    /// For a part of a list.
    pub(super) whole: Duration,
    /// For the next bytes of a watch.
    pub(super) silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(20),
            opening: Duration::from_secs(8),
            part: Duration::from_secs(10),
            whole: Duration::from_secs(60),
            silence: Duration::from_secs(WATCH_SECONDS + 6),
        }
    }
}

/// The most bytes of a part of a list.
const PAGE_BYTES: usize = 32 << 20;
/// The most bytes of an event: more than ten times the largest object that etcd takes.
const EVENT_BYTES: usize = 16 << 20;
/// The most bytes of a refusal.
const REFUSAL_BYTES: usize = 64 << 10;
/// The objects in a part of a list.
const PAGE_OBJECTS: usize = 500;
/// The most parts of a list. A server may put fewer objects into a part than it is asked for.
const MOST_PARTS: usize = 1_000;

/// A whole list.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) observed: Vec<Observed>,
    /// The number of items that are no objects.
    pub(super) shapeless: usize,
    pub(super) version: String,
    /// Its place in the memory, until it is in the place of what was known.
    pub(super) taken: Taken,
}

/// The objects of a kind, in a namespace or in all.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) server: Arc<ApiServer>,
    pub(super) kind: ApiKind,
    pub(super) namespace: Option<String>,
    pub(super) limits: Limits,
    pub(super) room: Arc<Room>,
}

impl Source {
    /// Asks for a part of the list.
    async fn page(&self, objects: usize, token: &str) -> Result<Page, Fault> {
        let mut query = format!("limit={objects}");
        if !token.is_empty() {
            query.push_str(&format!("&continue={}", utf8_percent_encode(token, NON_ALPHANUMERIC)));
        }
        let read = async {
            let response = self.send(&query, self.limits.head).await?;
            let mut body = response.into_body();
            let mut text = Vec::new();
            let mut taken = Taken::new(&self.room);
            while let Some(part) = part(&mut body, self.limits.part).await? {
                taken.more(part.len()).map_err(full)?;
                if text.len() + part.len() > PAGE_BYTES {
                    return Err(too_much(format!("{objects} of them have more than {} MiB", PAGE_BYTES >> 20)));
                }
                text.extend_from_slice(&part);
            }
            parse::page(&text, self.kind)
        };
        let whole = self.limits.whole;
        timeout(whole, read).await.unwrap_or_else(|_| Err(silent(whole, "for a whole list")))
    }

    /// Asks for the whole list.
    pub(super) async fn list(&self) -> Result<Listing, Fault> {
        let taken = Taken::new(&self.room);
        let mut listing = Listing { observed: Vec::new(), shapeless: 0, version: String::new(), taken };
        let (mut parts, mut objects, mut token) = (0, PAGE_OBJECTS, String::new());
        loop {
            match self.page(objects, &token).await {
                Ok(Page { observed, shapeless, version, next }) => {
                    listing.taken.more(observed.iter().map(Observed::size).sum()).map_err(full)?;
                    let leads_nowhere = observed.is_empty() && shapeless == 0 || next == token;
                    listing.observed.extend(observed);
                    listing.shapeless += shapeless;
                    // A list without an end would be asked for ever: parts that lead in circles, or that have nothing.
                    if leads_nowhere && !next.is_empty() {
                        return Err(Fault::new(FaultReason::Garbled, "a part of the list leads nowhere"));
                    }
                    parts += 1;
                    if parts > MOST_PARTS || listing.observed.len() + listing.shapeless > MOST_OBJECTS {
                        return Err(too_much(format!("their list has no end after {parts} parts")));
                    }
                    if next.is_empty() {
                        return Ok(Listing { version, ..listing });
                    }
                    token = next;
                }
                Err(fault) if fault.reason == FaultReason::TooMuch && objects > 1 => objects = (objects / 4).max(1),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Asks for the changes since a version.
    pub(super) async fn watch(&self, version: &str) -> Result<Lines, Fault> {
        let version = utf8_percent_encode(version, NON_ALPHANUMERIC);
        let query =
            format!("watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}");
        let body = self.send(&query, self.limits.opening).await?.into_body();
        Ok(Lines { body, silence: self.limits.silence, buffer: Vec::new(), searched: 0 })
    }

    async fn send(&self, query: &str, head: Duration) -> Result<Response<Body>, Fault> {
        let scope = self.namespace.as_ref().map_or_else(String::new, |namespace| {
            format!("/namespaces/{}", utf8_percent_encode(namespace, NON_ALPHANUMERIC))
        });
        let (group, version, plural) = (ApiKind::GROUP, ApiKind::VERSION, self.kind.plural());
        let request = Request::get(format!("/apis/{group}/{version}{scope}/{plural}?{query}"))
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| Fault::new(FaultReason::Unreachable, error.to_string()))?;
        let response = match timeout(head, self.server.client().send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let reason = match error {
                    kube::Error::Auth(_) => FaultReason::Credentials,
                    _ => FaultReason::Unreachable,
                };
                return Err(Fault::new(reason, words(&error)));
            }
            Err(_) => return Err(silent(head, "for an answer")),
        };
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = response.into_body();
        let mut text = Vec::new();
        // Without its body, the status alone has to do.
        while let Ok(Some(part)) = part(&mut body, self.limits.part).await {
            text.extend_from_slice(&part);
            if text.len() > REFUSAL_BYTES {
                break;
            }
        }
        let retry_after = retry_after.map(Duration::from_secs);
        Err(Fault { retry_after, ..parse::refusal(status.as_u16(), &text) })
    }
}

fn full(full: Full) -> Fault {
    too_much(full.to_string())
}

fn too_much(what: String) -> Fault {
    Fault::new(FaultReason::TooMuch, what)
}

fn silent(limit: Duration, what: &str) -> Fault {
    Fault::new(FaultReason::Silent, format!("waited {limit:?} {what}"))
}

/// Waits for the next bytes of a body. Returns `None` at its end.
async fn part(body: &mut Body, limit: Duration) -> Result<Option<Bytes>, Fault> {
    loop {
        match timeout(limit, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => {
                return Err(Fault::new(FaultReason::Unreachable, format!("the answer broke off: {}", words(&error))));
            }
            Err(_) => return Err(silent(limit, "for the next byte")),
        }
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    silence: Duration,
    buffer: Vec<u8>,
    /// The bytes of the buffer that have no line break.
    searched: usize,
}

impl Lines {
    /// Waits for the next line. Returns `None` when the server has ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(length) = unsearched.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + length + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > EVENT_BYTES {
                return Err(too_much(format!("an event has more than {} MiB", EVENT_BYTES >> 20)));
            }
            match part(&mut self.body, self.silence).await? {
                Some(part) => self.buffer.extend_from_slice(&part),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => {
                    return Err(Fault::new(FaultReason::Unreachable, "the answer ends in the middle of an event"));
                }
            }
        }
    }
}
