//! Finds workers that are stuck: they neither answer frames nor wait for them.

use std::time::Duration;

/// The silence after which a worker counts as stuck. One that is alive gives a sign of life every second.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The most that the time between two looks counts. Whoever stops the whole process stops the looks as well, and a worker needs time to go
/// on. So it takes more than one look to find a worker stuck.
const LONGEST_STEP: Duration = Duration::from_secs(3);

/// The silence of one worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stillness {
    /// The signs of life at the last look.
    seen: Option<u64>,
    silent_for: Duration,
}

impl Stillness {
    /// Notes the number of signs of life that the worker has given, and the time that has passed since the last look.
    pub(super) fn observe(&mut self, pulse: u64, passed: Duration) {
        let Self { seen, silent_for } = self;
        *silent_for = if *seen == Some(pulse) { *silent_for + passed.min(LONGEST_STEP) } else { Duration::ZERO };
        *seen = Some(pulse);
    }

    /// Returns `true` if the worker is stuck.
    pub(super) fn is_stuck(&self) -> bool {
        self.silent_for >= STUCK_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(2);

    #[test]
    fn worker_is_stuck_after_several_looks_without_a_sign_of_life() {
        let mut worker = Stillness::default();
        let mut looks = 0;
        while !worker.is_stuck() {
            worker.observe(7, LOOK);
            looks += 1;
        }
        assert_eq!(looks, 4, "the first look only learns the number");
        worker.observe(8, LOOK);
        assert!(!worker.is_stuck(), "a sign of life ends it");
    }

    #[test]
    fn worker_that_was_replaced_starts_afresh() {
        let mut worker = Stillness::default();
        (0..3).for_each(|_| worker.observe(1_000, LOOK));
        worker.observe(1, LOOK);
        worker.observe(1, LOOK);
        worker.observe(1, LOOK);
        assert!(!worker.is_stuck());
    }

    #[test]
    fn process_that_was_stopped_has_no_stuck_workers() {
        let mut worker = Stillness::default();
        worker.observe(7, LOOK);
        worker.observe(7, Duration::from_secs(3_600));
        assert!(!worker.is_stuck());
        worker.observe(8, LOOK);
        assert!(!worker.is_stuck());
    }

    #[test]
    fn looks_that_follow_each_other_at_once_find_nobody_stuck() {
        let mut worker = Stillness::default();
        (0..1_000).for_each(|_| worker.observe(7, Duration::from_millis(1)));
        assert!(!worker.is_stuck());
    }
}
