//! A text as an answer: a machine's own script or configuration, or the answer of the axum router.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tower::ServiceExt as _;

use super::{
    answer::{AnswerHead, Text},
    delivery::{Content, Delivery},
    exchange::Exchange,
    head::Head,
    metrics::Route,
    query::Query,
    routes::{self, Peer},
    stream::{Broken, Stream},
    visits::Finding,
};
use crate::model::config_files::ConfigFile;

/// The longest answer of a handler, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// An answer that is ready to be sent.
struct Ready {
    /// The head without its length and its end.
    head: AnswerHead,
    body: Bytes,
    delivery: Option<Delivery>,
}

/// An answer of bytes.
pub(super) struct Payload {
    pub(super) route: Route,
    pub(super) content_type: &'static str,
    pub(super) bytes: Bytes,
    /// Set if the arrival of the answer is an event.
    pub(super) delivery: Option<Delivery>,
}

/// An answer of one line that replaces the handler's.
struct Refusal {
    route: Route,
    status: StatusCode,
    reason: &'static str,
}

/// Answers a request for anything other than a file.
pub(super) async fn answer(stream: &mut Stream, exchange: Exchange<'_>, router: &Router) -> Result<(), Broken> {
    match ready(&exchange, router).await {
        Ok(ready) => send(stream, exchange, ready).await,
        Err(Refusal { route, status, reason }) => exchange.answer_line(stream, route, status, reason).await,
    }
}

/// Answers a request for a configuration of GRUB or U-Boot.
pub(super) async fn answer_config(stream: &mut Stream, exchange: Exchange<'_>, file: ConfigFile) -> Result<(), Broken> {
    let peer = Peer { address: exchange.peer, server: exchange.server, is_head: exchange.is_head() };
    let text = routes::loader_config(exchange.context, peer, &exchange.head.path, file);
    answer_text(stream, exchange, text).await
}

/// Answers with a text.
pub(super) async fn answer_text(stream: &mut Stream, exchange: Exchange<'_>, text: Text) -> Result<(), Broken> {
    let ready = from_text(&exchange, text);
    send(stream, exchange, ready).await
}

/// Answers with bytes that are not text, with status 200.
pub(super) async fn answer_payload(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    Payload { route, content_type, bytes, delivery }: Payload,
) -> Result<(), Broken> {
    exchange.context.metrics.answered(route, StatusCode::OK.as_u16());
    let mut head = AnswerHead::new(StatusCode::OK, SystemTime::now());
    head.header("Content-Type", content_type);
    send(stream, exchange, Ready { head, body: bytes, delivery }).await
}

async fn send(stream: &mut Stream, exchange: Exchange<'_>, ready: Ready) -> Result<(), Broken> {
    let Ready { mut head, body, delivery } = ready;
    head.header("Content-Length", body.len());
    let head = head.end(Some(exchange.head), exchange.stay);
    if exchange.is_head() {
        return stream.write(&head).await;
    }
    if let Some(delivery) = delivery {
        let content = Content::Text(body.len() as u64);
        exchange.deliveries.depart(delivery, content, exchange.began, stream.position() + head.len() as u64);
    }
    stream.write_both(&head, &body).await?;
    exchange.context.metrics.sent(body.len() as u64);
    Ok(())
}

async fn ready(exchange: &Exchange<'_>, router: &Router) -> Result<Ready, Refusal> {
    let peer = Peer { address: exchange.peer, server: exchange.server, is_head: exchange.is_head() };
    let path = &exchange.head.path;
    match path.starts_with(b"/boot/") {
        true if exchange.is_read() => Ok(from_text(exchange, routes::own_script(exchange.context, peer, path))),
        true => {
            let (route, status) = (Route::Script, StatusCode::METHOD_NOT_ALLOWED);
            Err(Refusal { route, status, reason: "scripts are read-only" })
        }
        false => routed(exchange, peer, router).await,
    }
}

/// Puts the head of an answer before a text.
fn from_text(exchange: &Exchange<'_>, text: Text) -> Ready {
    let Text { status, content_type, text, route, delivery, retry_after, finding } = text;
    exchange.context.metrics.answered(route, status.as_u16());
    if let Some(finding) = finding {
        exchange.visited(&Query::new(&exchange.head.query), status, finding);
    }
    let mut head = AnswerHead::new(status, SystemTime::now());
    head.header("Content-Type", content_type);
    if let Some(after) = retry_after {
        head.header("Retry-After", after.as_secs());
    }
    let body = match text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Ready { head, body, delivery }
}

/// Returns the router's answer.
async fn routed(exchange: &Exchange<'_>, peer: Peer, router: &Router) -> Result<Ready, Refusal> {
    let query = Arc::new(Query::new(&exchange.head.query));
    let Some(request) = request(exchange.head, peer, Arc::clone(&query)) else {
        return Err(Refusal { route: Route::Other, status: StatusCode::BAD_REQUEST, reason: "not a path" });
    };
    let Ok(response) = router.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let route = parts.extensions.get::<Route>().copied().unwrap_or(Route::Other);
    let body = match Limited::new(body, ANSWER_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::warn!(%error, target = exchange.head.target(), "boot HTTP could not collect an answer");
            return Err(Refusal { route, status: StatusCode::INTERNAL_SERVER_ERROR, reason: "see pxed's log" });
        }
    };
    exchange.context.metrics.answered(route, parts.status.as_u16());
    if let Some(finding) = parts.extensions.get::<Finding>() {
        exchange.visited(&query, parts.status, finding.clone());
    }
    let mut head = AnswerHead::new(parts.status, SystemTime::now());
    head.headers(&parts.headers);
    Ok(Ready { head, body, delivery: parts.extensions.get::<Delivery>().cloned() })
}

/// The bytes of a path that a URI may not contain.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'+');

/// Creates the request for the router, whose handlers use only path, query and peer. HEAD becomes GET, so that the answer
/// has the same headers.
fn request(head: &Head, peer: Peer, query: Arc<Query>) -> Option<Request<Body>> {
    let method = if peer.is_head { Method::GET } else { head.method.clone() };
    let path = percent_encode(&head.path, ESCAPED).to_string();
    // The query is an extension, because a URI cannot contain every query that is answered.
    Request::builder().method(method).uri(path).extension(peer).extension(query).body(Body::empty()).ok()
}
