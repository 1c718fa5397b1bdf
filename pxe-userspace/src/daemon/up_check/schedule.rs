//! The schedule of tries: which machine is tried when, and when it is given up. Pure: the clock is a parameter.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use pxe_common::MacAddr;
use tokio::time::Instant;

use crate::model::inventory::AddressHashBuilder;

/// The intervals and limits of tries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The time from an operating system's first lease to the first try. Each further interval is twice as long.
    pub(super) first: Duration,
    /// The longest interval.
    pub(super) longest: Duration,
    /// The time after which a machine is given up.
    pub(super) give_up: Duration,
    /// The least time between two tries, whichever machines they are of.
    pub(super) spacing: Duration,
    /// The number of tries that may be under way.
    pub(super) at_once: usize,
    /// The time that a machine has to accept the connection.
    pub(super) patience: Duration,
}

impl Default for Pace {
    /// For 10,000 machines that come up together: 200 tries a second if they answer, 32 if nothing does.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            give_up: Duration::from_secs(600),
            spacing: Duration::from_millis(5),
            at_once: 64,
            patience: Duration::from_secs(2),
        }
    }
}

/// A try of a machine. It belongs to the boot in which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) mac: MacAddr,
    began: Instant,
}

/// The machines that are to be tried.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    machines: HashMap<MacAddr, Plan, AddressHashBuilder>,
    due: BTreeSet<(Instant, MacAddr)>,
    /// The end of the time that follows the last try.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Plan {
    began: Instant,
    interval: Duration,
    /// The time of the next try; `None` while one is under way.
    due: Option<Instant>,
}

impl Schedule {
    /// Creates a schedule without machines.
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, machines: HashMap::default(), due: BTreeSet::new(), not_before: None }
    }

    /// Plans the tries of a machine on which an operating system runs now. Those of an earlier boot are forgotten.
    pub(super) fn begin(&mut self, mac: MacAddr, now: Instant) {
        self.forget(mac);
        self.plan(mac, now, self.pace.first, now + self.pace.first);
    }

    /// Takes the next try that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Try> {
        let &(at, mac) = self.due.first()?;
        if at > now || self.not_before.is_some_and(|until| until > now) {
            return None;
        }
        self.due.pop_first();
        let plan = self.machines.get_mut(&mac)?;
        plan.due = None;
        self.not_before = Some(now + self.pace.spacing);
        Some(Try { mac, began: plan.began })
    }

    /// Plans the next try after one that had no success. Returns `false` if there is none, because the machine is given up or has begun another
    /// boot.
    pub(super) fn failed(&mut self, Try { mac, began }: Try, now: Instant) -> bool {
        let Some(plan) = self.machines.get(&mac).filter(|plan| plan.began == began) else { return false };
        let interval = (plan.interval * 2).min(self.pace.longest);
        self.forget(mac);
        let is_planned = now + interval <= began + self.pace.give_up;
        if is_planned {
            self.plan(mac, began, interval, now + interval);
        }
        is_planned
    }

    /// Forgets a machine that is up, or that is not to be tried any more.
    pub(super) fn over(&mut self, Try { mac, began }: Try) {
        if self.machines.get(&mac).is_some_and(|plan| plan.began == began) {
            self.forget(mac);
        }
    }

    /// Returns the time at which the next try is due; `None` if there is none.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let &(at, _) = self.due.first()?;
        Some(self.not_before.map_or(at, |until| until.max(at)))
    }

    fn plan(&mut self, mac: MacAddr, began: Instant, interval: Duration, due: Instant) {
        self.machines.insert(mac, Plan { began, interval, due: Some(due) });
        self.due.insert((due, mac));
    }

    fn forget(&mut self, mac: MacAddr) {
        if let Some(due) = self.machines.remove(&mac).and_then(|plan| plan.due) {
            self.due.remove(&(due, mac));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    /// Returns the seconds after `start` at which a machine that never answers is tried. Each try takes this long.
    fn tries(schedule: &mut Schedule, start: Instant, takes: Duration) -> Vec<u64> {
        let mut seconds = Vec::new();
        while let Some(at) = schedule.wake_at() {
            assert_eq!(schedule.next(at - Duration::from_millis(1)), None, "too early");
            let trial = schedule.next(at).unwrap();
            assert_eq!((trial.mac, schedule.wake_at()), (A, None), "it is under way");
            seconds.push((at - start).as_secs());
            schedule.failed(trial, at + takes);
        }
        seconds
    }

    #[test]
    fn silent_machine_is_tried_ever_more_rarely_and_given_up() {
        let start = Instant::now();
        for (takes, expected) in [
            (0, &[1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483, 543][..]),
            (2, &[1, 5, 11, 21, 39, 73, 135, 197, 259, 321, 383, 445, 507, 569][..]),
        ] {
            let mut schedule = Schedule::new(Pace::default());
            schedule.begin(A, start);
            assert_eq!(tries(&mut schedule, start, Duration::from_secs(takes)), expected, "{takes} s a try");
            assert!(schedule.machines.is_empty() && schedule.due.is_empty(), "nothing is left of it");
        }
    }

    #[test]
    fn machine_that_is_up_is_not_tried_again() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::default());
        schedule.begin(A, start);
        let trial = schedule.next(start + Duration::from_secs(1)).unwrap();
        schedule.over(trial);
        assert_eq!(schedule.wake_at(), None);
        assert!(schedule.machines.is_empty());
    }

    #[test]
    fn later_boot_replaces_the_tries_of_an_earlier_one() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut schedule = Schedule::new(Pace::default());
        schedule.begin(A, start);
        let old = schedule.next(second(1)).unwrap();
        // It boots again, twice, while a try is under way.
        schedule.begin(A, second(10));
        schedule.begin(A, second(20));
        assert!(!schedule.failed(old, second(21)));
        schedule.over(old);
        assert_eq!((schedule.wake_at(), schedule.due.len()), (Some(second(21)), 1));
        let new = schedule.next(second(21)).unwrap();
        assert_ne!(new, old);
        assert!(schedule.failed(new, second(22)));
        assert_eq!(schedule.wake_at(), Some(second(24)));
    }

    #[test]
    fn fleet_is_tried_at_a_steady_rate() {
        let start = Instant::now();
        let pace = Pace::default();
        let mut schedule = Schedule::new(pace);
        for number in 0..10_000_u32 {
            let [_, _, high, low] = number.to_be_bytes();
            schedule.begin(MacAddr([2, 0, 0, 0, high, low]), start);
        }
        let mut now = start + pace.first;
        for _ in 0..10_000 {
            let trial = schedule.next(now).unwrap();
            assert_eq!(schedule.next(now), None, "two at once");
            assert_eq!(schedule.wake_at().unwrap_or(now + pace.spacing), now + pace.spacing);
            schedule.over(trial);
            now += pace.spacing;
        }
        assert_eq!(now - start, Duration::from_secs(51));
        assert_eq!(schedule.next(now), None);
    }

    #[test]
    fn earliest_machine_comes_first() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::default());
        schedule.begin(B, start);
        schedule.begin(A, start + Duration::from_millis(500));
        let at = start + Duration::from_secs(60);
        assert_eq!(schedule.next(at).unwrap().mac, B);
        assert_eq!(schedule.next(at + Pace::default().spacing).unwrap().mac, A);
    }
}
