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

/// A list and the time when it came. Whoever fetches it holds the lock, and others wait.
type Slot = Arc<tokio::sync::Mutex<Option<(Arc<Checksums>, Instant)>>>;

impl Lists {
    /// Returns the published checksums of a file. SHA-512 is optional: mirrors may leave its list out.
    pub(super) async fn expected(&self, client: &Client, published: &PublishedChecksums) -> Result<Expected, Fault> {
        let name = &*published.name;
        let fault = |url: &Url, error: ChecksumError| Fault::Checksum { url: without_password(url), error };
        let list = self.list(client, &published.sha256, Algorithm::Sha256).await?;
        let list = list.map_err(|status| of_list(&published.sha256, status))?;
        let sha256 = list.of(name).map_err(|error| fault(&published.sha256, error))?.into();
        let list = self.list(client, &published.sha512, Algorithm::Sha512).await?;
        let sha512 = match list.as_ref().ok().map(|list| list.of(name)) {
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

    /// Returns a list, or the status with which the server says that it has none.
    async fn list(
        &self,
        client: &Client,
        url: &Url,
        algorithm: Algorithm,
    ) -> Result<Result<Arc<Checksums>, Fault>, Fault> {
        let slot =
            Arc::clone(self.lists.lock().unwrap_or_else(PoisonError::into_inner).entry(url.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some((list, since)) = &*slot
            && since.elapsed() < FRESH
        {
            return Ok(Ok(Arc::clone(list)));
        }
        let unusable = |error| Fault::Checksum { url: without_password(url), error };
        match client.text(url, LIST_LIMIT).await {
            Ok(text) => {
                let list = Arc::new(Checksums::parse(&text, algorithm).map_err(unusable)?);
                *slot = Some((Arc::clone(&list), Instant::now()));
                Ok(Ok(list))
            }
            // It is looked for again: whoever reads the message puts it there.
            Err(status @ Fault::Status { code: 403 | 404 | 410, .. }) => Ok(Err(status)),
            Err(Fault::OverLimit { .. }) => Err(unusable(ChecksumError::TooLong)),
            Err(fault) => Err(of_list(url, fault)),
        }
    }
}

fn of_list(url: &Url, fault: Fault) -> Fault {
    Fault::ChecksumList { url: without_password(url), fault: Box::new(fault) }
}
