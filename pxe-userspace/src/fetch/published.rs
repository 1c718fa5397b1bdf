//! The published checksums of files, each list fetched once for all its files.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Url;

use super::{
    checksums::{Algorithm, ChecksumError, Checksums, LIST_LIMIT},
    client::Client,
    fault::Fault,
    upstreams::{PublishedChecksums, without_password},
};

/// The time for which a list is used again. A release does not change, but a mirror is filled.
const FRESH: Duration = Duration::from_secs(600);

/// The checksums that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) sha256: Box<[u8]>,
    pub(super) sha512: Option<Box<[u8]>>,
}

/// The lists that were fetched.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Mutex<HashMap<Url, Slot>>,
}

/// A list, or `None` if the server has none, and the time when it came. Whoever fetches it holds the lock, and others wait.
type Slot = Arc<tokio::sync::Mutex<Option<(Option<Arc<Checksums>>, Instant)>>>;

impl Lists {
    /// Returns the published checksums of a file. SHA-512 is optional: mirrors may leave its list out.
    pub(super) async fn expected(&self, client: &Client, published: &PublishedChecksums) -> Result<Expected, Fault> {
        let name = &*published.name;
        let fault = |url: &Url, error: ChecksumError| Fault::Checksum { url: without_password(url), error };
        let list = self.list(client, &published.sha256, Algorithm::Sha256).await?;
        let list = list.ok_or_else(|| missing(&published.sha256))?;
        let sha256 = list.of(name).map_err(|error| fault(&published.sha256, error))?.into();
        let list = self.list(client, &published.sha512, Algorithm::Sha512).await?;
        let sha512 = match list.as_ref().map(|list| list.of(name)) {
            None | Some(Err(ChecksumError::NotListed { .. })) => None,
            Some(Ok(sha512)) => Some(sha512.into()),
            Some(Err(error)) => return Err(fault(&published.sha512, error)),
        };
        Ok(Expected { sha256, sha512 })
    }

    /// Forgets the lists of a file, after its content was another one.
    pub(super) fn forget(&self, published: &PublishedChecksums) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.remove(&published.sha256);
        lists.remove(&published.sha512);
    }

    async fn list(&self, client: &Client, url: &Url, algorithm: Algorithm) -> Result<Option<Arc<Checksums>>, Fault> {
        let slot =
            Arc::clone(self.lists.lock().unwrap_or_else(PoisonError::into_inner).entry(url.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some((list, since)) = &*slot
            && since.elapsed() < FRESH
        {
            return Ok(list.clone());
        }
        let list = match client.text(url, LIST_LIMIT).await {
            Ok(text) => {
                let parsed = Checksums::parse(&text, algorithm);
                Some(Arc::new(parsed.map_err(|error| Fault::Checksum { url: without_password(url), error })?))
            }
            Err(Fault::Status { code: 403 | 404 | 410, .. }) => None,
            Err(fault) => return Err(Fault::ChecksumList { url: without_password(url), fault: Box::new(fault) }),
        };
        // A list that is missing is looked for again: whoever reads the message puts it there.
        if list.is_some() {
            *slot = Some((list.clone(), Instant::now()));
        }
        Ok(list)
    }
}

fn missing(url: &Url) -> Fault {
    let fault = Fault::Status { code: 404, reason: "Not Found".to_owned(), retry_after: None };
    Fault::ChecksumList { url: without_password(url), fault: Box::new(fault) }
}
