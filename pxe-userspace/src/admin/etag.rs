//! Conditional requests (RFC 9110 §13): a client that has an answer already is told that it is still the same.
//!
//! The tag is the hash of the answer itself. A number of changes would be cheaper, but parts of an answer change without an event:
//! the progress of a transfer, and all that follows from the time.

use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use ring::digest;

use super::paging::PAGE_HEADERS;

/// The bytes of the hash that a tag shows.
const BYTES: usize = 12;

/// The hash of an answer, as it is made.
#[derive(Clone)]
pub(super) struct Hasher(digest::Context);

impl Hasher {
    /// Creates the hash of an empty answer.
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds a part of the answer.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Returns the tag of the whole answer.
    pub(super) fn tag(self) -> Tag {
        let hash = self.0.finish();
        let digits: String = hash.as_ref().iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect();
        // Weak, since a list is written a second time after it was hashed, and a machine may have moved meanwhile.
        Tag(format!("W/\"{digits}\""))
    }
}

/// The entity tag of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    /// Returns `true` if the client has the answer with this tag already.
    pub(super) fn is_known(&self, request: &HeaderMap) -> bool {
        let mut lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        lists.any(|list| list.split(',').map(str::trim).any(|tag| tag == "*" || opaque(tag) == opaque(&self.0)))
    }

    /// Returns an answer with this tag.
    pub(super) fn on(&self, mut response: Response) -> Response {
        if let Ok(tag) = HeaderValue::from_str(&self.0) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        // A browser asks each time, and the tag makes that cheap.
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        response
    }

    /// Returns the answer that says that nothing has changed.
    pub(super) fn not_modified(&self) -> Response {
        self.on(StatusCode::NOT_MODIFIED.into_response())
    }
}

/// Returns a tag without the mark of weakness, which does not count here.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Adds a tag to every answer whose body is in memory and that has none yet.
pub(super) async fn tagged(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let conditions = is_get.then(|| request.headers().clone());
    let response = next.run(request).await;
    let Some(conditions) = conditions else { return response };
    let is_whole = response.body().size_hint().exact().is_some();
    if response.status() != StatusCode::OK || !is_whole || response.headers().contains_key(header::ETAG) {
        return response;
    }
    let (head, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut hasher = Hasher::new();
    for name in PAGE_HEADERS {
        hasher.add(head.headers.get(name).map_or(&[][..], HeaderValue::as_bytes));
        hasher.add(b"\n");
    }
    hasher.add(&bytes);
    let tag = hasher.tag();
    if tag.is_known(&conditions) {
        let mut answer = tag.not_modified();
        for name in PAGE_HEADERS {
            if let Some(value) = head.headers.get(name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        return answer;
    }
    tag.on(Response::from_parts(head, Body::from(bytes)))
}
