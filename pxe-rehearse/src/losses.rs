//! A link that drops, duplicates and reorders frames. Does no I/O and reads no clock.

use std::time::Duration;

use serde::Serialize;

use crate::chance::Chance;

/// The fault rates of the link in each direction, in percent of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// Frames that are lost.
    pub drop: f64,
    /// Frames that arrive twice.
    pub duplicate: f64,
    /// Frames that the next one overtakes.
    pub reorder: f64,
}

impl Losses {
    /// Returns `true` if every frame arrives once and in order.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The time that a frame waits to be overtaken, because on a quiet link no next one comes.
const MAX_HELD: Duration = Duration::from_millis(20);

/// One direction of the link.
#[derive(Debug)]
pub(crate) struct Lossy<T> {
    losses: Losses,
    chance: Chance,
    held: Option<(Duration, T)>,
    /// The faults so far.
    pub(crate) done: Done,
}

/// The numbers of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Frames that were lost.
    pub dropped: u64,
    /// Frames that were delivered twice.
    pub duplicated: u64,
    /// Frames that were overtaken.
    pub reordered: u64,
}

impl<T: Clone> Lossy<T> {
    pub(crate) fn new(losses: Losses, seed: u64, stream: u64) -> Self {
        Self { losses, chance: Chance::new(seed, stream), held: None, done: Done::default() }
    }

    pub(crate) fn is_lossless(&self) -> bool {
        self.losses.is_none()
    }

    /// Passes a frame over the link, and returns the frames that arrive now, in order.
    pub(crate) fn pass(&mut self, now: Duration, frame: T) -> impl Iterator<Item = T> {
        // Always three draws, so that no rate changes the effect of another.
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

    /// Returns when [`Self::release`] must be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.held.as_ref().map(|(deadline, _)| *deadline)
    }

    /// Returns the frame that has waited long enough to be overtaken.
    pub(crate) fn release(&mut self, now: Duration) -> Option<T> {
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
    fn link_without_faults_changes_nothing() {
        let (arrived, done) = passed(Losses::default(), 1);
        assert_eq!((arrived, done), ((0..10_000).collect(), Done::default()));
    }

    #[test]
    fn faults_occur_at_their_rates_and_independently() {
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
    fn losses_are_repeatable_by_their_seed() {
        let losses = Losses { drop: 3.0, duplicate: 2.0, reorder: 4.0 };
        assert_eq!(passed(losses, 5), passed(losses, 5));
        assert_ne!(passed(losses, 5).0, passed(losses, 6).0);
        // Another duplication rate does not change the losses.
        assert_eq!(passed(losses, 5).1.dropped, passed(Losses { duplicate: 0.0, ..losses }, 5).1.dropped);
    }

    #[test]
    fn link_can_lose_everything() {
        assert!(passed(Losses { drop: 100.0, duplicate: 100.0, reorder: 100.0 }, 1).0.is_empty());
    }
}
