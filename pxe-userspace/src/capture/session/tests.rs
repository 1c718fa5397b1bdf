use std::time::SystemTime;

use pxe_common::testing::{FrameBuilder, KNOWN, OTHER};

use super::*;
use crate::capture::record::Way;

fn session() -> (Arc<Session>, Receiver<Record>) {
    Session::of(Target { macs: [KNOWN].into(), address: None })
}

fn record(bytes: usize) -> Record {
    let (at, interface, comment) = (SystemTime::UNIX_EPOCH, "eth0".into(), String::new());
    Record { at, interface, way: Way::In, length: bytes, bytes: vec![0; bytes].into(), comment, by_program: None }
}

#[test]
fn queue_that_nobody_reads_is_bounded_and_what_it_loses_is_counted() {
    for (bytes, limit) in [(10, MOST_RECORDS as u64), (60_000, (MOST_BYTES / (60_000 + OVERHEAD)) as u64)] {
        let (session, mut receiver) = session();
        for _ in 0..MOST_RECORDS + 1000 {
            session.offer(record(bytes));
        }
        let (taken, dropped) = session.counts();
        assert_eq!((taken, taken + dropped), (limit, MOST_RECORDS as u64 + 1000), "{bytes} bytes");
        // A block that was read makes room.
        session.left(&receiver.try_recv().unwrap());
        session.offer(record(bytes));
        assert_eq!(session.counts(), (limit + 1, dropped));
    }
}

#[test]
fn frame_belongs_to_the_machine_that_it_names() {
    let (session, _receiver) = session();
    let frame = |chaddr, source| FrameBuilder { chaddr, ethernet_source: source, ..FrameBuilder::default() };
    for (name, frame, expected) in [
        ("its own", frame(KNOWN, KNOWN).build(), true),
        ("from elsewhere in its name", frame(KNOWN, OTHER).build(), true),
        ("of another machine", frame(OTHER, OTHER).build(), false),
        ("from its card in the name of another", frame(OTHER, KNOWN).build(), false),
        ("malformed, from its card", FrameBuilder { bootp: [1, 1, 5, 0], ..frame(OTHER, KNOWN) }.build(), true),
        ("malformed, from another", FrameBuilder { bootp: [1, 1, 5, 0], ..frame(KNOWN, OTHER) }.build(), false),
        ("cut", vec![0; 8], false),
    ] {
        assert_eq!(session.wants(&frame), expected, "{name}");
    }
}
