use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::model::{architecture::Architecture, testing::machine};

const LENGTH: u64 = 64;

fn inventory(numbers: Range<u8>) -> Inventory {
    Inventory::new(numbers.map(|number| machine(number, Architecture::Amd64, "v1.13.0", None)).collect())
}

fn mac(number: u8) -> MacAddr {
    machine(number, Architecture::Amd64, "v1.13.0", None).mac
}

fn file(inode: u64) -> FileState {
    FileState { identity: Identity::Stored { inode, modified: SystemTime::UNIX_EPOCH }, length: LENGTH }
}

/// Adds the parts of one file for one machine and returns the result for each.
fn add_all(parts: &[Range<u64>]) -> Vec<bool> {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
    parts.iter().map(|part| coverage.add(mac(1), file(1), part.clone(), &inventory)).collect()
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "a file may arrive in one range")]
fn file_is_whole_when_its_parts_cover_it() {
    for (name, parts, expected) in [
        ("in one answer", vec![0..64], vec![true]),
        ("broken off and resumed", vec![0..38, 38..64], vec![false, true]),
        ("resumed before the end of what arrived", vec![0..38, 20..64], vec![false, true]),
        ("resumed too late", vec![0..38, 39..64], vec![false, false]),
        ("the hole filled last", vec![0..10, 20..64, 10..20], vec![false, false, true]),
        ("the last byte alone", vec![63..64], vec![false]),
        ("the last byte, again and again", vec![63..64, 63..64, 63..64], vec![false, false, false]),
        ("nothing", vec![0..0, 5..5], vec![false, false]),
        ("all, then the last byte", vec![0..64, 63..64], vec![true, false]),
        ("parts, then their end again", vec![0..38, 38..64, 38..64], vec![false, true, false]),
    ] {
        assert_eq!(add_all(&parts), expected, "{name}");
    }
}

#[test]
fn file_would_be_whole_by_the_part_that_is_missing() {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
    assert!(coverage.would_be_whole(mac(1), file(1), &(0..64)), "it needs no other part");
    assert!(!coverage.would_be_whole(mac(1), file(1), &(38..64)));
    coverage.add(mac(1), file(1), 0..38, &inventory);
    for (bytes, expected) in [(38..64, true), (0..64, true), (20..64, true), (39..64, false), (38..63, false)] {
        assert_eq!(coverage.would_be_whole(mac(1), file(1), &bytes), expected, "{bytes:?}");
    }
    assert!(!coverage.would_be_whole(mac(2), file(1), &(38..64)), "it is another machine's");
    assert!(!coverage.would_be_whole(mac(1), file(2), &(38..64)), "it is of another file");
    assert!(!coverage.add(mac(1), file(1), 39..64, &inventory), "to ask is not to have");
}

#[test]
fn empty_file_is_whole_at_once() {
    let empty = FileState { length: 0, ..file(1) };
    assert!(Coverage::default().add(mac(1), empty, 0..0, &inventory(1..2)));
}

#[test]
fn changed_file_starts_over() {
    let changed = [
        file(2),
        FileState {
            identity: Identity::Stored { inode: 1, modified: SystemTime::UNIX_EPOCH + Duration::from_nanos(1) },
            ..file(1)
        },
        FileState { identity: Identity::Made([0; 16]), ..file(1) },
        FileState { length: LENGTH + 1, ..file(1) },
    ];
    for changed in changed {
        let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
        assert!(!coverage.add(mac(1), file(1), 0..38, &inventory));
        assert!(!coverage.add(mac(1), changed, 38..changed.length, &inventory), "{changed:?}");
        assert!(coverage.add(mac(1), changed, 0..38, &inventory), "{changed:?}");
    }
}

#[test]
fn machine_that_starts_over_has_nothing() {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
    coverage.add(mac(1), file(1), 0..38, &inventory);
    coverage.forget(mac(1), file(1));
    assert!(!coverage.add(mac(1), file(1), 38..64, &inventory));
}

#[test]
fn machines_do_not_share_parts() {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..3));
    assert!(!coverage.add(mac(1), file(1), 0..38, &inventory));
    assert!(!coverage.add(mac(2), file(1), 38..64, &inventory));
}

#[test]
fn oldest_file_of_a_machine_is_dropped_first() {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
    for inode in (0..FILE_LIMIT as u64).chain([0]) {
        assert!(!coverage.add(mac(1), file(inode), 0..inode + 20, &inventory));
    }
    assert!(!coverage.add(mac(1), file(99), 0..20, &inventory));
    assert!(coverage.add(mac(1), file(0), 20..64, &inventory), "the file that grew last was dropped");
    assert!(!coverage.add(mac(1), file(1), 21..64, &inventory), "the file that grew first was kept");
}

#[test]
fn shortest_range_of_a_file_is_dropped_first() {
    let (mut coverage, inventory) = (Coverage::default(), inventory(1..2));
    // Each range has two bytes, except the shortest, which has one.
    let limit = RANGE_LIMIT as u64;
    for start in (0..limit).map(|number| 4 * number) {
        assert!(!coverage.add(mac(1), file(1), start..start + if start == 8 { 1 } else { 2 }, &inventory));
    }
    assert!(!coverage.add(mac(1), file(1), 4 * limit..LENGTH, &inventory));
    let holes = (0..limit).map(|number| 4 * number + 2..4 * number + 4).chain(std::iter::once(9..10));
    let filled: Vec<_> = holes.map(|hole| coverage.add(mac(1), file(1), hole, &inventory)).collect();
    assert_eq!(filled, [false; RANGE_LIMIT + 1], "the range that was dropped counts");
    assert!(coverage.add(mac(1), file(1), 8..9, &inventory));
}

#[test]
fn memory_is_bounded_by_the_fleet() {
    let mut coverage = Coverage::default();
    let before = inventory(1..101);
    for number in 1..101 {
        coverage.add(mac(number), file(1), 0..38, &before);
    }
    assert_eq!(coverage.machines.len(), 100);
    let after = inventory(99..103);
    for number in 1..103 {
        coverage.add(mac(number), file(1), 20..39, &after);
    }
    assert_eq!(coverage.machines.keys().map(|mac| after.by_mac(*mac).is_some()).collect::<Vec<_>>(), [true; 4]);
    assert!(coverage.add(mac(99), file(1), 39..64, &after), "a machine that stayed lost its parts");
    assert!(!coverage.add(mac(101), file(1), 39..64, &after));
}

/// A set of single bytes that forgets in the same way as [`Ranges`].
#[derive(Default)]
struct Model(BTreeSet<u64>);

impl Model {
    fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &byte in &self.0 {
            match runs.last_mut() {
                Some(run) if run.end == byte => run.end += 1,
                _ => runs.push(byte..byte + 1),
            }
        }
        runs
    }

    fn add(&mut self, bytes: Range<u64>) -> bool {
        self.0.extend(bytes);
        let runs = self.runs();
        if runs.len() > RANGE_LIMIT
            && let Some(shortest) = runs.iter().min_by_key(|run| run.end - run.start)
        {
            self.0.retain(|byte| !shortest.contains(byte));
        }
        let is_whole = self.0.len() as u64 == LENGTH;
        if is_whole {
            self.0.clear();
        }
        is_whole
    }
}

proptest! {
    #[test]
    fn coverage_agrees_with_a_set_of_bytes(
        steps in prop::collection::vec((0u8..3, 1u64..3, 0..LENGTH, prop_oneof![9 => 0u64..4, 1 => 0..=LENGTH]), 0..120)
    ) {
        let (mut coverage, inventory) = (Coverage::default(), inventory(1..3));
        let mut models = HashMap::<_, Model>::new();
        for (number, inode, start, length) in steps {
            let (mac, bytes) = (mac(1 + number % 2), start..(start + length).min(LENGTH));
            let model = models.entry((mac, inode)).or_default();
            if number == 2 {
                coverage.forget(mac, file(inode));
                model.0.clear();
                continue;
            }
            prop_assert_eq!(coverage.add(mac, file(inode), bytes.clone(), &inventory), model.add(bytes));
            let recorded = coverage.machines.get(&mac).into_iter().flatten().find(|part| part.file == file(inode));
            let recorded = recorded.map(|part| part.ranges.0.clone()).unwrap_or_default();
            prop_assert_eq!(&recorded, &model.runs());
            prop_assert!(recorded.len() <= RANGE_LIMIT);
        }
    }
}
