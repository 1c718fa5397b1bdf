//! The deadlines of a worker's transfers.

use std::{collections::BTreeMap, time::Instant};

use super::key::Key;

/// The deadline of each transfer or a time before it; serial numbers tell transfers apart. A deadline that is
/// postponed, as by every acknowledgement, costs nothing until the entry is due. There is never more than one entry for a transfer,
/// however many begin and end.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<(Instant, u64), Key>);

/// The time of a transfer's entry, kept with the transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due(Option<Instant>);

impl Timers {
    /// Returns `true` if no transfer has an entry.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ensures that the transfer is looked at by `deadline`.
    pub(super) fn set(&mut self, due: &mut Due, deadline: Instant, key: Key, serial: u64) {
        if due.0.is_none_or(|due| deadline < due) {
            self.remove(*due, serial);
            due.0 = Some(deadline);
            self.0.insert((deadline, serial), key);
        }
    }

    /// Removes the entry of a transfer that is over.
    pub(super) fn remove(&mut self, due: Due, serial: u64) {
        if let Some(due) = due.0 {
            self.0.remove(&(due, serial));
        }
    }

    /// Takes an entry that is due. Its transfer has none then.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, u64)> {
        let entry = self.0.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, serial), key) = entry.remove_entry();
        Some((key, serial))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddrV4},
        time::Duration,
    };

    use super::*;
    use crate::tftp::key::PortId;

    const KEY: Key = Key { client: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2070), port: PortId(1) };

    #[test]
    fn nearest_deadline_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut timers, mut due) = (Timers::default(), Due::default());
        timers.set(&mut due, at(5), KEY, 1);
        // Later: the entry stays. Earlier: it moves.
        timers.set(&mut due, at(7), KEY, 1);
        timers.set(&mut due, at(2), KEY, 1);
        assert_eq!(timers.0.len(), 1);
        assert_eq!(timers.next(at(1)), None);
        assert_eq!(timers.next(at(2)), Some((KEY, 1)));
        assert!(timers.is_empty());
    }

    #[test]
    fn transfer_that_is_over_leaves_nothing() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let dues = [1, 2].map(|serial| {
            let mut due = Due::default();
            timers.set(&mut due, now, KEY, serial);
            due
        });
        timers.remove(dues[0], 1);
        assert_eq!(timers.next(now), Some((KEY, 2)));
        timers.remove(dues[1], 2);
        assert!(timers.is_empty());
    }
}
