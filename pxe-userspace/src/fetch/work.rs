//! The work at one file: its published checksum, its lock, its bytes, their verification, its place.

use std::{path::PathBuf, sync::Arc, time::Duration};

use reqwest::Url;
use tokio::{sync::Semaphore, task, time::sleep};

use super::{
    checksums::{Algorithm, to_hex},
    client::Client,
    download::{Download, Ended, Limiter, lost},
    fault::Fault,
    partial::Partial,
    place,
    progress::{Observer, Progress},
    published::{Expected, Lists},
    upstreams::PublishedChecksums,
};

/// The downloads at the same time.
const PARALLEL: usize = 4;

/// The pause between two looks at whether another process has finished its download.
const LOOK: Duration = Duration::from_millis(200);

/// The most times that a file is downloaded whole and then found to be another one.
const MISMATCHES: u32 = 2;

/// What all downloads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    pub(super) client: Client,
    pub(super) limiter: Limiter,
    lists: Lists,
    places: Semaphore,
}

impl Shared {
    pub(super) fn new(root: PathBuf, client: Client, limiter: Limiter) -> Self {
        Self { root, client, limiter, lists: Lists::default(), places: Semaphore::new(PARALLEL) }
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
    pub sha256: [u8; 32],
    /// Set if it has the checksum that its project publishes. Otherwise none is published.
    pub is_published: bool,
}

/// The work at one file, with what attempts leave to the next.
pub(super) struct Work<'w> {
    pub(super) shared: &'w Shared,
    pub(super) path: &'w Arc<str>,
    pub(super) url: &'w Url,
    /// The URL without a password.
    pub(super) shown: &'w str,
    pub(super) published: Option<PublishedChecksums>,
    pub(super) observer: Observer<'w>,
    pub(super) left: Left,
}

/// What attempts leave to the next.
#[derive(Default)]
pub(super) struct Left {
    expected: Option<Expected>,
    partial: Option<Partial>,
    mismatches: u32,
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The bytes that it brought.
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
        if let Some(published) = &self.published
            && self.left.expected.is_none()
        {
            self.left.expected = Some(self.shared.lists.expected(&self.shared.client, published).await?);
        }
        let partial = match self.left.partial.take() {
            Some(partial) => partial,
            None => self.lock().await?,
        };
        let Ended { partial, received, result } = self.download(partial).await?;
        let Some(partial) = partial else {
            return Err(Failed { fault: result.err().unwrap_or(Fault::Changed), received });
        };
        match result {
            Ok(()) => match self.accept(partial).await {
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

    /// Returns whether another attempt may succeed.
    pub(super) fn may_try_again(&self, fault: &Fault) -> bool {
        fault.may_pass() && self.left.mismatches < MISMATCHES
    }

    /// Locks the partial file, waiting for whoever has it, and goes on from what is in it.
    async fn lock(&self) -> Result<Partial, Fault> {
        let directory = place::partial_directory(&self.shared.root)?;
        let with_sha512 = self.left.expected.as_ref().is_some_and(|expected| expected.sha512.is_some());
        loop {
            let (directory, artifact, shown) = (directory.clone(), Arc::clone(self.path), self.shown.to_owned());
            let locked = blocking(move || {
                let partial = Partial::try_lock(&directory, &artifact, with_sha512)?;
                partial.map(|mut partial| partial.resume(&shown).map(|()| partial)).transpose()
            });
            if let Some(partial) = locked.await? {
                return Ok(partial);
            }
            (self.observer)(Progress::Elsewhere);
            sleep(LOOK).await;
        }
    }

    async fn download(&self, partial: Partial) -> Result<Ended, Fault> {
        let _place = match self.shared.places.try_acquire() {
            Ok(place) => place,
            Err(_) => {
                (self.observer)(Progress::Queued);
                let closed = |error: tokio::sync::AcquireError| Fault::Answer(error.to_string());
                self.shared.places.acquire().await.map_err(closed)?
            }
        };
        let download = Download {
            client: &self.shared.client,
            limiter: &self.shared.limiter,
            url: self.url,
            has_checksum: self.left.expected.is_some(),
            observer: self.observer,
        };
        Ok(download.run(partial).await)
    }

    /// Verifies a complete file and moves it to its place. Otherwise deletes it, unless the fault is the disk's.
    async fn accept(&self, partial: Partial) -> Result<Fetched, Fault> {
        let (root, path, url) = (self.shared.root.clone(), Arc::clone(self.path), Arc::from(self.shown));
        let expected = self.left.expected.clone();
        blocking(move || {
            let hashes = partial.hashes();
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(hashes.sha256.as_ref());
            if let Some(expected) = &expected {
                let pairs = [
                    (Algorithm::Sha256, Some(&expected.sha256), Some(hashes.sha256)),
                    (Algorithm::Sha512, expected.sha512.as_ref(), hashes.sha512),
                ];
                for (algorithm, expected, found) in pairs {
                    if let (Some(expected), Some(found)) = (expected, found)
                        && **expected != *found.as_ref()
                    {
                        let (expected, found) = (to_hex(expected), to_hex(found.as_ref()));
                        partial.discard();
                        return Err(Fault::Mismatch { algorithm, expected, found });
                    }
                }
            }
            let length = partial.length();
            if length == 0 {
                partial.discard();
                return Err(Fault::Implausible("it is empty".to_owned()));
            }
            partial.sync()?;
            place::make_readable(partial.file(), partial.path())?;
            place::move_into(&root, partial.path(), &path)?;
            partial.moved();
            Ok(Fetched { path, url, length, sha256, is_published: expected.is_some() })
        })
        .await
    }
}

/// Runs what waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    task::spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(&error)))
}
