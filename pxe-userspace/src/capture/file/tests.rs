use std::time::UNIX_EPOCH;

use super::*;
use crate::capture::blocks;

const ETHERNET_AND_IP: usize = 34;

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1) + Duration::from_millis(milliseconds)
}

fn record(milliseconds: u64, protocol: u8, content: &[u8]) -> Record {
    let mut bytes = vec![0; ETHERNET_AND_IP];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14] = 0x45;
    bytes[23] = protocol;
    bytes.extend_from_slice(content);
    let (interface, comment) = ("eth0".into(), String::new());
    Record {
        at: at(milliseconds),
        interface,
        way: Way::In,
        length: bytes.len(),
        bytes: bytes.into(),
        comment,
        by_program: None,
    }
}

fn file(limit: u64) -> CaptureFile {
    let mut file = CaptureFile::begin(at(0), limit, ("Linux", ""), &[("eth0".into(), "XDP")]);
    file.take_bytes();
    file
}

/// Returns the places of these texts in what was written.
fn places(bytes: &[u8], texts: &[&str]) -> Vec<Option<usize>> {
    texts.iter().map(|text| bytes.windows(text.len()).position(|window| window == text.as_bytes())).collect()
}

#[test]
fn frames_are_written_in_the_order_of_their_times() {
    let mut file = file(u64::MAX);
    for (milliseconds, content) in [(30, "third"), (10, "first"), (20, "second"), (500, "late")] {
        file.add(record(milliseconds, 17, content.as_bytes()));
    }
    file.write_until(at(400));
    let bytes = file.take_bytes();
    assert_eq!(blocks::whole(&bytes), Ok(bytes.len()));
    assert_eq!(blocks::packets(&bytes), 3);
    let places = places(&bytes, &["first", "second", "third", "late"]);
    assert!(places[..3].is_sorted() && places[..3].iter().all(Option::is_some), "{places:?}");
    assert_eq!(places[3], None, "another may still come before it");
    file.write_all();
    assert_eq!(blocks::packets(&file.take_bytes()), 1);
}

#[test]
fn note_stands_at_the_frame_that_it_is_about() {
    for (name, by_tcp, content, expected) in [
        ("a path", true, &b"/vmlinuz"[..], "GET /vmlinuz"),
        ("the same by TFTP", false, b"/vmlinuz", "RRQ /vmlinuz"),
        ("the end of a file", true, b"", "end of TCP"),
        ("the end of a transfer", false, b"", "end of UDP"),
    ] {
        let mut file = file(u64::MAX);
        for (milliseconds, protocol, content) in [
            (10, 6, "GET /vmlinuz"),
            (11, 17, "RRQ /vmlinuz"),
            (12, 6, "GET /initramfs"),
            (20, 6, "end of TCP"),
            (25, 17, "end of UDP"),
            // The port of DHCP servers.
            (26, 17, "xx\0CRequest"),
            // After the note.
            (90, 6, "GET /vmlinuz again"),
            (90, 17, "RRQ /vmlinuz again"),
        ] {
            file.add(record(milliseconds, protocol, content.as_bytes()));
        }
        file.note(Note { at: at(30), by_tcp, content: content.into(), text: "a decision".to_owned() });
        file.write_all();
        let bytes = file.take_bytes();
        let mut found = None;
        let mut rest = &bytes[..];
        while let Some(length) = rest.get(4..8) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            let (block, others) = rest.split_at(length);
            if places(block, &["a decision"])[0].is_some() {
                assert!(places(block, &[expected])[0].is_some() && found.is_none(), "{name}");
                found = Some(());
            }
            rest = others;
        }
        assert!(found.is_some(), "{name}");
    }
}

#[test]
fn note_waits_for_its_frame_and_is_forgotten_without_one() {
    let mut file = file(u64::MAX);
    let note =
        |milliseconds, text: &str| Note { at: at(milliseconds), by_tcp: true, content: [].into(), text: text.into() };
    file.note(note(10, "early"));
    file.write_until(at(100));
    file.add(record(10, 6, b"x"));
    file.note(note(11, "second"));
    file.write_until(at(500));
    let bytes = file.take_bytes();
    assert!(places(&bytes, &["early\nsecond"])[0].is_some());
    file.note(note(600, "lost"));
    file.write_until(at(2000));
    file.add(record(2000, 6, b"x"));
    file.write_all();
    assert_eq!(places(&file.take_bytes(), &["lost"]), [None]);
}

#[test]
fn full_file_takes_no_more() {
    let mut file = file(2);
    (0..5).for_each(|milliseconds| file.add(record(milliseconds, 17, b"x")));
    assert!(!file.is_full());
    file.write_all();
    assert!(file.is_full());
    assert_eq!(blocks::packets(&file.take_bytes()), 2);
}

#[test]
fn counts_are_told_when_they_have_changed() {
    let mut file = file(9);
    file.tell(at(1), (3, 0), false);
    let first = file.take_bytes();
    assert_eq!(first[..4], pcapng::INTERFACE_STATISTICS.to_le_bytes());
    file.tell(at(2), (3, 0), false);
    assert!(file.take_bytes().is_empty());
    file.tell(at(2), (3, 0), true);
    assert!(!file.take_bytes().is_empty());
    file.tell(at(3), (3, 2), false);
    let bytes = file.take_bytes();
    assert!(places(&bytes, &["2 frames are missing"])[0].is_some());
    assert_eq!(blocks::whole(&bytes), Ok(bytes.len()));
}
