//! Lines that wait to be written: a bounded number of bytes, shared by the threads that log and the one that writes.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;

/// Lines between those who log them and the thread that writes them. Its lock is held only while bytes are copied.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    waiting: Mutex<Waiting>,
    /// Signalled when lines have been pushed.
    pushed: Condvar,
    /// Signalled when lines have been taken, and when the taken ones have been written.
    taken: Condvar,
    /// Counts the lines that were never written.
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The number of lines that were dropped after these.
    gap: u64,
    /// Set while lines that were taken are not written yet.
    is_writing: bool,
}

/// Lines taken from the queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    /// The number of lines that were dropped after these.
    pub(super) gap: u64,
}

impl Queue {
    /// Creates a queue that holds this many bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            waiting: Mutex::default(),
            pushed: Condvar::new(),
            taken: Condvar::new(),
            dropped: Counter::default(),
        }
    }

    /// Returns the counter of lines that were never written.
    pub(super) fn dropped(&self) -> &Counter {
        &self.dropped
    }

    /// Appends whole lines. If they do not fit, waits for room for at most `patience`, then drops and counts them. Once a line was
    /// dropped, so are all others until the next [`Self::take`], without waiting: then each gap has its place between two batches.
    pub(super) fn push_within(&self, patience: Duration, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let has_no_room = |waiting: &Waiting| waiting.lines.len() + lines.len() > self.capacity;
        let mut waiting = self.lock();
        if !patience.is_zero() {
            let waits = |waiting: &mut Waiting| waiting.gap == 0 && has_no_room(waiting);
            let waited = self.taken.wait_timeout_while(waiting, patience, waits);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.gap > 0 || has_no_room(&waiting) {
            let count = count(lines);
            waiting.gap += count;
            self.dropped.inc_by(count);
            return;
        }
        waiting.lines.extend_from_slice(lines);
        drop(waiting);
        self.pushed.notify_one();
    }

    /// Waits for lines and takes all of them, in exchange for the written ones of the last batch.
    pub(super) fn take(&self, batch: &mut Batch) {
        batch.lines.clear();
        let mut waiting = self.lock();
        waiting.is_writing = false;
        self.taken.notify_all();
        while waiting.lines.is_empty() && waiting.gap == 0 {
            waiting = self.pushed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut waiting.lines, &mut batch.lines);
        batch.gap = std::mem::take(&mut waiting.gap);
        waiting.is_writing = true;
        self.taken.notify_all();
    }

    /// Waits until every line is written. Returns `false` if the time is up before.
    pub(super) fn wait_until_written(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut waiting = self.lock();
        while waiting.is_writing || !waiting.lines.is_empty() || waiting.gap > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self.taken.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of lines, of which the last may lack its end.
pub(super) fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
    ends + u64::from(lines.last().is_some_and(|&last| last != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queue {
        fn push(&self, lines: &[u8]) {
            self.push_within(Duration::ZERO, lines);
        }
    }

    fn take(queue: &Queue) -> (String, u64) {
        let mut batch = Batch::default();
        queue.take(&mut batch);
        (String::from_utf8(batch.lines).unwrap(), batch.gap)
    }

    #[test]
    fn lines_beyond_the_capacity_are_dropped_and_counted() {
        let queue = Queue::new(8);
        for line in ["one\n", "two\n", "three\n", "4\n", "5\n6\n"] {
            queue.push(line.as_bytes());
        }
        assert_eq!(take(&queue), ("one\ntwo\n".to_owned(), 4));
        assert_eq!(queue.dropped().get(), 4);
    }

    #[test]
    fn gap_stands_between_two_batches() {
        let queue = Queue::new(8);
        queue.push(b"1234567\n");
        queue.push(b"lost\n");
        // It would fit once the batch is taken, but comes after a line that was lost.
        queue.push(b"8\n");
        assert_eq!(take(&queue), ("1234567\n".to_owned(), 2));
        queue.push(b"9\n");
        assert_eq!(take(&queue), ("9\n".to_owned(), 0));
    }

    #[test]
    fn line_longer_than_the_queue_is_dropped() {
        let queue = Queue::new(4);
        queue.push(&[b'x'; 5]);
        queue.push(b"");
        assert_eq!(take(&queue), (String::new(), 1));
    }

    #[test]
    fn room_is_waited_for_and_not_for_longer_than_allowed() {
        let queue = Queue::new(4);
        queue.push(b"one\n");
        std::thread::scope(|scope| {
            scope.spawn(|| queue.push_within(Duration::from_secs(30), b"two\n"));
            assert_eq!(take(&queue), ("one\n".to_owned(), 0));
            assert_eq!(take(&queue), ("two\n".to_owned(), 0));
        });
        queue.push(b"six\n");
        queue.push_within(Duration::from_millis(1), b"7\n");
        // Lines follow that would be waited for, had not one been dropped.
        queue.push_within(Duration::from_secs(3600), b"8\n");
        assert_eq!(take(&queue), ("six\n".to_owned(), 2));
    }

    #[test]
    fn writing_is_waited_for_until_the_next_take_and_not_for_longer_than_allowed() {
        let queue = Queue::new(8);
        assert!(queue.wait_until_written(Duration::ZERO));
        queue.push(b"one\n");
        assert!(!queue.wait_until_written(Duration::ZERO), "it waits to be taken");
        take(&queue);
        assert!(!queue.wait_until_written(Duration::from_millis(1)), "it is being written");
        let writer = std::thread::scope(|scope| {
            // The next take says that the batch is written, and waits.
            let writer = scope.spawn(|| take(&queue));
            assert!(queue.wait_until_written(Duration::from_secs(30)));
            queue.push(b"two\n");
            writer.join().unwrap()
        });
        assert_eq!(writer, ("two\n".to_owned(), 0));
    }

    #[test]
    fn unfinished_line_counts() {
        assert_eq!([&b""[..], b"a", b"a\n", b"a\nb", b"\n\n"].map(count), [0, 1, 1, 2, 2]);
    }
}
