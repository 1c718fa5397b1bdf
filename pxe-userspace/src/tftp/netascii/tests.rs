//! The encoder against one that encodes the whole file at once.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::tftp::packet::Options;

/// Encodes a whole file.
fn naive(file: &[u8]) -> Vec<u8> {
    let encode = |&byte: &u8| match byte {
        LF => vec![CR, LF],
        CR => vec![CR, NUL],
        byte => vec![byte],
    };
    file.iter().flat_map(encode).collect()
}

/// Decodes as a client does.
fn decode(wire: &[u8]) -> Vec<u8> {
    let (mut file, mut bytes) = (Vec::new(), wire.iter());
    while let Some(&byte) = bytes.next() {
        file.push(if byte == CR {
            match bytes.next() {
                Some(&LF) => LF,
                Some(&NUL) => CR,
                other => panic!("CR before {other:?}"),
            }
        } else {
            byte
        });
    }
    file
}

fn terms(length: usize, block_size: u16, window: u16) -> Terms {
    let options = Options { block_size: Some(block_size), window_size: Some(window), ..Options::default() };
    Terms::negotiate_netascii(options, length as u64, u16::MAX)
}

/// A file that is sent, and the ranges of it that were read.
struct Sending<'a> {
    file: &'a [u8],
    terms: Terms,
    netascii: Netascii,
    scratch: Vec<u8>,
    read: Vec<Range<usize>>,
}

impl<'a> Sending<'a> {
    fn new(file: &'a [u8], block_size: u16, window: u16) -> Self {
        let terms = terms(file.len(), block_size, window);
        Self { file, terms, netascii: Netascii::new(), scratch: Vec::new(), read: Vec::new() }
    }

    /// Returns the payloads of blocks, and `true` if they end the file.
    fn send(&mut self, first: u64, count: usize) -> (Vec<Vec<u8>>, bool) {
        let datagram = HEADER_LENGTH + usize::from(self.terms.block_size);
        let mut space = vec![0xee; count * datagram];
        let read = |offset: u64, space: &mut [u8]| {
            let range = offset as usize..offset as usize + space.len();
            space.copy_from_slice(&self.file[range.clone()]);
            self.read.push(range);
            Ok(())
        };
        let encoded = self.netascii.fill(&self.terms, (first, count), &mut space, &mut self.scratch, read).unwrap();
        let payloads: Vec<_> = space[..encoded.length].chunks(datagram).map(|block| block[4..].to_vec()).collect();
        for (index, block) in space[..encoded.length].chunks(datagram).enumerate() {
            assert_eq!(block[..2], [0, 3]);
            assert_eq!(block[2..4], ((first + index as u64) as u16).to_be_bytes());
        }
        assert_eq!(payloads.len(), encoded.count);
        (payloads, encoded.is_end)
    }
}

#[test]
fn blocks_by_file() {
    type Case = (&'static str, &'static [u8], &'static [&'static [u8]]);
    let cases: &[Case] = &[
        ("empty", b"", &[b""]),
        ("plain", b"abc", &[b"abc"]),
        ("lines", b"a\nb\n", &[b"a\r\nb\r\n"]),
        ("a carriage return", b"a\rb", &[b"a\r\0b"]),
        ("both", b"a\r\nb", &[b"a\r\0\r\nb"]),
        ("NUL stays", b"\0\0", &[b"\0\0"]),
        ("a whole block, then an empty one", b"abcdefgh", &[b"abcdefgh", b""]),
        ("a whole block by its encoding", b"abc\ndef", &[b"abc\r\ndef", b""]),
        ("the second byte of a pair in the next block", b"abcdefg\rh", &[b"abcdefg\r", b"\0h"]),
        ("the second byte alone", b"abcdefg\n", &[b"abcdefg\r", b"\n"]),
        ("nothing but line feeds", b"\n\n\n\n\n", &[b"\r\n\r\n\r\n\r\n", b"\r\n"]),
        ("a pair that ends a block", b"abcdef\n", &[b"abcdef\r\n", b""]),
    ];
    for (name, file, blocks) in cases {
        assert_eq!(blocks.concat(), naive(file), "{name}: the case itself");
        for window in [1, 64] {
            let mut sending = Sending::new(file, 8, window);
            let mut sent = Vec::new();
            while sent.len() < blocks.len() {
                let (payloads, is_end) = sending.send(sent.len() as u64 + 1, window.into());
                sent.extend(payloads);
                assert_eq!(is_end, sent.len() == blocks.len(), "{name}");
            }
            assert_eq!(sent, *blocks, "{name}, window {window}");
        }
    }
}

#[test]
fn long_file_is_read_once_and_little_is_remembered() {
    let file: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8 % 32).collect();
    for (block_size, window) in [(512, 1), (1468, 16), (65464, 64)] {
        let mut sending = Sending::new(&file, block_size, window);
        let (mut next, mut is_end) = (1, false);
        while !is_end {
            let (payloads, end) = sending.send(next, window.into());
            (next, is_end) = (next + payloads.len() as u64, end);
            assert!(sending.netascii.starts.len() <= usize::from(window) + 1);
            assert!(sending.scratch.len() <= usize::from(window) * usize::from(block_size));
        }
        // A read may bring more bytes than its blocks hold, which are then read again. They are fewer than the bytes that encoding adds.
        let read: usize = sending.read.iter().map(Range::len).sum();
        assert!(read < naive(&file).len() + usize::from(block_size) * usize::from(window), "{read}");
    }
}

#[test]
fn failed_read_changes_nothing() {
    let file = b"abcdef\nabcdef\nabcdef\n";
    let mut sending = Sending::new(file, 8, 2);
    let (first, _) = sending.send(1, 1);
    let before = format!("{:?}", sending.netascii);
    let failed = sending.netascii.fill(&sending.terms, (2, 2), &mut [0; 24], &mut Vec::new(), |offset, _| {
        assert_eq!(offset, 7);
        Err(ReadError::Cold)
    });
    assert_eq!(failed, Err(ReadError::Cold));
    assert_eq!(format!("{:?}", sending.netascii), before);
    assert_eq!(sending.netascii.offset(2), 7);
    assert_eq!(sending.send(1, 1).0, first);
}

proptest! {
    /// A client acknowledges any part of each window, and the next begins there: every block is the same each time that it is sent.
    #[test]
    fn blocks_are_those_of_the_file_that_is_encoded_at_once(
        file in prop::collection::vec(prop_oneof![Just(CR), Just(LF), Just(NUL), any::<u8>()], 0..3000),
        block_size in 8u16..200,
        window in 1u16..=64,
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 1..64),
    ) {
        let encoded = naive(&file);
        let expected: Vec<&[u8]> = {
            let size = usize::from(block_size);
            (0..=encoded.len() / size).map(|block| &encoded[block * size..encoded.len().min((block + 1) * size)]).collect()
        };
        let mut sending = Sending::new(&file, block_size, window);
        let mut received: Vec<Vec<u8>> = Vec::new();
        let mut arrivals = arrivals.iter().cycle();
        let mut lost_in_a_row = 0;
        while received.len() < expected.len() {
            let (payloads, is_end) = sending.send(received.len() as u64 + 1, window.into());
            let last = received.len() + payloads.len();
            prop_assert_eq!(is_end, last == expected.len());
            for (payload, expected) in payloads.iter().zip(&expected[received.len()..]) {
                prop_assert_eq!(payload.as_slice(), *expected);
            }
            let arrived = arrivals.next().map_or(0, |arrived| arrived.index(payloads.len() + 1));
            lost_in_a_row = if arrived == 0 { lost_in_a_row + 1 } else { 0 };
            let arrived = if lost_in_a_row > 3 { 1 } else { arrived };
            received.extend(payloads.into_iter().take(arrived));
        }
        prop_assert_eq!(decode(&received.concat()), file);
    }
}
