//! One attempt to download a file, from where the last one ended.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{
    Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, IF_RANGE, RANGE},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinError},
    time::sleep,
};

use super::{
    answer::{self, Head},
    client::Client,
    fault::Fault,
    partial::Partial,
    progress::{Observer, Progress},
    rate::TokenBucket,
    upstreams::without_password,
};

/// The pieces that may wait for the disk. More would only fill memory.
const PIECES: usize = 16;

/// The bytes of a web page that are read for its title.
const PAGE_LIMIT: usize = 4 << 10;

/// The bandwidth limit, shared by all downloads.
#[derive(Debug, Default)]
pub(super) struct Limiter(pub(super) Option<Mutex<TokenBucket>>);

impl Limiter {
    async fn pause_for(&self, bytes: u64) {
        let Some(bucket) = &self.0 else { return };
        // The bucket is a few numbers, sound whatever a panic interrupted.
        let pause = bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(bytes, Instant::now());
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// One attempt.
pub(super) struct Download<'d> {
    pub(super) client: &'d Client,
    pub(super) limiter: &'d Limiter,
    pub(super) url: &'d Url,
    /// Set if the content is compared with a hash that is known.
    pub(super) has_checksum: bool,
    /// The fewest bytes per second, unless the bandwidth is limited.
    pub(super) slowest: u64,
    pub(super) observer: Observer<'d>,
}

/// The end of an attempt. The partial file is lost only if a thread of this process failed.
pub(super) struct Ended {
    pub(super) partial: Option<Partial>,
    /// The bytes that this attempt brought.
    pub(super) received: u64,
    pub(super) result: Result<(), Fault>,
}

impl Download<'_> {
    /// Downloads what is missing of the file.
    pub(super) async fn run(&self, partial: Partial) -> Ended {
        if partial.is_complete() {
            return Ended { partial: Some(partial), received: 0, result: Ok(()) };
        }
        let (head, response) = match self.ask(&partial).await {
            Ok(answer) => answer,
            Err(fault) => return Ended { partial: Some(partial), received: 0, result: Err(fault) },
        };
        let (offset, total) = match &head {
            Head::Whole(version) => (0, version.total),
            Head::Rest(version) => (partial.length(), version.total),
            Head::Nothing => return Ended { partial: Some(partial), received: 0, result: Ok(()) },
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let writer = task::spawn_blocking(move || write(partial, head, pieces));
        let mut done = offset;
        let received = self.receive(response, &sender, &mut done, total).await;
        drop(sender);
        match writer.await {
            Ok((partial, written)) => {
                let result = written.and(received);
                Ended { partial: Some(partial), received: done - offset, result }
            }
            Err(error) => Ended { partial: None, received: 0, result: Err(lost(&error)) },
        }
    }

    async fn ask(&self, partial: &Partial) -> Result<(Head, Response), Fault> {
        let mut headers = HeaderMap::new();
        let had = partial.version().filter(|_| partial.length() > 0);
        // Without a validator, the rest could be that of another version.
        let had = had.and_then(|had| Some((had, HeaderValue::from_str(had.validator()?).ok()?)));
        let had = had.map(|(had, validator)| {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", partial.length())) {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, validator);
            }
            had
        });
        (self.observer)(Progress::Asked);
        let mut response = self.client.get(self.url, headers).await?;
        let url = without_password(self.url);
        let head = answer::judge(response.status(), response.headers(), &url, partial.length(), had)?;
        if response.status() == StatusCode::OK && answer::is_declared_a_page(response.headers()) {
            return Err(Fault::WebPage { title: self.title(&mut response).await });
        }
        if !self.has_checksum && !answer::has_an_end(response.headers()) && head != Head::Nothing {
            return Err(Fault::NoLength);
        }
        Ok((head, response))
    }

    async fn title(&self, response: &mut Response) -> String {
        let mut page = Vec::new();
        while let Ok(Some(piece)) = self.client.piece(response, 0, None).await {
            page.extend_from_slice(&piece);
            if page.len() >= PAGE_LIMIT {
                break;
            }
        }
        answer::page_title(&page)
    }

    /// Passes the pieces of the answer on to the writer. Ends without a fault if the writer has one.
    async fn receive(
        &self,
        mut response: Response,
        writer: &mpsc::Sender<Bytes>,
        done: &mut u64,
        total: Option<u64>,
    ) -> Result<(), Fault> {
        let mut start = (*done == 0).then(Vec::new);
        let mut pace = Pace::new(Instant::now());
        (self.observer)(Progress::Receiving { done: *done, total });
        while let Some(piece) = self.client.piece(&mut response, *done, total).await? {
            if let Some(bytes) = &mut start {
                bytes.extend_from_slice(&piece[..piece.len().min(answer::PAGE_START)]);
                if answer::is_a_page(bytes) {
                    return Err(Fault::WebPage { title: answer::page_title(&piece) });
                }
                start = start.filter(|bytes| bytes.len() < answer::PAGE_START);
            }
            let length = piece.len() as u64;
            if let Some(total) = total.filter(|&total| *done + length > total) {
                return Err(Fault::TooLong { total });
            }
            if *done + length > answer::FILE_LIMIT {
                return Err(Fault::OverLimit { limit: answer::FILE_LIMIT });
            }
            self.limiter.pause_for(length).await;
            if writer.send(piece).await.is_err() {
                return Ok(());
            }
            *done += length;
            (self.observer)(Progress::Receiving { done: *done, total });
            // A bandwidth limit may be slower than that for good reason.
            if self.limiter.0.is_none()
                && let Some(received) =
                    pace.is_too_slow(length, self.client.timeouts().slow, self.slowest, Instant::now())
            {
                let span = self.client.timeouts().slow;
                return Err(Fault::TooSlow { span, received, done: *done, total });
            }
        }
        match total {
            Some(total) if *done < total => {
                Err(Fault::Truncated { done: *done, total: Some(total), reason: String::new() })
            }
            _ => Ok(()),
        }
    }
}

/// Writes the pieces as they come, hashing them. In the end there is a checkpoint, however it ends.
fn write(mut partial: Partial, head: Head, mut pieces: mpsc::Receiver<Bytes>) -> (Partial, Result<(), Fault>) {
    let begun = match head {
        Head::Whole(version) if partial.length() > 0 => partial.restart().and_then(|()| partial.begin(version)),
        Head::Whole(version) | Head::Rest(version) => partial.begin(version),
        Head::Nothing => Ok(()),
    };
    let mut written = begun;
    while written.is_ok()
        && let Some(piece) = pieces.blocking_recv()
    {
        written = partial.write(&piece);
    }
    let written = written.and_then(|()| partial.checkpoint());
    (partial, written)
}

/// Returns the fault of a thread of ours that failed.
pub(super) fn lost(error: &JoinError) -> Fault {
    Fault::Disk { what: "writing", path: "the file".into(), reason: error.to_string() }
}

/// The bytes that came in the current span of time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts bytes. Returns those of the span that just ended if they were fewer than `slowest` a second.
    fn is_too_slow(&mut self, bytes: u64, span: Duration, slowest: u64, now: Instant) -> Option<u64> {
        self.bytes += bytes;
        let passed = now.saturating_duration_since(self.since);
        if passed < span {
            return None;
        }
        let received = self.bytes;
        *self = Self::new(now);
        (received < slowest.saturating_mul(passed.as_secs())).then_some(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::client::SLOWEST;

    #[test]
    fn answer_that_trickles_is_told_from_a_slow_one() {
        let start = Instant::now();
        let span = Duration::from_secs(60);
        let mut pace = Pace::new(start);
        for second in 1..60 {
            assert_eq!(pace.is_too_slow(1, span, SLOWEST, start + Duration::from_secs(second)), None);
        }
        assert_eq!(pace.is_too_slow(1, span, SLOWEST, start + span), Some(60));
        let mut pace = Pace::new(start);
        for second in 1..200 {
            assert_eq!(pace.is_too_slow(SLOWEST * 2, span, SLOWEST, start + Duration::from_secs(second)), None);
        }
    }
}
