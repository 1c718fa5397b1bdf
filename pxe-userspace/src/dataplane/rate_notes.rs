//! Tells the journal that a machine's requests were dropped by its rate limit. Seldom, so that a flood of requests is no flood of events.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use pxe_common::MacAddr;

use crate::model::{event::EventKind, failure::TOO_OFTEN};

/// The time between two events about a machine.
const EVERY: Duration = Duration::from_secs(10);
/// The machines that are told of in this time, at most.
const MOST: usize = 1_024;

/// The machines of which the journal was told lately.
#[derive(Debug, Default)]
pub(super) struct RateNotes(HashMap<MacAddr, Instant>);

impl RateNotes {
    /// Returns the event about a request of a machine that was dropped, if the journal has not been told of one lately.
    pub(super) fn note(&mut self, machine: MacAddr, now: Instant) -> Option<EventKind> {
        let is_recent = |told: &Instant| now.saturating_duration_since(*told) < EVERY;
        if self.0.get(&machine).is_some_and(is_recent) {
            return None;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, told| is_recent(told));
        }
        (self.0.len() < MOST).then(|| {
            self.0.insert(machine, now);
            EventKind::Ignored { reason: TOO_OFTEN }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_is_told_of_once_in_a_while() {
        let (mut notes, begun) = (RateNotes::default(), Instant::now());
        let [one, other] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
        assert_eq!(notes.note(one, begun), Some(EventKind::Ignored { reason: TOO_OFTEN }));
        assert_eq!(notes.note(one, begun + EVERY / 2), None);
        assert!(notes.note(other, begun + EVERY / 2).is_some());
        assert!(notes.note(one, begun + EVERY).is_some());
    }

    #[test]
    fn notes_are_bounded() {
        let (mut notes, begun) = (RateNotes::default(), Instant::now());
        let mac = |number: usize| MacAddr([2, 0, 0, 0, (number >> 8) as u8, number as u8]);
        let told = (0..2 * MOST).filter(|&number| notes.note(mac(number), begun).is_some()).count();
        assert_eq!((told, notes.0.len()), (MOST, MOST));
        assert!(notes.note(mac(MOST), begun + EVERY).is_some(), "the others were told of long ago");
    }
}
