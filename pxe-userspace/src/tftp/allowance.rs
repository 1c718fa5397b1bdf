//! A limit of the events that datagrams without proof cause.
//!
//! A request that nobody acknowledges may be forged, and so may one that is refused, for which there is nothing to acknowledge. The
//! journal is told of some, since they explain why a machine does not boot. Many would push out what the machine itself has done.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// The time after which counting begins again.
const PERIOD: Duration = Duration::from_secs(10);
/// The events of one source in this time. A boot has a handful.
const PER_SOURCE: u8 = 20;
/// The events of all sources: those of a fleet whose loader is missing.
const IN_ALL: u32 = 40_000;

/// The events of the current period.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    since: Option<Instant>,
    by_source: HashMap<Ipv4Addr, u8>,
    in_all: u32,
}

impl Allowance {
    /// Returns `true` if the journal may be told of another event of this source.
    pub(super) fn admits(&mut self, now: Instant, source: Ipv4Addr) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.in_all == IN_ALL {
            return false;
        }
        let events = self.by_source.entry(source).or_default();
        if *events == PER_SOURCE {
            return false;
        }
        *events += 1;
        self.in_all += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0000 + number)
    }

    #[test]
    fn source_has_its_events_whatever_others_do() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| allowance.admits(now, source(1))).count(), usize::from(PER_SOURCE));
        assert!(allowance.admits(now, source(2)));
        assert!(!allowance.admits(now + PERIOD / 2, source(1)));
        assert!(allowance.admits(now + PERIOD, source(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        let admitted = (0..1_000_000).filter(|&number| allowance.admits(now, source(number))).count();
        assert_eq!(admitted, IN_ALL as usize);
        assert_eq!(allowance.by_source.len(), IN_ALL as usize);
    }
}
