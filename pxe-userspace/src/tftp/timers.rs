//! The deadlines of a worker's transfers.

use std::{cmp::Reverse, collections::BinaryHeap, net::SocketAddrV4, time::Instant};

/// A time, and the transfer to look at then: its client and serial number.
type Entry = (Instant, SocketAddrV4, u64);

/// A queue with one valid entry for each transfer, due at its deadline or before. A deadline that is postponed, as by every
/// acknowledgement, costs nothing until the entry is due. A deadline that is brought forward gets another entry, which makes the
/// former invalid.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Entry>>);

/// The time of the valid entry, kept with the transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due(Option<Instant>);

impl Timers {
    /// Returns `true` if no transfer has an entry.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ensures that the transfer is looked at by `deadline`.
    pub(super) fn set(&mut self, due: &mut Due, deadline: Instant, client: SocketAddrV4, serial: u64) {
        if due.0.is_none_or(|due| deadline < due) {
            due.0 = Some(deadline);
            self.0.push(Reverse((deadline, client, serial)));
        }
    }

    /// Takes an entry that is due. It is valid if its transfer's [`Due`] equals the returned one.
    pub(super) fn next(&mut self, now: Instant) -> Option<(SocketAddrV4, u64, Due)> {
        let entry = self.0.peek_mut().filter(|entry| entry.0.0 <= now)?;
        let Reverse((due, client, serial)) = std::collections::binary_heap::PeekMut::pop(entry);
        Some((client, serial, Due(Some(due))))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[test]
    fn nearest_deadline_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let client = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2070);
        let (mut timers, mut due) = (Timers::default(), Due::default());
        timers.set(&mut due, at(5), client, 1);
        // Later: no new entry. Earlier: another one.
        timers.set(&mut due, at(7), client, 1);
        timers.set(&mut due, at(2), client, 1);
        assert_eq!(timers.next(at(1)), None);
        assert_eq!(timers.next(at(2)), Some((client, 1, due)));
        let (_, _, stale) = timers.next(at(9)).unwrap();
        assert_ne!(stale, due);
        assert!(timers.is_empty());
    }
}
