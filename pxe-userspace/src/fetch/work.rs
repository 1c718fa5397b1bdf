//! The work at one file: its published checksum, its lock, its bytes, their verification, its place.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::Url;
use tokio::{sync::Semaphore, task, time::sleep};

use super::{
    archive,
    checksums::{Algorithm, to_hex},
    client::{Client, SLOWEST},
    download::{Download, Ended, Limiter, lost},
    fault::Fault,
    partial::Partial,
    peers::{self, Peers},
    place,
    progress::{Observer, Progress},
    published::{Expected, Lists},
    upstreams::{PublishedChecksums, without_password},
};
use crate::artifacts::{self, Content, Entry, Proof, Records, Sha256};

/// The downloads at the same time.
const PARALLEL: usize = 4;

/// The pause between two looks at whether another process has finished its download.
const LOOK: Duration = Duration::from_millis(200);

/// The most times that a file is downloaded whole and then found to be another one.
const MISMATCHES: u32 = 2;

/// The state that all downloads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) records: Arc<Records>,
    pub(super) client: Client,
    pub(super) peers: Peers,
    pub(super) limiter: Limiter,
    pub(super) lists: Lists,
    places: Semaphore,
}

impl Shared {
    pub(super) fn new(records: Arc<Records>, client: Client, peers: Peers, limiter: Limiter) -> Self {
        Self { records, client, peers, limiter, lists: Lists::default(), places: Semaphore::new(PARALLEL) }
    }
}

/// A file that is in its place, verified and written to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its path, relative to the artifacts directory.
    pub path: Arc<str>,
    /// The URL, without a password.
    pub url: Arc<str>,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// The reason to trust the hash.
    pub proof: Proof,
}

/// The work at one file, with what attempts leave to the next.
pub(super) struct Work<'w> {
    pub(super) shared: &'w Shared,
    pub(super) path: &'w Arc<str>,
    pub(super) content: Content,
    pub(super) url: &'w Url,
    /// The URL without a password.
    pub(super) shown: &'w str,
    /// The path of the file in the archive that the URL is of.
    pub(super) member: Option<&'w Arc<str>>,
    pub(super) published: Option<PublishedChecksums>,
    pub(super) observer: Observer<'w>,
    pub(super) left: Left,
}

/// The state that an attempt leaves to the next.
#[derive(Default)]
pub(super) struct Left {
    expected: Option<Expected>,
    partial: Option<Partial>,
    /// The most bytes that were there so far.
    reached: u64,
    mismatches: u32,
    /// Set after the peers were asked.
    has_asked_peers: bool,
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The bytes that it brought and that no attempt before it had.
    pub(super) received: u64,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, received: 0 }
    }
}

impl Work<'_> {
    /// Makes one attempt.
    pub(super) async fn attempt(&mut self) -> Result<Fetched, Failed> {
        if self.shared.records.is_a_persons(self.path) {
            return Err(Fault::ByHand.into());
        }
        if let Some(published) = &self.published
            && self.left.expected.is_none()
        {
            match self.shared.lists.expected(&self.shared.client, published).await {
                Ok(expected) => self.left.expected = Some(expected),
                // A peer may have what was recorded once.
                Err(fault) if self.left.partial.is_none() && self.may_ask_peers() => {
                    return match self.begin().await? {
                        Begun::Done(fetched) => Ok(fetched),
                        Begun::Partial(partial) => {
                            self.left.partial = Some(*partial);
                            Err(fault.into())
                        }
                    };
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        let partial = match self.left.partial.take() {
            Some(partial) => partial,
            None => match self.begin().await? {
                Begun::Partial(partial) => *partial,
                Begun::Done(fetched) => return Ok(fetched),
            },
        };
        let (client, has_checksum) = (&self.shared.client, self.left.expected.is_some());
        let from = Source { client, url: self.url, has_checksum, slowest: SLOWEST };
        let Ended { partial, received, result } = self.download(partial, from).await?;
        let Some(partial) = partial else {
            return Err(Failed { fault: result.err().unwrap_or(Fault::Changed), received });
        };
        // Bytes that came once more, from a server that cannot send the rest, are no progress.
        let received = received.min(partial.length().saturating_sub(self.left.reached));
        self.left.reached = self.left.reached.max(partial.length());
        match result {
            Ok(()) => match self.accept(partial, self.shown.into(), self.member.cloned()).await {
                Err(fault @ Fault::Mismatch { .. }) => {
                    // The list may be older than the file.
                    self.left.mismatches += 1;
                    self.left.expected = None;
                    if let Some(published) = &self.published {
                        self.shared.lists.forget(published);
                    }
                    Err(Failed { fault, received })
                }
                accepted => accepted.map_err(|fault| Failed { fault, received }),
            },
            Err(fault) if fault.spoils_the_part() => {
                partial.discard();
                Err(Failed { fault, received })
            }
            Err(fault) => {
                self.left.partial = Some(partial);
                Err(Failed { fault, received })
            }
        }
    }

    /// Locks the partial file. Then asks the peers, if nothing of the file is there.
    async fn begin(&mut self) -> Result<Begun, Fault> {
        let partial = match self.lock().await? {
            done @ Begun::Done(_) => return Ok(done),
            Begun::Partial(partial) => partial,
        };
        if partial.length() == 0 && self.may_ask_peers() {
            self.ask_peers(*partial).await
        } else {
            Ok(Begun::Partial(partial))
        }
    }

    /// Returns whether the bytes of a peer can be verified: by a published checksum, or by the hash that this host has recorded.
    fn may_ask_peers(&self) -> bool {
        let is_known = || self.left.expected.is_some() || self.shared.records.entry(self.path).is_some();
        !self.left.has_asked_peers && !self.shared.peers.is_empty() && is_known()
    }

    /// Asks each peer once. What none of them has is left to the upstream.
    async fn ask_peers(&mut self, mut partial: Partial) -> Result<Begun, Fault> {
        let shared = self.shared;
        self.left.has_asked_peers = true;
        for url in shared.peers.urls(self.path) {
            let from = Source { client: &shared.peers.client, url: &url, has_checksum: true, slowest: peers::SLOWEST };
            let Ended { partial: ended, result, .. } = self.download(partial, from).await?;
            // If a thread of this process has failed, the file begins again.
            partial = match ended {
                Some(ended) => ended,
                None => match self.lock().await? {
                    done @ Begun::Done(_) => return Ok(done),
                    Begun::Partial(partial) => *partial,
                },
            };
            let shown: Arc<str> = without_password(&url).into();
            let fault = match result {
                Ok(()) => match self.accept(partial, Arc::clone(&shown), None).await {
                    Ok(fetched) => return Ok(Begun::Done(fetched)),
                    Err(fault) => {
                        partial = match self.lock().await? {
                            done @ Begun::Done(_) => return Ok(done),
                            Begun::Partial(partial) => *partial,
                        };
                        fault
                    }
                },
                Err(fault) => fault,
            };
            if fault.is_of_disk() || fault == Fault::ByHand {
                // With room on the disk, the peers are asked again.
                self.left.has_asked_peers = false;
                return Err(fault);
            }
            let is_absent = matches!(fault, Fault::Status { code: 404 | 503, .. });
            if is_absent {
                tracing::debug!("{}: {shown} does not have it", self.path);
            } else {
                tracing::warn!("{}: not taken from {shown}: {fault}; trying elsewhere", self.path);
            }
            partial.restart()?;
        }
        Ok(Begun::Partial(Box::new(partial)))
    }

    /// Returns whether another attempt may succeed.
    pub(super) fn may_try_again(&self, fault: &Fault) -> bool {
        fault.may_pass() && self.left.mismatches < MISMATCHES
    }

    /// Locks the partial file and goes on from what is in it. Waits for whoever has it, and then finds the file in its place.
    async fn lock(&self) -> Result<Begun, Fault> {
        let with_sha512 = self.left.expected.as_ref().is_some_and(|expected| expected.sha512.is_some());
        let mut has_waited = false;
        loop {
            let (records, path, shown) =
                (Arc::clone(&self.shared.records), Arc::clone(self.path), self.shown.to_owned());
            let locked = blocking(move || {
                let directory = place::partial_directory(records.store().root())?;
                let Some(mut partial) = Partial::try_lock(&directory, &path, with_sha512)? else { return Ok(None) };
                if has_waited && let Some(fetched) = done(&records, &path) {
                    partial.discard();
                    return Ok(Some(Begun::Done(fetched)));
                }
                partial.resume(&shown)?;
                Ok(Some(Begun::Partial(Box::new(partial))))
            });
            if let Some(locked) = locked.await? {
                return Ok(locked);
            }
            if !has_waited {
                (self.observer)(Progress::Elsewhere);
            }
            has_waited = true;
            sleep(LOOK).await;
        }
    }

    async fn download(&self, partial: Partial, from: Source<'_>) -> Result<Ended, Fault> {
        let _place = match self.shared.places.try_acquire() {
            Ok(place) => place,
            Err(_) => {
                (self.observer)(Progress::Queued);
                let closed = |error: tokio::sync::AcquireError| Fault::Answer(error.to_string());
                self.shared.places.acquire().await.map_err(closed)?
            }
        };
        let download = Download {
            client: from.client,
            limiter: &self.shared.limiter,
            url: from.url,
            has_checksum: from.has_checksum,
            slowest: from.slowest,
            observer: self.observer,
        };
        Ok(download.run(partial).await)
    }

    /// Verifies a complete file, moves it to its place and records it. Otherwise deletes it, unless the fault is the disk's.
    async fn accept(&self, partial: Partial, url: Arc<str>, member: Option<Arc<str>>) -> Result<Fetched, Fault> {
        let (records, path) = (Arc::clone(&self.shared.records), Arc::clone(self.path));
        let (expected, content) = (self.left.expected.clone(), self.content);
        blocking(move || {
            let Some(member) = member else {
                return keep(partial, &records, path, url, content, expected.as_ref());
            };
            let archive = partial;
            let directory = place::partial_directory(records.store().root())?;
            let kept = archive::unpack(&archive, &directory, &path, &member)
                .and_then(|unpacked| keep(unpacked, &records, path, url, content, expected.as_ref()));
            // With room on the disk, the archive is good for another attempt.
            if !kept.as_ref().err().is_some_and(Fault::is_of_disk) {
                archive.discard();
            }
            kept
        })
        .await
    }
}

/// Verifies a complete file, moves it to its place and records it. What is not the right file is deleted.
fn keep(
    partial: Partial,
    records: &Records,
    path: Arc<str>,
    url: Arc<str>,
    content: Content,
    expected: Option<&Expected>,
) -> Result<Fetched, Fault> {
    let recorded = records.entry(&path);
    let sha256 = match verified(&partial, content, expected, recorded.as_ref()) {
        Ok(sha256) => sha256,
        Err(fault) => {
            partial.discard();
            return Err(fault);
        }
    };
    let proof = match (expected, recorded) {
        (Some(_), _) => Proof::PublishedChecksum,
        // The hash is the recorded one, and so is the reason to trust it.
        (None, Some(Entry { proof: Proof::PublishedChecksum, .. })) => Proof::PublishedChecksum,
        (None, _) => Proof::FirstDownload,
    };
    let length = partial.length();
    partial.sync()?;
    place::make_readable(partial.file(), partial.path())?;
    place::prepare(records.store().root(), &path)?;
    let _ = records.refresh();
    // A person may have put it there during the download.
    if records.is_a_persons(&path) {
        partial.discard();
        return Err(Fault::ByHand);
    }
    let download = artifacts::Download { sha256, proof, source: Some(Arc::clone(&url)) };
    place::install(records, partial.path(), &path, download, SystemTime::now())?;
    partial.moved();
    Ok(Fetched { path, url, length, sha256, proof })
}

/// The server of an attempt.
struct Source<'f> {
    client: &'f Client,
    url: &'f Url,
    has_checksum: bool,
    slowest: u64,
}

/// A partial file that was locked, or the whole one.
enum Begun {
    Partial(Box<Partial>),
    /// A peer had it, or another task or process has downloaded it meanwhile.
    Done(Fetched),
}

/// Returns the file that another task or process has downloaded.
fn done(records: &Records, path: &Arc<str>) -> Option<Fetched> {
    let _ = records.refresh();
    let Entry { sha256, proof, source, file, .. } = records.entry(path).filter(|_| records.is_as_recorded(path))?;
    let url = source.unwrap_or_default();
    Some(Fetched { path: Arc::clone(path), url, length: file?.size, sha256, proof })
}

/// Returns the hash of a complete file that is what it should be: as published, or else as it was recorded, if it was, and with this content.
fn verified(
    partial: &Partial,
    content: Content,
    expected: Option<&Expected>,
    recorded: Option<&Entry>,
) -> Result<Sha256, Fault> {
    let hashes = partial.hashes();
    let mut sha256 = Sha256([0; 32]);
    sha256.0.copy_from_slice(hashes.sha256.as_ref());
    match expected {
        Some(Expected { sha256: expected, sha512 }) => {
            let pairs = [
                (Algorithm::Sha256, Some(expected), Some(hashes.sha256)),
                (Algorithm::Sha512, sha512.as_ref(), hashes.sha512),
            ];
            for (algorithm, expected, found) in pairs {
                if let (Some(expected), Some(found)) = (expected, found)
                    && **expected != *found.as_ref()
                {
                    let (expected, found) = (to_hex(expected), to_hex(found.as_ref()));
                    return Err(Fault::Mismatch { algorithm, expected, found });
                }
            }
        }
        None => {
            if let Some(conflict) = recorded_conflict(recorded, sha256) {
                return Err(conflict);
            }
        }
    }
    match partial.implausible(content)? {
        Some(reason) => Err(Fault::Implausible(reason)),
        None => Ok(sha256),
    }
}

/// Returns the fault of a file without a published checksum that is not the one that was recorded.
pub(super) fn recorded_conflict(recorded: Option<&Entry>, found: Sha256) -> Option<Fault> {
    let entry = recorded.filter(|entry| entry.sha256 != found)?;
    Some(Fault::OtherBytes { recorded: entry.sha256.to_string(), found: found.to_string() })
}

/// Runs what waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    task::spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(&error)))
}
