use proptest::prelude::*;

use super::*;
use crate::journal::{every_event::every_event, samples::*};

fn segment(blocks: &[Vec<BootEvent>]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = HEADER.to_vec();
    for events in blocks {
        events.iter().for_each(|event| encoder.add(event));
        bytes.extend(encoder.take_block().unwrap_or_default());
    }
    bytes
}

fn events(segment: &[u8]) -> (Vec<BootEvent>, Option<usize>) {
    let mut events = Vec::new();
    let whole = read(segment, &mut Statics::default(), |event| events.push(event));
    (events, whole)
}

fn every() -> Vec<BootEvent> {
    let kinds = every_event().into_iter().map(|(_, kind)| kind);
    let mut events = timed(MAC, kinds);
    // The clock was set back, another card, another origin.
    events.reverse();
    for (index, event) in events.iter_mut().enumerate() {
        event.mac = machine(index as u32 % 3 + 1).mac;
        event.origin = if index % 2 == 0 { Origin::Machine } else { Origin::Unproven };
    }
    events
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let all = every();
    let bytes = segment(&[all[..10].to_vec(), Vec::new(), all[10..].to_vec()]);
    assert_eq!(events(&bytes), (all, Some(bytes.len())));
    assert_eq!(events(&HEADER), (Vec::new(), Some(HEADER.len())));
}

#[test]
fn segment_is_cut_at_its_last_whole_block() {
    let all = every();
    let [first, second] = [all[..10].to_vec(), all[10..].to_vec()];
    let end_of_first = segment(std::slice::from_ref(&first)).len();
    let bytes = segment(&[first.clone(), second]);
    for cut in end_of_first..bytes.len() {
        assert_eq!(events(&bytes[..cut]), (first.clone(), Some(end_of_first)), "{cut}");
    }
    for at in end_of_first..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(events(&damaged), (first.clone(), Some(end_of_first)), "{at}");
    }
    for (other, bytes) in
        [(&b""[..], "nothing"), (b"pxedlog", "half"), (b"pxedlog\x02", "version"), (b"\0\0\0\0\0\0\0\0", "zeros")]
    {
        assert_eq!(events(other), (Vec::new(), None), "{bytes}");
    }
}

#[test]
fn storm_takes_a_dozen_bytes_an_event() {
    let fleet: Vec<Vec<BootEvent>> = (1..=1_000).map(|number| timed(machine(number).mac, uefi_boot())).collect();
    let mut blocks = Vec::new();
    for step in 0..fleet[0].len() {
        blocks.push(fleet.iter().map(|events| events[step].clone()).collect());
    }
    let count = fleet.iter().map(Vec::len).sum::<usize>();
    let bytes = segment(&blocks).len();
    assert!(bytes < count * 14, "{bytes} bytes for {count} events");
}

/// Prints the cost of a storm: `cargo test --release -- --ignored --nocapture cost_of_a_storm`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_storm() {
    let fleet: Vec<Vec<BootEvent>> = (1..=10_000).map(|number| timed(machine(number).mac, uefi_boot())).collect();
    let count = fleet.iter().map(Vec::len).sum::<usize>();
    let begun = std::time::Instant::now();
    let bytes = segment(&fleet);
    let encoded = begun.elapsed();
    let mut read_back = 0;
    read(&bytes, &mut Statics::default(), |_| read_back += 1);
    let decoded = begun.elapsed() - encoded;
    assert_eq!(read_back, count);
    println!("{count} events, {} bytes each, {encoded:?} to encode, {decoded:?} to decode", bytes.len() / count);
}

proptest! {
    #[test]
    fn any_event_survives(kinds in proptest::collection::vec(any_event(), 1..40)) {
        let mut all = timed(MAC, kinds);
        for event in &mut all {
            // Texts are cut, and times have milliseconds.
            match &mut event.kind {
                EventKind::Requested { path, .. } | EventKind::Done { path, .. } | EventKind::Unconfirmed { path, .. } => {
                    *path = path.get(..path.floor_char_boundary(MAX_TEXT)).unwrap().into();
                }
                _ => {}
            }
        }
        let bytes = segment(&[all.clone()]);
        prop_assert_eq!(events(&bytes), (all, Some(bytes.len())));
    }

    /// Nothing that a disk makes of a segment is more than its loss.
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let sum = crc(&bytes).to_le_bytes();
        let block = [&HEADER[..], &(bytes.len() as u32).to_le_bytes(), &sum, &bytes].concat();
        events(&block);
        events(&[&HEADER[..], &bytes].concat());
    }
}
