//! A file of the store as an answer: conditions → plan → head → record → send.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    answer::AnswerHead,
    coverage::FileState,
    delivery::{Content, Delivery},
    exchange::Exchange,
    metrics::{Refused, Route},
    query::Query,
    range::{self, Selection, Validators},
    stream::{Broken, Stream},
    text,
};
use crate::{
    artifacts::{OpenArtifact, Refusal, Store},
    model::{
        artifact_names,
        config_files::{ConfigFile, ConfigReader},
        inventory::Machine,
        visitors::Outcome,
    },
};

/// The time that a request waits for a free descriptor.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// Returns the path of a file in the store. A configuration of GRUB or U-Boot may be one anywhere, since those programs look for it
/// below a directory of their own.
pub(super) fn path(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(b"/assets/").or_else(|| ConfigReader::of(path).map(|_| path))
}

/// Answers a request for a file of the store, or for a configuration that is not in the store.
///
/// Only a machine's GET causes events, and a missing file that nobody expects causes none.
pub(super) async fn answer(stream: &mut Stream, mut exchange: Exchange<'_>, path: &[u8]) -> Result<(), Broken> {
    let Exchange { context, head: request, .. } = exchange;
    if !exchange.is_read() {
        let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "files are read-only");
        return exchange.answer_line(stream, Route::Assets, status, text).await;
    }
    let machine = context.machine_at(exchange.peer);
    let artifact = match open(&context.store, path).await {
        Ok(artifact) => artifact,
        Err(Refusal::NotFound) if let Some(file) = ConfigFile::parse(path) => {
            return text::answer_config(stream, exchange, file).await;
        }
        Err(refusal) => return refuse(stream, &exchange, path, machine.as_deref(), refusal).await,
    };
    let OpenArtifact { inode, length, modified, .. } = artifact;
    let validators = Validators::new(inode, length, modified);
    let plan = Plan::new(range::select(&request.method, &request.headers, length, &validators), length);
    context.metrics.answered(Route::Assets, plan.status.as_u16());
    let head = plan.head(path, &validators).end(Some(request), exchange.stay);
    match machine {
        None => exchange.visited(&Query::new(&request.query), plan.status, Outcome::Served.into()),
        Some(machine) => {
            if let Some(delivery) = delivery(&exchange, &machine, path) {
                record(delivery, &plan, FileState::of(&artifact), &mut exchange, stream.position() + head.len() as u64);
            }
        }
    }
    if exchange.is_head() || plan.first == plan.end {
        return stream.write(&head).await;
    }
    let artifact = Arc::new(artifact);
    exchange.deliveries.sending(&artifact);
    let sent = stream.write_file(&head, &artifact, plan.first..plan.end, &context.metrics).await;
    if matches!(sent, Err(Broken::Changed)) {
        let name = Path::new(OsStr::from_bytes(path));
        let name = name.strip_prefix("/").unwrap_or(name);
        context.changes.log(&context.store.root().join(name), artifact.inode);
    }
    sent
}

/// Opens a file. While no descriptor is free, it is tried again: iPXE takes any answer but the file for the end of the boot.
async fn open(store: &Store, path: &[u8]) -> Result<OpenArtifact, Refusal> {
    let deadline = Instant::now() + OPEN_PATIENCE;
    loop {
        match store.open(path) {
            Err(Refusal::Exhausted) if Instant::now() < deadline => tokio::time::sleep(OPEN_AGAIN).await,
            opened => return opened,
        }
    }
}

/// Returns the delivery to announce, if the machine requested the file itself.
fn delivery(exchange: &Exchange<'_>, machine: &Machine, path: &[u8]) -> Option<Delivery> {
    let kind = artifact_names::kind_of(path);
    (!exchange.is_head()).then(|| Delivery::new(machine.mac, kind, &exchange.head.path))
}

/// Answers that this client does not get the file.
async fn refuse(
    stream: &mut Stream,
    exchange: &Exchange<'_>,
    path: &[u8],
    machine: Option<&Machine>,
    refusal: Refusal,
) -> Result<(), Broken> {
    let status = match refusal {
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Outside => StatusCode::FORBIDDEN,
        Refusal::Circle | Refusal::Unreadable => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Exhausted | Refusal::Unverified | Refusal::Altered => StatusCode::SERVICE_UNAVAILABLE,
    };
    if refusal == Refusal::Outside {
        exchange.context.metrics.refused(Refused::Path);
    }
    let is_expected = refusal == Refusal::NotFound && artifact_names::is_optional(path);
    if !is_expected {
        let reason = exchange.context.store.reason(path, refusal);
        tracing::debug!(peer = %exchange.peer, target = exchange.head.target(), %reason, "boot HTTP refused a file");
        match machine {
            None => {
                let finding = Outcome::NoFile { reason: reason.into_owned() }.into();
                exchange.visited(&Query::new(&exchange.head.query), status, finding);
            }
            Some(machine) => {
                if let Some(delivery) = delivery(exchange, machine, path) {
                    delivery.requested(&exchange.context.events);
                    delivery.refused(&exchange.context.events, &reason);
                }
            }
        }
    }
    exchange.answer_line(stream, Route::Assets, status, refusal.reason()).await
}

/// Announces the request and tracks the answer, whose body begins at this position of the stream.
fn record(delivery: Delivery, plan: &Plan, file: FileState, exchange: &mut Exchange<'_>, position: u64) {
    let events = &exchange.context.events;
    delivery.requested(events);
    match plan.selection {
        Selection::Whole | Selection::Part { .. } => {
            let content = Content::File(file, plan.first..plan.end);
            exchange.deliveries.depart(delivery, content, exchange.began, position);
        }
        Selection::PreconditionFailed => delivery.refused(events, "the file has changed since"),
        Selection::Unsatisfiable => delivery.refused(events, "the range begins after the end of the file"),
        // The machine already has the file, so nothing is in flight.
        Selection::NotModified => {}
    }
}

/// The answer's status and the part of the file to send.
struct Plan {
    selection: Selection,
    status: StatusCode,
    length: u64,
    first: u64,
    /// The position after the last byte.
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
        Self { selection, status, length, first, end }
    }

    /// Returns the head of the answer without its end.
    fn head(&self, path: &[u8], validators: &Validators) -> AnswerHead {
        let Self { selection, status, length, first, end } = *self;
        let mut head = AnswerHead::new(status, SystemTime::now());
        head.header("Accept-Ranges", "bytes");
        head.header("ETag", &validators.etag);
        head.header("Last-Modified", range::format_date(validators.modified));
        match selection {
            Selection::Part { .. } => head.header("Content-Range", format_args!("bytes {first}-{}/{length}", end - 1)),
            Selection::Unsatisfiable => head.header("Content-Range", format_args!("bytes */{length}")),
            Selection::Whole | Selection::NotModified | Selection::PreconditionFailed => {}
        }
        // 304 has no content, so it has no length either (RFC 9110 §15.4.5).
        if selection != Selection::NotModified {
            head.header("Content-Type", content_type(path));
            head.header("Content-Length", end - first);
        }
        head
    }
}

/// Returns the media type of a file by its extension. UEFI firmware goes by the extension too, but some implementations
/// require a type that they know (UEFI 2.10 §24.7.2).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_follows_from_the_extension() {
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
