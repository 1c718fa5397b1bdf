//! One connection: request after request, each answered before the next is read.

use std::{
    borrow::Cow,
    io::IoSlice,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body};
use bytes::{BufMut as _, Bytes};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tower::ServiceExt as _;

use super::{
    Context, Phase, Refused,
    answer::{AnswerHead, Delivery, Text},
    file,
    head::{self, BODY_LIMIT, HEAD_LIMIT, Head, HeadError},
    metrics::Route,
    routes::{self, Peer},
};
use crate::model::{
    event::{EventKind, Transport},
    failure::FELL_SILENT,
};

/// How long a connection may lie idle between requests.
const IDLE: Duration = Duration::from_secs(60);

/// How long a request may take to come, from its first byte to its last.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a client may read nothing of its answer. Firmware that writes its download to slow memory pauses, but
/// not for that long.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// The longest answer of a handler.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// How long, and how much, is read after the last answer, so that the kernel does not reset the connection
/// under an answer that the client has not read yet.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// The connection cannot go on: the client has left, did not read in time, or the file changed under the transfer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The client closed or reset the connection.
    #[error("the client closed the connection: {0}")]
    Closed(#[from] std::io::Error),
    /// The client read nothing for a minute.
    #[error("{FELL_SILENT}: it read nothing for {} s", STALL.as_secs())]
    Stalled,
    /// The file is shorter than it was when the length was announced.
    #[error("the file was shortened while it was sent")]
    Shortened,
}

/// An answer that is ready to be sent.
struct Ready {
    /// Without its length and its end.
    head: AnswerHead,
    body: Bytes,
    delivery: Option<Delivery>,
}

/// A connection being served.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) context: Arc<Context>,
    router: Router,
    phase: watch::Receiver<Phase>,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
    /// Nothing has been read yet.
    is_new: bool,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: IpAddr,
        context: Arc<Context>,
        router: Router,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self { stream, peer, context, router, phase, buffer: Vec::new(), is_new: true }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let mut phase = self.phase.clone();
        let served = tokio::select! {
            served = self.requests() => served,
            _ = phase.wait_for(|&phase| phase == Phase::Over) => Ok(()),
        };
        if let Err(broken) = served {
            tracing::debug!(peer = %self.peer, %broken, "boot HTTP connection broke off");
            if matches!(broken, Broken::Stalled) {
                self.context.metrics.refused(Refused::Timeout);
            }
        }
    }

    async fn requests(&mut self) -> Result<(), Broken> {
        loop {
            let (mut head, length) = match self.read_head().await? {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(()),
                Err(error) => return self.refuse(error).await,
            };
            self.buffer.drain(..length);
            let Some(body) = self.read_body(&head).await? else { return Ok(()) };
            let stay = head.keep_alive && *self.phase.borrow() == Phase::Serving;
            if let Some(path) = head.path.strip_prefix(b"/assets/") {
                file::answer(self, &head, path, stay).await?;
            } else {
                self.answer(&mut head, body, stay).await?;
            }
            if !stay {
                return self.linger().await;
            }
        }
    }

    /// The next head and its length, or `None` when the connection is over.
    async fn read_head(&mut self) -> Result<Result<Option<(Head, usize)>, HeadError>, Broken> {
        let mut deadline = Instant::now() + if self.buffer.is_empty() { IDLE } else { REQUEST };
        loop {
            if !self.buffer.is_empty() {
                match head::parse(&self.buffer) {
                    Ok(None) => {}
                    Ok(whole) => return Ok(Ok(whole)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            let began = !self.buffer.is_empty();
            let mut phase = self.phase.clone();
            let read = tokio::select! {
                read = timeout_at(deadline, self.read_more(HEAD_LIMIT)) => read,
                _ = phase.wait_for(|&phase| phase != Phase::Serving), if !began => return Ok(Ok(None)),
            };
            match read {
                Ok(Ok(0)) => return Ok(Ok(None)),
                Ok(Ok(_)) if !began => deadline = Instant::now() + REQUEST,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if began => {
                    self.context.metrics.refused(Refused::Timeout);
                    return Ok(Err(HeadError { status: 408, reason: "the request did not come in time" }));
                }
                Err(_) => return Ok(Ok(None)),
            }
        }
    }

    /// The body that belongs to the head, or `None` when it does not come.
    async fn read_body(&mut self, head: &Head) -> Result<Option<Vec<u8>>, Broken> {
        let Ok(length) = usize::try_from(head.body_length.min(BODY_LIMIT)) else { return Ok(None) };
        if length == 0 {
            return Ok(Some(Vec::new()));
        }
        if head.expects_continue && self.buffer.len() < length {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let deadline = Instant::now() + REQUEST;
        while self.buffer.len() < length {
            match timeout_at(deadline, self.read_more(length)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    self.context.metrics.refused(Refused::Timeout);
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.buffer.drain(..length).collect()))
    }

    /// Reads what is there, so that the buffer holds `limit` bytes at most.
    async fn read_more(&mut self, limit: usize) -> std::io::Result<usize> {
        let room = limit.saturating_sub(self.buffer.len());
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve_exact(room.min(1024));
        }
        let room = room.min(self.buffer.capacity() - self.buffer.len());
        // The request has mostly come before the connection is accepted, which tokio would learn by asking the kernel
        // whether it may ask.
        if std::mem::take(&mut self.is_new) {
            let length = self.buffer.len();
            self.buffer.resize(length + room, 0);
            let read = rustix::net::recv(&self.stream, &mut self.buffer[length..], RecvFlags::empty());
            self.buffer.truncate(length + read.map_or(0, |(count, _)| count));
            match read {
                Err(Errno::AGAIN | Errno::INTR) => {}
                read => return Ok(read?.0),
            }
        }
        self.stream.read_buf(&mut (&mut self.buffer).limit(room)).await
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        bytes = send_now(&self.stream, bytes, SendFlags::empty())?;
        if bytes.is_empty() {
            return Ok(());
        }
        timeout(STALL, self.stream.write_all(bytes)).await.map_err(|_| Broken::Stalled)?.map_err(Broken::Closed)
    }

    /// Writes both as one.
    async fn write_both(&mut self, head: &[u8], body: &[u8]) -> Result<(), Broken> {
        let sent = match rustix::io::writev(&self.stream, &[IoSlice::new(head), IoSlice::new(body)]) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(Broken::Closed(error.into())),
        };
        let in_body = sent.saturating_sub(head.len());
        for rest in [head.get(sent..), body.get(in_body..)].into_iter().flatten().filter(|rest| !rest.is_empty()) {
            self.write(rest).await?;
        }
        Ok(())
    }

    /// Answers what is not a request, and ends the connection.
    async fn refuse(&mut self, HeadError { status, reason }: HeadError) -> Result<(), Broken> {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        tracing::debug!(peer = %self.peer, %status, reason, "boot HTTP refused a request");
        self.context.metrics.refused(Refused::Head);
        self.context.metrics.answered(Route::Other, status.as_u16());
        self.write_text(None, status, reason, false).await?;
        self.linger().await
    }

    /// A whole answer of one line.
    pub(super) async fn write_text(
        &mut self,
        request: Option<&Head>,
        status: StatusCode,
        text: &str,
        stay: bool,
    ) -> Result<(), Broken> {
        let mut answer = AnswerHead::new(status, SystemTime::now());
        answer.header("Content-Type", "text/plain; charset=utf-8");
        answer.header("Content-Length", text.len() + 1);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.header("Allow", "GET, HEAD");
        }
        let mut bytes = answer.end(request, stay);
        if request.is_none_or(|request| request.method != Method::HEAD) {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        }
        self.write(&bytes).await
    }

    /// Answers what is not a file.
    async fn answer(&mut self, head: &mut Head, body: Vec<u8>, stay: bool) -> Result<(), Broken> {
        let began = Instant::now();
        let peer = Peer { address: self.peer, is_head: head.method == Method::HEAD };
        let ready = match head.path.strip_prefix(b"/boot/") {
            Some(file) if matches!(head.method, Method::GET | Method::HEAD) => {
                Ok(self.ready(routes::own_script(&self.context, peer, file)))
            }
            Some(_) => Err((Route::Script, StatusCode::METHOD_NOT_ALLOWED, "scripts can be read only")),
            None => self.routed(head, body, peer).await,
        };
        let Ready { head: mut answer, body, delivery } = match ready {
            Ok(ready) => ready,
            Err((route, status, reason)) => {
                self.context.metrics.answered(route, status.as_u16());
                return self.write_text(Some(head), status, reason, stay).await;
            }
        };
        answer.header("Content-Length", body.len());
        let answer = answer.end(Some(head), stay);
        let sent = self.write_both(&answer, if peer.is_head { &[] } else { &body }).await;
        if sent.is_ok() && !peer.is_head {
            self.context.metrics.sent(body.len() as u64);
        }
        if let Some(Delivery { mac, artifact, path }) = delivery {
            let (transport, length) = (Transport::Http, body.len() as u64);
            let kind = match &sent {
                Ok(()) => EventKind::Done { artifact, transport, path, bytes: length, took: began.elapsed() },
                Err(broken) => {
                    EventKind::Failed { artifact, transport, path, bytes: 0, reason: broken.to_string().into() }
                }
            };
            self.context.events.send(mac, SystemTime::now(), kind);
        }
        sent
    }

    /// A text as it is sent.
    fn ready(&self, Text { status, content_type, text, route, delivery }: Text) -> Ready {
        self.context.metrics.answered(route, status.as_u16());
        let mut head = AnswerHead::new(status, SystemTime::now());
        head.header("Content-Type", content_type);
        let body = match text {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        Ready { head, body, delivery }
    }

    /// What the router answers.
    async fn routed(
        &self,
        head: &mut Head,
        body: Vec<u8>,
        peer: Peer,
    ) -> Result<Ready, (Route, StatusCode, &'static str)> {
        let Some(request) = request(head, body, peer) else {
            return Err((Route::Other, StatusCode::BAD_REQUEST, "not a path"));
        };
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let route = parts.extensions.get::<Route>().copied().unwrap_or(Route::Other);
        let body = match Limited::new(body, ANSWER_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                tracing::warn!(%error, target = head.target, "boot HTTP could not collect an answer");
                return Err((route, StatusCode::INTERNAL_SERVER_ERROR, "see pxed's log"));
            }
        };
        self.context.metrics.answered(route, parts.status.as_u16());
        let mut answer = AnswerHead::new(parts.status, SystemTime::now());
        answer.headers(&parts.headers);
        Ok(Ready { head: answer, body, delivery: parts.extensions.get::<Delivery>().cloned() })
    }

    async fn linger(&mut self) -> Result<(), Broken> {
        self.stream.shutdown().await?;
        let drain = async {
            // Not within the future, whose size every connection has.
            let mut scratch = vec![0; 4096];
            let mut left = LINGER_BYTES;
            while left > 0 {
                match self.stream.read(&mut scratch).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
        };
        let _ = timeout(LINGER, drain).await;
        Ok(())
    }
}

/// Sends what the socket takes at once and returns the rest. An answer nearly always fits.
pub(super) fn send_now<'a>(stream: &TcpStream, bytes: &'a [u8], flags: SendFlags) -> Result<&'a [u8], Broken> {
    match rustix::net::send(stream, bytes, flags.union(SendFlags::NOSIGNAL)) {
        Ok(count) => Ok(bytes.get(count..).unwrap_or_default()),
        Err(Errno::AGAIN | Errno::INTR) => Ok(bytes),
        Err(error) => Err(Broken::Closed(error.into())),
    }
}

/// HEAD goes to the router as the GET that it asks about: the answer's headers are then the same. Takes the headers.
fn request(head: &mut Head, body: Vec<u8>, peer: Peer) -> Option<Request<Body>> {
    let method = if peer.is_head { Method::GET } else { head.method.clone() };
    let mut request = Request::builder().method(method).uri(&head.target).body(Body::from(body)).ok()?;
    *request.headers_mut() = std::mem::take(&mut head.headers);
    request.extensions_mut().insert(peer);
    Some(request)
}
