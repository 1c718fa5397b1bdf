//! The reads of a worker's transfers that wait for the disk: a few at a time, and those of transfers that have ended are forgotten.
//!
//! Threads that wait for the disk also save the state and look after the interfaces. Requests that cost their senders nothing must not
//! occupy all of these, nor pile up while the disk hangs.

use std::collections::BTreeMap;

use super::key::Key;

/// The reads of one worker that are under way at most.
const LIMIT: usize = 16;

/// A read that has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The transfer that waits for it.
    pub(super) key: Key,
    /// Tells it from others that had the same key.
    pub(super) serial: u64,
    /// The place in the file to read from, in bytes.
    pub(super) offset: u64,
}

/// The reads, by the age of their transfers. A transfer waits for one read at most.
#[derive(Debug, Default)]
pub(super) struct DiskQueue {
    under_way: usize,
    of_machines: BTreeMap<u64, Read>,
    of_strangers: BTreeMap<u64, Read>,
}

impl DiskQueue {
    /// Adds a read of a transfer, which is or is not a machine's.
    pub(super) fn push(&mut self, read: Read, is_machine: bool) {
        let waiting = if is_machine { &mut self.of_machines } else { &mut self.of_strangers };
        waiting.insert(read.serial, read);
    }

    /// Begins the next read, if there is one and it has its turn. Machines come first.
    pub(super) fn begin(&mut self) -> Option<Read> {
        if self.under_way >= LIMIT {
            return None;
        }
        let (_, read) = self.of_machines.pop_first().or_else(|| self.of_strangers.pop_first())?;
        self.under_way += 1;
        Some(read)
    }

    /// Records that a read that was begun has ended.
    pub(super) fn end(&mut self) {
        self.under_way -= 1;
    }

    /// Forgets the waiting read of a transfer that is over.
    pub(super) fn forget(&mut self, serial: u64) {
        self.of_machines.remove(&serial);
        self.of_strangers.remove(&serial);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::tftp::key::PortId;

    fn read(serial: u64) -> Read {
        let key = Key { client: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2070), port: PortId(1) };
        Read { key, serial, offset: 0 }
    }

    #[test]
    fn few_reads_are_under_way_however_many_wait() {
        let mut queue = DiskQueue::default();
        (0..20_000).for_each(|serial| queue.push(read(serial), false));
        queue.push(read(20_000), true);
        let begun: Vec<_> = std::iter::from_fn(|| queue.begin()).map(|read| read.serial).collect();
        assert_eq!((begun.len(), begun[0], begun[1]), (LIMIT, 20_000, 0), "a machine's, then the oldest");
        queue.end();
        assert_eq!(queue.begin(), Some(read(LIMIT as u64 - 1)));
        assert_eq!(queue.begin(), None);
    }

    #[test]
    fn transfers_that_are_over_leave_nothing_behind_while_the_disk_hangs() {
        let mut queue = DiskQueue::default();
        for serial in 0..100_000 {
            queue.push(read(serial), serial % 2 == 0);
            let _ = queue.begin();
            queue.forget(serial);
        }
        assert_eq!((queue.under_way, queue.of_machines.len() + queue.of_strangers.len()), (LIMIT, 0));
    }
}
