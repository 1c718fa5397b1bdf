//! Steps that repeat themselves, told once with their number.

use std::time::SystemTime;

use super::act::Act;

/// The longest sequence of steps that is recognised when it repeats: a round of iPXE from its question to a failed kernel, for example.
const LONGEST: usize = 8;

/// A part of a story.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Told<'a> {
    /// A step.
    Act(&'a Act),
    /// The last steps were repeated.
    Again {
        /// The number of steps that belong to a round.
        steps: usize,
        /// The number of further rounds.
        times: usize,
        /// The end of the last round.
        until: SystemTime,
    },
}

/// Returns the parts of a story. Of rounds that follow each other and are the same but for their times, the first is told and the others are
/// counted.
pub(super) fn merge(acts: &[Act]) -> Vec<Told<'_>> {
    let mut told = Vec::with_capacity(acts.len());
    let mut rest = acts;
    while let Some(first) = rest.first() {
        // The shortest round explains the most.
        let round = (1..=LONGEST).map(|steps| (steps, repetitions(rest, steps))).find(|(_, times)| *times > 0);
        let Some((steps, times)) = round else {
            told.push(Told::Act(first));
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        let (rounds, after) = rest.split_at(steps * (times + 1));
        told.extend(rounds.iter().take(steps).map(Told::Act));
        told.extend(rounds.last().map(|last| Told::Again { steps, times, until: last.ended() }));
        rest = after;
    }
    told
}

/// Returns how often the first `steps` acts are repeated after themselves.
fn repetitions(acts: &[Act], steps: usize) -> usize {
    let mut rounds = acts.chunks_exact(steps);
    let Some(first) = rounds.next() else { return 0 };
    rounds.take_while(|round| first.iter().zip(*round).all(|(one, other)| one.is_like(other))).count()
}
