//! Downloads files into the artifacts directory, each with bounded attempts.

use std::{
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;

use super::{
    client::{Client, ClientError, Timeouts},
    download::Limiter,
    fault::{Fault, FetchError},
    partial,
    peers::Peers,
    place,
    progress::{Observer, Progress},
    rate::TokenBucket,
    retry::{Attempts, RetryPolicy},
    upstreams::{self, without_password},
    work::{Failed, Fetched, Left, Shared, Work},
};
use crate::{
    artifacts::{Content, Records, Sha256, Wanted},
    model::image_source::{ImageSource, Upstreams},
};

/// A partial file that no machine needs any more is kept for this long: the spec of another pxed may need it.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// The settings of a [`Fetcher`].
#[derive(Clone, Debug, Default)]
pub struct FetchConfig {
    /// The servers.
    pub upstreams: Upstreams,
    /// Other nodes whose boot HTTP is asked first: URLs without a slash at their end.
    pub peers: Vec<Arc<str>>,
    /// A file with certificates of authorities that are trusted besides the host's.
    pub ca_certificates: Option<PathBuf>,
    /// The bytes per second of all downloads together.
    pub bandwidth_limit: Option<NonZeroU64>,
    /// The longest times without an answer.
    pub timeouts: Timeouts,
    /// The bounds of repeated attempts.
    pub retry: RetryPolicy,
}

/// A file to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its path, relative to the artifacts directory.
    pub path: Arc<str>,
    /// The upstream file.
    pub source: ImageSource,
    /// The content that it should have.
    pub content: Content,
}

impl Job {
    /// Returns the job for a file of the plan, or `None` if no upstream has it.
    #[must_use]
    pub fn of(wanted: &Wanted) -> Option<Self> {
        let Wanted { path, content, source, .. } = wanted;
        Some(Self { path: Arc::clone(path), source: source.clone()?, content: *content })
    }
}

/// Downloads files. It can be shared: each file is downloaded by one task at a time, of all processes that use the directory.
#[derive(Debug)]
pub struct Fetcher {
    shared: Shared,
    upstreams: Upstreams,
    retry: RetryPolicy,
}

impl Fetcher {
    /// Creates a fetcher for the directory of these records. Nothing is downloaded yet.
    ///
    /// # Errors
    ///
    /// If the file of the authorities cannot be used.
    pub fn new(config: FetchConfig, records: Arc<Records>) -> Result<Self, ClientError> {
        let FetchConfig { upstreams, peers, ca_certificates, bandwidth_limit, timeouts, retry } = config;
        let limiter = bandwidth_limit.map(|limit| Mutex::new(TokenBucket::new(limit, Instant::now())));
        let client = Client::new(ca_certificates.as_deref(), timeouts)?;
        let peers = Peers::new(peers, ca_certificates.as_deref(), timeouts)?;
        Ok(Self { shared: Shared::new(records, client, peers, Limiter(limiter)), upstreams, retry })
    }

    /// Downloads a file, verifies it and moves it to its place. What an earlier attempt or process has left is resumed. If another task
    /// or process is downloading it, waits for that. Dropping the future ends the download in a way that can be resumed.
    ///
    /// # Errors
    ///
    /// If the file is not there after all attempts, or another attempt would be in vain.
    pub async fn fetch(&self, job: &Job, observer: Observer<'_>) -> Result<Fetched, FetchError> {
        let Job { path, source, content } = job;
        let failed =
            |attempts, url: &str, fault| FetchError { path: Arc::clone(path), url: url.into(), attempts, fault };
        let not_a_url = |error: upstreams::BaseUrlError| failed(0, "", Fault::Url(error.to_string()));
        let url = upstreams::url(source, &self.upstreams).map_err(not_a_url)?;
        let published = upstreams::checksums(source, &self.upstreams).map_err(not_a_url)?;
        let shown = without_password(&url);
        place::check(path).map_err(|fault| failed(0, &shown, fault))?;
        let (shared, left) = (&self.shared, Left::default());
        let (content, member) = (*content, source.member());
        let mut work = Work { shared, path, content, url: &url, shown: &shown, member, published, observer, left };
        let mut attempts = Attempts::default();
        loop {
            let Failed { fault, received } = match work.attempt().await {
                Ok(fetched) => return Ok(fetched),
                Err(failed) => failed,
            };
            if let Fault::DiskFull { missing, .. } = fault
                && self.make_room(missing).await
            {
                continue;
            }
            let pause = if work.may_try_again(&fault) {
                attempts.failed(&self.retry, received, fault.retry_after(), rand::random())
            } else {
                attempts.ended();
                None
            };
            let error = failed(attempts.count(), &shown, fault);
            let Some(pause) = pause else { return Err(error) };
            observer(Progress::Pausing { reason: error.reason(), pause });
            sleep(pause).await;
        }
    }

    /// Removes files that nothing needs, for this many bytes. Returns whether there is room now.
    async fn make_room(&self, bytes: u64) -> bool {
        let records = Arc::clone(&self.shared.records);
        let removed = tokio::task::spawn_blocking(move || records.make_room(bytes, SystemTime::now()));
        removed.await.is_ok_and(|removed| !removed.is_empty())
    }

    /// Returns the published checksum of a file with the URL of the file, or `None` if its project publishes none.
    ///
    /// # Errors
    ///
    /// If the list of checksums cannot be had now.
    pub async fn published(&self, job: &Job) -> Result<Option<(Sha256, Arc<str>)>, FetchError> {
        let Job { path, source, .. } = job;
        let failed = |url: &str, fault| FetchError { path: Arc::clone(path), url: url.into(), attempts: 1, fault };
        let not_a_url = |error: upstreams::BaseUrlError| failed("", Fault::Url(error.to_string()));
        let url = without_password(&upstreams::url(source, &self.upstreams).map_err(not_a_url)?);
        let published = upstreams::checksums(source, &self.upstreams).map_err(not_a_url)?;
        let Some(published) = published else { return Ok(None) };
        let expected = self.shared.lists.expected(&self.shared.client, &published).await;
        let expected = expected.map_err(|fault| failed(&url, fault))?;
        let mut sha256 = Sha256([0; 32]);
        if expected.sha256.len() != sha256.0.len() {
            return Ok(None);
        }
        sha256.0.copy_from_slice(&expected.sha256);
        Ok(Some((sha256, url.into())))
    }

    /// Deletes partial files of earlier downloads that `is_wanted` does not name by their artifact's path, and that nobody is downloading.
    /// Blocks.
    pub fn clean(&self, is_wanted: impl Fn(&str) -> bool) {
        if let Ok(directory) = place::partial_directory(self.shared.records.store().root()) {
            partial::clean(&directory, PARTIAL_AGE, SystemTime::now(), is_wanted);
        }
    }
}
