//! A link that loses, repeats and reorders what passes over it: no I/O, no clock.

use std::time::Duration;

use serde::Serialize;

use super::chance::Chance;

/// How bad the link is, in percent of what passes, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// What is lost.
    pub drop: f64,
    /// What arrives twice.
    pub duplicate: f64,
    /// What is overtaken by what comes next.
    pub reorder: f64,
}

impl Losses {
    /// Whether everything arrives once and in order.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What waits to be overtaken waits no longer than this: on a quiet link, nothing comes next.
const MAX_HELD: Duration = Duration::from_millis(20);

/// One direction of the link.
#[derive(Debug)]
pub(super) struct Lossy<T> {
    losses: Losses,
    chance: Chance,
    held: Option<(Duration, T)>,
    /// What was lost, repeated and held back.
    pub(super) done: Done,
}

/// How often the link did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Lost.
    pub dropped: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Overtaken.
    pub reordered: u64,
}

impl<T: Clone> Lossy<T> {
    pub(super) fn new(losses: Losses, seed: u64, stream: u64) -> Self {
        Self { losses, chance: Chance::new(seed, stream), held: None, done: Done::default() }
    }

    pub(super) fn is_lossless(&self) -> bool {
        self.losses.is_none()
    }

    /// Lets one frame pass: what arrives now, in order.
    pub(super) fn pass(&mut self, now: Duration, frame: T) -> impl Iterator<Item = T> {
        // Always three draws, so that one rate does not change what another does.
        let [drop, duplicate, reorder] = [(); 3].map(|()| self.chance.fraction() * 100.0);
        let overtaken = self.held.take().map(|(_, frame)| frame);
        let mut arrives = None;
        let mut again = None;
        if drop < self.losses.drop {
            self.done.dropped += 1;
        } else {
            if duplicate < self.losses.duplicate {
                self.done.duplicated += 1;
                again = Some(frame.clone());
            }
            if reorder < self.losses.reorder && overtaken.is_none() {
                self.done.reordered += 1;
                self.held = Some((now + MAX_HELD, frame));
            } else {
                arrives = Some(frame);
            }
        }
        [arrives, again, overtaken].into_iter().flatten()
    }

    /// When [`Self::release`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.held.as_ref().map(|(deadline, _)| *deadline)
    }

    /// What has waited long enough for something to overtake it.
    pub(super) fn release(&mut self, now: Duration) -> Option<T> {
        self.held.take_if(|(deadline, _)| *deadline <= now).map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(losses: Losses, seed: u64) -> (Vec<u32>, Done) {
        let mut link = Lossy::new(losses, seed, 2);
        let mut arrived: Vec<u32> =
            (0..10_000).flat_map(|n| link.pass(Duration::ZERO, n).collect::<Vec<_>>()).collect();
        assert_eq!(link.release(Duration::ZERO), None);
        arrived.extend(link.release(MAX_HELD));
        assert_eq!(link.deadline(), None);
        (arrived, link.done)
    }

    #[test]
    fn a_good_link_changes_nothing() {
        let (arrived, done) = passed(Losses::default(), 1);
        assert_eq!((arrived, done), ((0..10_000).collect(), Done::default()));
    }

    #[test]
    fn each_fault_comes_as_often_as_asked_and_alone() {
        let near = |count: u64| (450..550).contains(&count);
        let (arrived, done) = passed(Losses { drop: 5.0, ..Losses::default() }, 1);
        assert!(near(done.dropped) && arrived.len() as u64 == 10_000 - done.dropped && arrived.is_sorted());
        let (mut arrived, done) = passed(Losses { duplicate: 5.0, ..Losses::default() }, 1);
        assert!(near(done.duplicated) && arrived.len() as u64 == 10_000 + done.duplicated && arrived.is_sorted());
        arrived.dedup();
        assert_eq!(arrived.len(), 10_000);
        let (mut arrived, done) = passed(Losses { reorder: 5.0, ..Losses::default() }, 1);
        let swapped = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        assert!(near(done.reordered) && swapped == done.reordered, "{done:?}, {swapped}");
        arrived.sort_unstable();
        assert!(arrived.iter().copied().eq(0..10_000));
    }

    #[test]
    fn the_same_seed_loses_the_same() {
        let losses = Losses { drop: 3.0, duplicate: 2.0, reorder: 4.0 };
        assert_eq!(passed(losses, 5), passed(losses, 5));
        assert_ne!(passed(losses, 5).0, passed(losses, 6).0);
        // Another rate beside it does not change what is lost.
        assert_eq!(passed(losses, 5).1.dropped, passed(Losses { duplicate: 0.0, ..losses }, 5).1.dropped);
    }

    #[test]
    fn everything_can_be_lost() {
        assert!(passed(Losses { drop: 100.0, duplicate: 100.0, reorder: 100.0 }, 1).0.is_empty());
    }
}
