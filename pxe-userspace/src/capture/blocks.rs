//! Splits a stream of pcapng blocks, so that a file ends with a whole one whenever writing it ends.

use super::pcapng::ENHANCED_PACKET;

/// The length of the longest block that pxed writes is far below.
const LONGEST_BLOCK: usize = 16 << 20;
/// Type, length, and length again.
const SHORTEST_BLOCK: usize = 12;

/// The stream is not pcapng as pxed writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a capture: a block of {0} bytes")]
pub struct NotACapture(usize);

/// Returns the number of bytes at the beginning that are whole blocks.
///
/// # Errors
///
/// If a block has an impossible length.
pub fn whole(bytes: &[u8]) -> Result<usize, NotACapture> {
    let mut at = 0;
    while let Some(length) = length_of(&bytes[at..]) {
        if !(SHORTEST_BLOCK..=LONGEST_BLOCK).contains(&length) || length % 4 != 0 {
            return Err(NotACapture(length));
        }
        if bytes.len() - at < length {
            break;
        }
        at += length;
    }
    Ok(at)
}

/// Returns the number of packets in whole blocks.
#[must_use]
pub fn packets(mut blocks: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(length) = length_of(blocks)
        && let Some(rest) = blocks.get(length.max(SHORTEST_BLOCK)..)
    {
        count += u64::from(blocks.first_chunk() == Some(&ENHANCED_PACKET.to_le_bytes()));
        blocks = rest;
    }
    count
}

fn length_of(block: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*block.get(4..)?.first_chunk()?);
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::pcapng::{interface_description, section_header},
        *,
    };

    #[test]
    fn stream_is_cut_behind_its_last_whole_block() {
        let mut stream = Vec::new();
        section_header(&mut stream, "pxed", "", "");
        let first = stream.len();
        interface_description(&mut stream, "eth0", "");
        for end in 0..=stream.len() {
            let expected = if end == stream.len() { end } else { usize::from(end >= first) * first };
            assert_eq!(whole(&stream[..end]), Ok(expected), "{end} bytes");
        }
        assert_eq!(packets(&stream), 0);
    }

    #[test]
    fn block_of_an_impossible_length_is_no_capture() {
        for length in [0_u32, 8, 13, u32::MAX] {
            let block = [6_u32.to_le_bytes(), length.to_le_bytes()].concat();
            assert!(whole(&block).is_err(), "{length}");
        }
        assert!(whole(b"{\"error\":\"no\"}").is_err());
    }

    proptest! {
        #[test]
        fn anything_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = whole(&bytes);
            let _ = packets(&bytes);
        }
    }
}
