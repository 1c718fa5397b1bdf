//! Netascii (RFC 764, RFC 1350 §1): a line feed goes onto the wire as CR LF, a carriage return as CR NUL.
//!
//! The client decodes it, so the file arrives as it is on the server. Its encoded length is not known before all of it was read,
//! nor are the bytes at which a block begins. So a transfer remembers the place in the file at which each block of its window
//! begins: a block that is sent again is encoded again from there, and the file is read once, however long it is.

use std::collections::VecDeque;

use super::{
    blocks::{ReadError, put_header},
    options::Terms,
    packet::HEADER_LENGTH,
};

const CR: u8 = b'\r';
const LF: u8 = b'\n';
const NUL: u8 = 0;

/// A place in the encoded file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// The bytes of the file that are encoded before it.
    offset: u64,
    /// The second byte of a pair whose first byte is before it.
    owed: Option<u8>,
}

/// The places at which the blocks of a transfer's window begin.
#[derive(Debug)]
pub(super) struct Netascii {
    /// The number of the first block whose place is kept.
    first: u64,
    /// The places of that block and the following ones. The last is where the next block begins that was not encoded yet.
    starts: VecDeque<Place>,
}

/// Blocks that were encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Their bytes on the wire, headers included.
    pub(super) length: usize,
    /// The number of blocks.
    pub(super) count: usize,
    /// The last of them ends the file.
    pub(super) is_end: bool,
}

impl Place {
    /// Encodes `source`, the bytes of the file from this place on, until `source` or `space` is used up. Moves on to the place after
    /// them, and returns the number of bytes written.
    fn encode(&mut self, source: &[u8], space: &mut [u8]) -> usize {
        let (mut read, mut written) = (0, 0);
        while written < space.len() {
            if let Some(byte) = self.owed.take() {
                space[written] = byte;
                written += 1;
                continue;
            }
            let rest = &source[read..];
            let fitting = &rest[..rest.len().min(space.len() - written)];
            let plain = fitting.iter().position(|byte| matches!(*byte, CR | LF)).unwrap_or(fitting.len());
            space[written..written + plain].copy_from_slice(&rest[..plain]);
            read += plain;
            written += plain;
            let Some(&byte) = fitting.get(plain) else {
                if plain == rest.len() {
                    break;
                }
                continue;
            };
            space[written] = CR;
            self.owed = Some(if byte == LF { LF } else { NUL });
            read += 1;
            written += 1;
        }
        self.offset += read as u64;
        written
    }
}

impl Netascii {
    /// Begins at the first block.
    pub(super) fn new() -> Self {
        Self { first: 1, starts: VecDeque::from([Place::default()]) }
    }

    /// Returns the offset in the file at which a block of the window begins, in bytes.
    pub(super) fn offset(&self, block: u64) -> u64 {
        self.start(block).offset
    }

    /// Encodes up to `count` blocks from `first` on into `space`, each behind its header. `read` fills a buffer with the bytes of
    /// the file at an offset; `scratch` is memory for them.
    ///
    /// # Errors
    ///
    /// Those of `read`. Nothing is remembered then.
    pub(super) fn fill(
        &mut self,
        terms: &Terms,
        (first, count): (u64, usize),
        space: &mut [u8],
        scratch: &mut Vec<u8>,
        read: impl FnOnce(u64, &mut [u8]) -> Result<(), ReadError>,
    ) -> Result<Encoded, ReadError> {
        let block_size = usize::from(terms.block_size);
        let mut place = self.start(first);
        let begin = place.offset;
        // No byte of the file becomes less than one byte on the wire.
        let most = (count * block_size) as u64;
        scratch.resize(terms.length.saturating_sub(begin).min(most) as usize, 0);
        read(begin, scratch)?;
        let mut encoded = Encoded { length: 0, count: 0, is_end: false };
        for (block, datagram) in (first..).zip(space.chunks_exact_mut(HEADER_LENGTH + block_size).take(count)) {
            let Some(payload) = put_header(datagram, block) else { break };
            let source = scratch.get((place.offset - begin) as usize..).unwrap_or_default();
            let written = place.encode(source, payload);
            encoded.length += HEADER_LENGTH + written;
            encoded.count += 1;
            if written < block_size {
                encoded.is_end = true;
                break;
            }
            self.remember(block + 1, place, terms.window);
        }
        Ok(encoded)
    }

    /// Returns the place at which a block begins. A transfer asks for no other blocks than those of its window and the next one.
    fn start(&self, block: u64) -> Place {
        let index = block.saturating_sub(self.first) as usize;
        self.starts.get(index).or(self.starts.back()).copied().unwrap_or_default()
    }

    /// Remembers the place at which a block begins, and forgets those that are acknowledged: a block is encoded only when every
    /// block more than a window before it has arrived.
    fn remember(&mut self, block: u64, place: Place, window: u16) {
        if block == self.first + self.starts.len() as u64 {
            self.starts.push_back(place);
        }
        while self.starts.len() > usize::from(window) + 1 {
            self.starts.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests;
