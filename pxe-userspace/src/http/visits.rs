//! Requests that belong to no machine's journal: remembered for `pxed status`, counted, and logged at a bounded rate.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::metrics::{Metrics, Visited};
use crate::model::visitors::{Match, Outcome, SharedVisitors, Visit};

/// The time after which a client may cause another line of the same outcome.
const INTERVAL: Duration = Duration::from_secs(1);

/// The lines that a client may cause at once: more than one boot has.
const BURST: u32 = 16;

/// The same for all clients together.
const INTERVAL_OF_ALL: Duration = Duration::from_millis(20);
const BURST_OF_ALL: u32 = 256;

/// The most clients and outcomes that are told apart. When there are more, those that may log at once are forgotten.
const SOURCE_LIMIT: usize = 2048;

/// The findings of a handler about a request.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) matched: Option<Match>,
}

impl From<Outcome> for Finding {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, matched: None }
    }
}

/// The record of visits.
#[derive(Debug, Default)]
pub struct Visits {
    visitors: SharedVisitors,
    limiter: Mutex<Limiter>,
}

impl Visits {
    /// Creates a record that is kept in this table.
    #[must_use]
    pub fn new(visitors: SharedVisitors) -> Self {
        Self { visitors, limiter: Mutex::default() }
    }

    /// Records a request and its outcome.
    pub(super) fn record(&self, metrics: &Metrics, visit: Visit) {
        let kind = Visited::of(&visit.outcome);
        metrics.visited(kind);
        let admitted = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.admit(Instant::now(), (visit.address, kind))
        };
        if let Some(held_back) = admitted {
            log(&visit, held_back);
        }
        self.visitors.lock().record(visit);
    }
}

fn log(visit: &Visit, held_back: u64) {
    let Visit { at: _, address: client, mac, uuid: _, request, status, outcome, matched } = visit;
    let mac = mac.map(tracing::field::display);
    let matched = matched.as_ref();
    let (group, profile) = (matched.map(|matched| &*matched.group), matched.map(|matched| &*matched.profile));
    // Only if there are any.
    let held_back = (held_back > 0).then_some(held_back);
    match outcome {
        Outcome::Served | Outcome::NoRoute => {
            tracing::info!(%client, mac, status, group, profile, held_back, "{request}: {outcome}");
        }
        _ => tracing::warn!(%client, mac, status, group, profile, held_back, "{request}: {outcome}"),
    }
}

/// Bounds the lines for each client and outcome, and for all together.
#[derive(Debug, Default)]
struct Limiter {
    sources: HashMap<(IpAddr, Visited), Bucket>,
    all: Bucket,
}

impl Limiter {
    /// Returns the number of lines that were held back since this source's last one, if a line may be written now.
    fn admit(&mut self, now: Instant, source: (IpAddr, Visited)) -> Option<u64> {
        let Self { sources, all } = self;
        if sources.len() >= SOURCE_LIMIT && !sources.contains_key(&source) {
            for (_, quiet) in sources.extract_if(|_, bucket| !bucket.is_used(now)) {
                all.held_back += quiet.held_back;
            }
        }
        let is_crowded = sources.len() >= SOURCE_LIMIT && !sources.contains_key(&source);
        if is_crowded || !all.has_room(now, INTERVAL_OF_ALL * BURST_OF_ALL) {
            all.held_back += 1;
            return None;
        }
        let bucket = sources.entry(source).or_default();
        if !bucket.has_room(now, INTERVAL * BURST) {
            bucket.held_back += 1;
            return None;
        }
        all.take(now, INTERVAL_OF_ALL);
        bucket.take(now, INTERVAL);
        Some(std::mem::take(&mut bucket.held_back) + std::mem::take(&mut all.held_back))
    }
}

/// A token bucket, as the time at which it will be full again.
#[derive(Debug, Default)]
struct Bucket {
    full: Option<Instant>,
    held_back: u64,
}

impl Bucket {
    fn is_used(&self, now: Instant) -> bool {
        self.full.is_some_and(|full| full > now)
    }

    fn has_room(&self, now: Instant, capacity: Duration) -> bool {
        self.full.is_none_or(|full| full.saturating_duration_since(now) < capacity)
    }

    fn take(&mut self, now: Instant, interval: Duration) {
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(host: u16) -> IpAddr {
        let [high, low] = host.to_be_bytes();
        [10, 0, high, low].into()
    }

    fn lines(limiter: &mut Limiter, now: Instant, source: (IpAddr, Visited), requests: u32) -> (usize, u64) {
        let admitted: Vec<u64> = (0..requests).filter_map(|_| limiter.admit(now, source)).collect();
        (admitted.len(), admitted.iter().sum())
    }

    #[test]
    fn client_may_log_a_burst_and_then_a_line_each_second() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let (one, other) = ((source(1), Visited::NoGroup), (source(1), Visited::NoFile));
        assert_eq!(lines(&mut limiter, start, one, 100), (BURST as usize, 0));
        // Another outcome, and another client, are not held back.
        assert_eq!(lines(&mut limiter, start, other, 1), (1, 0));
        assert_eq!(lines(&mut limiter, start, (source(2), Visited::NoGroup), 1), (1, 0));
        let held_back = u64::from(100 - BURST);
        assert_eq!(lines(&mut limiter, start + INTERVAL, one, 10), (1, held_back));
        assert_eq!(lines(&mut limiter, start + 2 * INTERVAL, one, 1), (1, 9));
        assert_eq!(lines(&mut limiter, start + 1000 * INTERVAL, one, 100), (BURST as usize, 0));
    }

    #[test]
    fn all_clients_together_are_bounded() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let mut written = 0;
        for host in 0..u16::MAX {
            written += lines(&mut limiter, start, (source(host), Visited::NoGroup), 1).0;
        }
        assert_eq!(written, BURST_OF_ALL as usize);
        // Nothing that was held back is lost.
        let later = start + Duration::from_secs(60);
        let held_back = u64::from(u16::MAX) - u64::from(BURST_OF_ALL);
        assert_eq!(lines(&mut limiter, later, (source(u16::MAX), Visited::NoGroup), 1), (1, held_back));
    }

    #[test]
    fn quiet_clients_make_room_for_others() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let mut now = start;
        for host in 0..u16::MAX {
            now += INTERVAL_OF_ALL;
            assert_eq!(lines(&mut limiter, now, (source(host), Visited::NoGroup), 1).0, 1, "{host}");
            assert!(limiter.sources.len() <= SOURCE_LIMIT);
        }
    }
}
