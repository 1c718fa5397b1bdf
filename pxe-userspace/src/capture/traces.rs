//! Joins what the XDP program tells of a frame to the same frame that came by another way. Pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::{Duration, SystemTime},
};

use pxe_common::Action;

use super::{
    record::{Record, Way},
    selection::network_layer,
};

/// The time that the program's record of a frame waits for the frame, if a worker or the host has that. Frames that nobody took are written then.
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// The bytes of a packet by which it is known again; the program keeps a few more.
const COMPARED: usize = 1500;
/// The frames that are remembered after they were written.
const MOST_WRITTEN: usize = 4096;

/// The program's records that wait for their frames.
#[derive(Debug, Default)]
pub(super) struct Traces {
    waiting: Vec<Record>,
    /// Frames that were written without the program's words.
    written: VecDeque<(SystemTime, u64)>,
}

impl Traces {
    /// Adds a record of the program.
    pub(super) fn add(&mut self, record: Record) {
        self.waiting.push(record);
    }

    /// Joins the program's words to the frames that wait, and adds the frames that only the program has: at once, if it dropped them.
    pub(super) fn join(&mut self, records: &mut Vec<Record>, now: Option<SystemTime>, patience: Duration) {
        if self.waiting.is_empty() {
            return;
        }
        let mut places: HashMap<u64, VecDeque<usize>> = HashMap::new();
        for (index, record) in records.iter().enumerate().filter(|(_, record)| may_be_traced(record)) {
            places.entry(hash(record)).or_default().push_back(index);
        }
        let mut joined = Vec::new();
        self.waiting.sort_by_key(|trace| trace.at);
        self.waiting.retain(|trace| {
            // A dropped frame is nowhere else, though one like it may be.
            let is_dropped = trace.by_program == Some(Action::Drop);
            let place = if is_dropped { None } else { places.get_mut(&hash(trace)).and_then(VecDeque::pop_front) };
            joined.extend(place.map(|index| (index, trace.comment.clone(), trace.by_program)));
            place.is_none()
        });
        for (index, words, action) in joined {
            let Some(record) = records.get_mut(index) else { continue };
            record.by_program = action;
            record.comment = match std::mem::take(&mut record.comment) {
                comment if comment.is_empty() => words,
                comment => format!("{words}; {comment}"),
            };
        }
        for trace in std::mem::take(&mut self.waiting) {
            let is_dropped = trace.by_program == Some(Action::Drop);
            let patience = if is_dropped { patience } else { LONG_PATIENCE };
            let is_due = now.is_none_or(|now| trace.at.checked_add(patience).is_none_or(|due| due <= now));
            if !is_due {
                self.waiting.push(trace);
            } else if is_dropped || !self.take_written(hash(&trace)) {
                records.push(trace);
            }
        }
    }

    /// Remembers a frame that is written.
    pub(super) fn note_written(&mut self, record: &Record) {
        if !may_be_traced(record) {
            return;
        }
        let is_old = |&(at, _): &(SystemTime, u64)| at.checked_add(2 * LONG_PATIENCE).is_none_or(|end| end < record.at);
        while self.written.len() >= MOST_WRITTEN || self.written.front().is_some_and(is_old) {
            self.written.pop_front();
        }
        self.written.push_back((record.at, hash(record)));
    }

    fn take_written(&mut self, hash: u64) -> bool {
        let place = self.written.iter().position(|&(_, known)| known == hash);
        place.is_some_and(|place| self.written.remove(place).is_some())
    }
}

fn may_be_traced(record: &Record) -> bool {
    record.way == Way::In && record.by_program.is_none()
}

/// Returns the hash of the interface and of the packet without its tags, which the card may have removed.
fn hash(record: &Record) -> u64 {
    let packet = network_layer(&record.bytes).and_then(|(start, _)| record.bytes.get(start..));
    let packet = packet.unwrap_or(&record.bytes);
    let key = (&*record.interface, packet.get(..COMPARED).unwrap_or(packet));
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1) + Duration::from_millis(milliseconds)
    }

    fn frame(milliseconds: u64, tags: &[u8], content: &[u8]) -> Record {
        let bytes = [&[0; 12][..], tags, &[8, 0], content].concat();
        let (interface, comment) = (Arc::from("eth0"), String::new());
        let length = bytes.len();
        Record { at: at(milliseconds), interface, way: Way::In, length, bytes: bytes.into(), comment, by_program: None }
    }

    fn trace(milliseconds: u64, action: Action, content: &[u8]) -> Record {
        let comment = "xdp: so".to_owned();
        Record { comment, by_program: Some(action), ..frame(milliseconds, &[0x81, 0, 0, 7], content) }
    }

    fn comments(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| &*record.comment).collect()
    }

    #[test]
    fn words_are_joined_to_the_same_frame_once() {
        let mut traces = Traces::default();
        let decided = Record { comment: "left unanswered".to_owned(), ..frame(2, &[], b"one") };
        let answer = Record { way: Way::Out, ..frame(2, &[], b"one") };
        let other_interface = Record { interface: "eth1".into(), ..frame(2, &[], b"one") };
        let mut records = vec![answer, other_interface, frame(1, &[], b"two"), decided, frame(9, &[], b"one")];
        traces.add(trace(0, Action::Redirect, b"one"));
        traces.join(&mut records, Some(at(10)), PATIENCE);
        assert_eq!(comments(&records), ["", "", "", "xdp: so; left unanswered", ""]);
        // The repeated question has words of its own, and nobody else gets them.
        for _ in 0..2 {
            traces.add(trace(8, Action::Pass, b"one"));
        }
        traces.join(&mut records, Some(at(20)), PATIENCE);
        assert_eq!(comments(&records), ["", "", "", "xdp: so; left unanswered", "xdp: so"]);
        assert_eq!(traces.waiting.len(), 1);
    }

    #[test]
    fn dropped_frame_is_a_frame_of_its_own() {
        let mut traces = Traces::default();
        let mut records = vec![frame(1, &[], b"one")];
        traces.add(trace(5, Action::Drop, b"one"));
        traces.join(&mut records, Some(at(304)), PATIENCE);
        assert_eq!(comments(&records), [""], "something earlier may come");
        traces.join(&mut records, Some(at(305)), PATIENCE);
        assert_eq!(comments(&records), ["", "xdp: so"]);
    }

    #[test]
    fn frame_that_nobody_took_is_written_from_the_record() {
        let mut traces = Traces::default();
        let mut records = Vec::new();
        traces.add(trace(5, Action::Redirect, b"one"));
        traces.join(&mut records, Some(at(2004)), PATIENCE);
        assert!(records.is_empty());
        traces.join(&mut records, Some(at(2005)), PATIENCE);
        assert_eq!(comments(&records), ["xdp: so"]);
        // At the end nothing waits.
        traces.add(trace(3000, Action::Pass, b"two"));
        traces.join(&mut records, None, PATIENCE);
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn late_words_about_a_written_frame_do_not_repeat_it() {
        let mut traces = Traces::default();
        let mut records = Vec::new();
        traces.note_written(&frame(1, &[], b"one"));
        (0..2).for_each(|_| traces.add(trace(0, Action::Pass, b"one")));
        traces.join(&mut records, Some(at(5000)), PATIENCE);
        assert_eq!(records.len(), 1, "one of the two was written");
        (0..10_000).for_each(|number: u32| traces.note_written(&frame(1, &[], &number.to_be_bytes())));
        assert_eq!(traces.written.len(), MOST_WRITTEN);
        traces.note_written(&frame(9000, &[], b"late"));
        assert_eq!(traces.written.len(), 1);
    }
}
