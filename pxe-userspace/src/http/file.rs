//! A file of the store as an answer: open → plan → head → record → send.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    body::Piece,
    context::Context,
    coverage::FileState,
    delivery::Delivery,
    exchange::Exchange,
    metrics::{Refused, Route},
    plan::Plan,
    query::Query,
    range::Validators,
    stream::{Broken, Stream},
    text,
};
use crate::{
    artifacts::{OpenArtifact, Refusal, Store},
    model::{
        artifact_names,
        config_files::{ConfigFile, ConfigReader},
        event::ArtifactKind,
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
pub(super) async fn answer(stream: &mut Stream, exchange: Exchange<'_>, path: &[u8]) -> Result<(), Broken> {
    let context = exchange.context;
    if !exchange.is_read() {
        let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "files are read-only");
        return exchange.answer_line(stream, Route::Assets, status, text).await;
    }
    let machine = context.machine_at(exchange.peer);
    let artifact = match open_verified(&context.store, path).await {
        Ok(artifact) => artifact,
        Err(Refusal::NotFound) if let Some(file) = ConfigFile::parse(path) => {
            return text::answer_config(stream, exchange, file).await;
        }
        Err(refusal) => return refuse(stream, &exchange, path, machine.as_deref(), refusal).await,
    };
    let asset = Asset { path, kind: artifact_names::kind_of(path), route: Route::Assets };
    send(stream, exchange, asset, machine.as_deref(), artifact).await
}

/// A file of the store that is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset<'a> {
    /// Its path, relative to the store.
    pub(super) path: &'a [u8],
    /// Its part in the machine's boot.
    pub(super) kind: ArtifactKind,
    /// The route by which it was asked for.
    pub(super) route: Route,
}

/// Sends a file to the client, which is this machine if it is one.
pub(super) async fn send(
    stream: &mut Stream,
    mut exchange: Exchange<'_>,
    asset: Asset<'_>,
    machine: Option<&Machine>,
    artifact: OpenArtifact,
) -> Result<(), Broken> {
    let Exchange { context, head: request, .. } = exchange;
    let OpenArtifact { inode, length, modified, .. } = artifact;
    let validators = Validators::new(inode, length, modified);
    let plan = Plan::new(&exchange, length, &validators);
    context.metrics.answered(asset.route, plan.status.as_u16());
    let head = plan.head(content_type(asset.path), &validators).end(Some(request), exchange.stay);
    let state = FileState::of(&artifact);
    match machine {
        None => exchange.visited(&Query::new(&request.query), plan.status, Outcome::Served.into()),
        Some(machine) => {
            if let Some(delivery) = delivery(&exchange, machine, asset.kind) {
                plan.record(delivery, state, &mut exchange, stream.position() + head.len() as u64);
            }
        }
    }
    if plan.has_no_body(&exchange) {
        return stream.write(&head).await;
    }
    let artifact = Arc::new(artifact);
    let sending = exchange.deliveries.sending(state, [&artifact]);
    let pieces = [Piece::File { artifact: Arc::clone(&artifact), range: plan.first..plan.end }];
    let sent = stream.write_body(&head, &pieces, sending, &context.metrics).await;
    if matches!(sent, Err(Broken::Changed)) {
        log_change(context, asset.path, &artifact);
    }
    sent
}

/// Logs that a file of the store was overwritten while it was sent.
pub(super) fn log_change(context: &Context, path: &[u8], artifact: &OpenArtifact) {
    let name = Path::new(OsStr::from_bytes(path));
    let name = name.strip_prefix("/").unwrap_or(name);
    context.changes.log(&context.store.root().join(name), artifact.inode);
}

/// Opens a file, patiently.
pub(super) async fn open(store: &Store, path: &[u8]) -> Result<OpenArtifact, Refusal> {
    patiently(|| store.open(path), |refusal| *refusal == Refusal::Exhausted).await
}

/// Opens a file as patiently, also while it is being read to verify it, which takes a second at most: that it was touched must not end the
/// boot of a machine that asks just then.
async fn open_verified(store: &Store, path: &[u8]) -> Result<OpenArtifact, Refusal> {
    let may_pass = |refusal: &Refusal| matches!(refusal, Refusal::Exhausted | Refusal::Unverified);
    patiently(|| store.open(path), may_pass).await
}

/// Opens something. While a refusal may pass, it is tried again: firmware and iPXE take any answer but the file for the end of the boot.
pub(super) async fn patiently<T, E>(open: impl Fn() -> Result<T, E>, may_pass: impl Fn(&E) -> bool) -> Result<T, E> {
    let deadline = Instant::now() + OPEN_PATIENCE;
    loop {
        match open() {
            Err(error) if may_pass(&error) && Instant::now() < deadline => tokio::time::sleep(OPEN_AGAIN).await,
            opened => return opened,
        }
    }
}

/// Returns the delivery to announce, if the machine requested the file itself.
fn delivery(exchange: &Exchange<'_>, machine: &Machine, kind: ArtifactKind) -> Option<Delivery> {
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
                if let Some(delivery) = delivery(exchange, machine, artifact_names::kind_of(path)) {
                    delivery.requested(&exchange.context.events);
                    delivery.refused(&exchange.context.events, &reason);
                }
            }
        }
    }
    exchange.answer_line(stream, Route::Assets, status, refusal.reason()).await
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
    use std::{fs, sync::Arc};

    use super::*;
    use crate::artifacts::{Entry, Proof, Records, Sha256};

    /// A store with the file `kernel`, of which this content is recorded.
    fn recorded(there: &str, recorded: &[u8; 32]) -> (tempfile::TempDir, Records) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("kernel"), there).unwrap();
        let (records, damage) = Records::open(Arc::new(Store::new(directory.path().to_owned())));
        assert_eq!(damage, None);
        let entry = Entry {
            sha256: Sha256(*recorded),
            proof: Proof::FirstDownload,
            source: None,
            file: None,
            by_hand: false,
            contradicts: false,
            needed: 0,
        };
        records.record("kernel", &entry).unwrap();
        (directory, records)
    }

    fn sha256(content: &str) -> [u8; 32] {
        ring::digest::digest(&ring::digest::SHA256, content.as_bytes()).as_ref().try_into().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn request_for_a_file_that_is_being_verified_waits() {
        for (content, expected) in [("the kernel", Ok(())), ("another", Err(Refusal::Altered))] {
            let (_directory, records) = recorded(content, &sha256("the kernel"));
            let store = Arc::clone(records.store());
            assert_eq!(store.open(b"kernel").err(), Some(Refusal::Unverified));
            let verify = async {
                tokio::time::sleep(OPEN_PATIENCE / 2).await;
                let _ = records.verify("kernel");
            };
            let (opened, ()) = tokio::join!(open_verified(&store, b"kernel"), verify);
            assert_eq!(opened.map(drop), expected, "{content}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_does_not_wait_for_ever() {
        let (_directory, records) = recorded("the kernel", &sha256("the kernel"));
        let began = Instant::now();
        assert_eq!(open_verified(records.store(), b"kernel").await.err(), Some(Refusal::Unverified));
        assert!(began.elapsed() >= OPEN_PATIENCE && began.elapsed() < OPEN_PATIENCE * 2);
    }

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
