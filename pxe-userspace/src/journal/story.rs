//! The last boot of a machine as a story: a sentence for each step, with its time in UTC. A pure function of the machine's record.

mod act;
mod repetition;

use self::{
    act::{Act, Teller},
    repetition::{Told, merge},
};
use super::{
    attempts::{attempts, begins},
    machine_record::MachineRecord,
};

/// The longest story. Of a longer one, the middle is left out.
const SENTENCES: usize = 40;

/// Returns the story of the last boot: since the firmware began to ask, or iPXE in the network card's ROM.
#[must_use]
pub fn story(record: &MachineRecord) -> Vec<String> {
    let attempts = attempts(record);
    let begin = begins(&record.events).last().copied().unwrap_or_default();
    let events = record.events.get(begin..).unwrap_or_default();
    let Some(first) = events.first() else { return Vec::new() };
    let teller = Teller::new(record, first.at);
    let acts = Act::all(events);
    let told = merge(&acts);
    let mut sentences = Vec::with_capacity(told.len() + 1);
    if let Some((last, earlier)) = attempts.split_last()
        && !earlier.is_empty()
    {
        sentences.extend(earlier.iter().map(|attempt| teller.earlier(attempt, last.number)));
        sentences.push(teller.attempt(first.at, last.number));
    }
    sentences.extend(told.iter().map(|told| match told {
        Told::Act(act) => teller.sentence(act),
        Told::Again { steps, times, until } => teller.again(*steps, *times, *until),
    }));
    shorten(sentences)
}

/// Leaves out the middle of a long story.
fn shorten(mut sentences: Vec<String>) -> Vec<String> {
    if let Some(more) = sentences.len().checked_sub(SENTENCES).filter(|more| *more > 0) {
        let middle = SENTENCES / 2;
        sentences.splice(middle..=middle + more, [format!("… {} more steps, which the events have", more + 1)]);
    }
    sentences
}

#[cfg(test)]
mod tests;
