//! A file of the store as an answer: from the page cache to the socket by sendfile(2).

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use pxe_common::MacAddr;
use rustix::net::SendFlags;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Context, Refused,
    answer::AnswerHead,
    connection::{Broken, Connection, STALL, send_now},
    head::Head,
    metrics::{Metrics, Route},
    range::{self, Selection, Validators},
};
use crate::{
    artifacts::{OpenArtifact, READ_AHEAD, Refusal},
    model::{
        artifact_names,
        event::{ArtifactKind, EventKind, Transport, short_path},
        failure,
    },
};

/// The most that one call sends: sendfile(2) does not return before it has copied all that the socket takes.
const CHUNK: u64 = 2 * 1024 * 1024;

/// How many calls in a row that never had to wait, before other connections get their turn. A socket that drains as
/// fast as it is filled would keep the thread; turns more often than that cost more than they give.
const CALLS_PER_TURN: u32 = 16;

/// Up to so many connections are corked while a file goes out. Acknowledgements that come in meanwhile otherwise push out
/// whatever part of a segment is there: with one client a third of the throughput is lost so. With many the cork costs a
/// little instead, and the link is full anyhow.
const FEW_CONNECTIONS: i64 = 16;

/// Who asked for which file: what every event about it repeats.
struct Delivery {
    context: Arc<Context>,
    mac: Option<MacAddr>,
    artifact: ArtifactKind,
    path: Arc<str>,
}

impl Delivery {
    fn requested(&self) {
        let Self { artifact, path, .. } = self;
        let (artifact, path) = (*artifact, Arc::clone(path));
        self.send(EventKind::Requested { artifact, transport: Transport::Http, path });
    }

    fn done(&self, bytes: u64, took: Duration) {
        let Self { artifact, path, .. } = self;
        let (artifact, path) = (*artifact, Arc::clone(path));
        self.send(EventKind::Done { artifact, transport: Transport::Http, path, bytes, took });
    }

    fn failed(&self, bytes: u64, reason: &str) {
        let Self { artifact, path, .. } = self;
        let (artifact, path) = (*artifact, Arc::clone(path));
        self.send(EventKind::Failed { artifact, transport: Transport::Http, path, bytes, reason: reason.into() });
    }

    fn send(&self, kind: EventKind) {
        if let Some(mac) = self.mac {
            self.context.events.send(mac, SystemTime::now(), kind);
        }
    }
}

/// Answers a request for `/assets/<path>`.
///
/// HEAD makes no events: firmware asks so for the length before it loads. Nor does a file that is missing and that
/// nobody expects to be there. A part makes a `Done` only when it reaches
/// the end of the file, since only then can the client have all of it.
pub(super) async fn answer(connection: &mut Connection, head: &Head, path: &[u8], stay: bool) -> Result<(), Broken> {
    let began = Instant::now();
    let metrics = Arc::clone(&connection.context.metrics);
    if head.method != Method::GET && head.method != Method::HEAD {
        metrics.answered(Route::Assets, 405);
        let text = "files can be read only";
        return connection.write_text(Some(head), StatusCode::METHOD_NOT_ALLOWED, text, stay).await;
    }
    let is_head = head.method == Method::HEAD;
    let mac = if is_head { None } else { connection.machine().map(|machine| machine.mac) };
    let context = Arc::clone(&connection.context);
    let delivery = Delivery { context, mac, artifact: artifact_names::kind_of(path), path: short_path(&head.path) };

    let artifact = match connection.context.store.open(path) {
        Ok(artifact) => artifact,
        Err(Refusal::NotFound) if artifact_names::is_optional(path) => {
            let (status, reason) = explain(Refusal::NotFound);
            metrics.answered(Route::Assets, status.as_u16());
            return connection.write_text(Some(head), status, reason, stay).await;
        }
        Err(refusal) => {
            let (status, reason) = explain(refusal);
            if refusal == Refusal::Outside {
                metrics.refused(Refused::Path);
            }
            metrics.answered(Route::Assets, status.as_u16());
            tracing::debug!(peer = %connection.peer, path = %delivery.path, reason, "boot HTTP refused a file");
            delivery.requested();
            delivery.failed(0, reason);
            return connection.write_text(Some(head), status, reason, stay).await;
        }
    };
    delivery.requested();
    let OpenArtifact { length, modified, inode, .. } = artifact;
    let validators = Validators::new(inode, length, modified);
    let selection = range::select(&head.method, &head.headers, length, &validators);
    let Plan { status, first, end } = Plan::new(selection, length);
    metrics.answered(Route::Assets, status.as_u16());

    let mut answer = AnswerHead::new(status, SystemTime::now());
    answer.header("Accept-Ranges", "bytes");
    answer.header("ETag", &validators.etag);
    answer.header("Last-Modified", range::format_date(modified));
    match selection {
        Selection::Whole => {}
        Selection::Part { .. } => answer.header("Content-Range", format_args!("bytes {first}-{}/{length}", end - 1)),
        Selection::Unsatisfiable => answer.header("Content-Range", format_args!("bytes */{length}")),
        Selection::NotModified | Selection::PreconditionFailed => {}
    }
    // 304 has no content, so no length either (RFC 9110 §15.4.5).
    if selection != Selection::NotModified {
        answer.header("Content-Type", content_type(path));
        answer.header("Content-Length", end - first);
    }
    let answer = answer.end(Some(head), stay);
    if is_head || first == end {
        let sent = connection.write(&answer).await;
        match (&sent, selection) {
            (Err(broken), _) => delivery.failed(0, &broken.to_string()),
            (Ok(()), Selection::Whole) => delivery.done(0, began.elapsed()),
            (Ok(()), Selection::Unsatisfiable) => delivery.failed(0, "the range lies behind the end"),
            (Ok(()), Selection::PreconditionFailed) => delivery.failed(0, "the file has changed since"),
            (Ok(()), _) => {}
        }
        return sent;
    }

    let mut offset = first;
    let corked = metrics.open_connections() <= FEW_CONNECTIONS;
    if corked {
        cork(&connection.stream, true);
    }
    let sent = match send_more(&connection.stream, &answer).await {
        Ok(()) => send_file(&connection.stream, &Arc::new(artifact), &mut offset, end, &metrics).await,
        Err(broken) => Err(broken),
    };
    if corked {
        cork(&connection.stream, false);
    }
    let bytes = offset - first;
    metrics.sent(bytes);
    match &sent {
        Ok(()) if end == length => delivery.done(bytes, began.elapsed()),
        Ok(()) => {}
        Err(broken) => delivery.failed(bytes, &broken.to_string()),
    }
    sent
}

/// Status, first byte, and the byte after the last.
struct Plan {
    status: StatusCode,
    first: u64,
    end: u64,
}

impl Plan {
    const fn new(selection: Selection, length: u64) -> Self {
        let (status, first, end) = match selection {
            Selection::Whole => (StatusCode::OK, 0, length),
            Selection::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
            Selection::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0, 0),
            Selection::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        Self { status, first, end }
    }
}

const fn explain(refusal: Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, failure::NO_SUCH_FILE),
        Refusal::Outside => (StatusCode::FORBIDDEN, failure::OUTSIDE),
        Refusal::Unreadable => (StatusCode::INTERNAL_SERVER_ERROR, failure::UNREADABLE),
    }
}

/// UEFI firmware goes by the ending for loaders, but some insists on a type that it knows (UEFI 2.10 §24.7.2).
fn content_type(path: &[u8]) -> &'static str {
    let ends =
        |suffix: &[u8]| path.len() >= suffix.len() && path[path.len() - suffix.len()..].eq_ignore_ascii_case(suffix);
    if ends(b".efi") {
        "application/efi"
    } else if ends(b".ipxe") || ends(b".txt") || ends(b".cfg") || ends(b".yaml") {
        "text/plain; charset=utf-8"
    } else if ends(b".json") || ends(b".ign") {
        "application/json"
    } else {
        "application/octet-stream"
    }
}

/// Whether only full segments leave; what is left leaves with the end of it (tcp(7), TCP_CORK). It fails only on a
/// connection that is broken already, which the next send tells.
fn cork(stream: &TcpStream, on: bool) {
    let _ = rustix::net::sockopt::set_tcp_cork(stream, on);
}

/// Sends the head and tells the kernel that more follows, so that both leave in one segment.
async fn send_more(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), Broken> {
    loop {
        bytes = send_now(stream, bytes, SendFlags::MORE)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let wait = stream.async_io(Interest::WRITABLE, || match send_now(stream, bytes, SendFlags::MORE) {
            Ok(rest) if rest.len() == bytes.len() => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        });
        bytes = timeout(STALL, wait).await.map_err(|_| Broken::Stalled)???;
    }
}

/// Sends the file from `offset`, which it advances, up to and without `end`.
async fn send_file(
    stream: &TcpStream,
    artifact: &Arc<OpenArtifact>,
    offset: &mut u64,
    end: u64,
    metrics: &Metrics,
) -> Result<(), Broken> {
    let mut calls = 0;
    let mut is_first = true;
    let mut warm = *offset;
    while *offset < end {
        if *offset >= warm {
            warm = warm_up(artifact, *offset, end, metrics).await;
        }
        let count = usize::try_from(warm - *offset).unwrap_or(usize::MAX);
        let mut position = *offset;
        let mut send =
            || rustix::fs::sendfile(stream, &artifact.file, Some(&mut position), count).map_err(io::Error::from);
        // Of a new connection tokio does not know yet that it can be written to.
        let at_once = if is_first { send() } else { Err(io::ErrorKind::WouldBlock.into()) };
        is_first = false;
        let sent = match at_once {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(STALL, stream.async_io(Interest::WRITABLE, send)).await.map_err(|_| Broken::Stalled)??
            }
            sent => sent?,
        };
        if sent == 0 {
            return Err(Broken::Shortened);
        }
        *offset += sent as u64;
        calls = if sent == count { calls + 1 } else { 0 };
        if calls == CALLS_PER_TURN {
            calls = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Up to where the file, from `offset` on, is in the page cache now. A thread that sendfile(2) makes wait for the disk
/// serves nobody meanwhile, so another one waits.
async fn warm_up(artifact: &Arc<OpenArtifact>, offset: u64, end: u64, metrics: &Metrics) -> u64 {
    let chunk = offset..end.min(offset.saturating_add(CHUNK));
    if artifact.is_cached(chunk.clone()) {
        return chunk.end;
    }
    metrics.waited_for_disk();
    let artifact = Arc::clone(artifact);
    // It fails only when the runtime ends, and this task with it.
    let _ = tokio::task::spawn_blocking(move || artifact.read_ahead(offset)).await;
    chunk.end.min(offset.saturating_add(READ_AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (path, expected) in [
            (&b"ipxe-efi-x86_64.EFI"[..], "application/efi"),
            (b"autoexec.ipxe", "text/plain; charset=utf-8"),
            (b"vmlinuz-v1.13.0-amd64", "application/octet-stream"),
            (b"x", "application/octet-stream"),
            (b"", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), expected);
        }
    }
}
