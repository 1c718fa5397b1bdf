//! Reads blocks of a file as they go onto the wire, each behind its header.
//!
//! One `preadv2` reads a window into the buffer that is sent, with gaps for the headers: one copy out of the page cache. Mapping the
//! file would save that copy, but truncating a mapped file ends the process (SIGBUS).

use std::{fs::File, io::IoSliceMut};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{
    options::Terms,
    packet::{DATA, HEADER_LENGTH},
};

/// Blocks could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// They are not in the page cache: reading would have to wait for the disk.
    Cold,
    /// The file is shorter than it was.
    Shrunk,
    /// Somebody has written to the file since it was opened.
    Changed,
    /// The kernel reports an error.
    Io(Errno),
}

/// The choice whether reading may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Reading fails with [`ReadError::Cold`] instead.
    CacheOnly,
    /// Reading waits.
    Disk,
}

/// A run of consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    first: u64,
    offset: u64,
    payload: usize,
    block_size: usize,
    headers: usize,
}

impl Run {
    /// Selects the blocks `first..first + count` of a file that is sent on these terms.
    pub(super) fn new(terms: &Terms, first: u64, count: usize) -> Self {
        let block_size = u64::from(terms.block_size);
        let offset = first.saturating_sub(1).saturating_mul(block_size);
        let payload = terms.length.saturating_sub(offset).min(block_size.saturating_mul(count as u64));
        Self { first, offset, payload: payload as usize, block_size: terms.block_size.into(), headers: count }
    }

    /// Returns the number of bytes on the wire, headers included.
    pub(super) fn length(&self) -> usize {
        self.payload + self.headers * HEADER_LENGTH
    }

    /// Returns the offset of the first block in the file, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `space`, which is [`length`](Self::length) bytes, with headers and blocks.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub(super) fn read(&self, file: &File, space: &mut [u8], patience: Patience) -> Result<(), ReadError> {
        let mut slices = Vec::with_capacity(self.headers);
        for (index, chunk) in space.chunks_mut(HEADER_LENGTH + self.block_size).enumerate() {
            let Some(block) = put_header(chunk, self.first.wrapping_add(index as u64)) else {
                return Err(ReadError::Shrunk);
            };
            slices.push(IoSliceMut::new(block));
        }
        read_at(file, &mut slices, self.offset, self.payload, patience)
    }
}

/// Writes the header of a block into a datagram. Returns the space behind it, or `None` if there is no room for a header.
pub(super) fn put_header(datagram: &mut [u8], block: u64) -> Option<&mut [u8]> {
    let (header, payload) = datagram.split_first_chunk_mut::<HEADER_LENGTH>()?;
    let [opcode_high, opcode_low] = DATA.to_be_bytes();
    let [number_high, number_low] = (block as u16).to_be_bytes();
    *header = [opcode_high, opcode_low, number_high, number_low];
    Some(payload)
}

/// Fills `slices`, which are `wanted` bytes together, with the bytes of a file from `offset` on.
///
/// # Errors
///
/// See [`ReadError`].
pub(super) fn read_at(
    file: &File,
    slices: &mut [IoSliceMut<'_>],
    offset: u64,
    wanted: usize,
    patience: Patience,
) -> Result<(), ReadError> {
    let mut read = |flags| preadv2(file, slices, offset, flags);
    let result = match patience {
        Patience::Disk => read(ReadWriteFlags::empty()),
        Patience::CacheOnly => match read(ReadWriteFlags::NOWAIT) {
            // Not every file system supports NOWAIT.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => read(ReadWriteFlags::empty()),
            Ok(read) if read < wanted => Err(Errno::AGAIN),
            result => result,
        },
    };
    match result {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(ReadError::Shrunk),
        Err(Errno::AGAIN) => Err(ReadError::Cold),
        Err(error) => Err(ReadError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::tftp::packet::Options;

    fn read(content: &[u8], terms: &Terms, first: u64, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let run = Run::new(terms, first, count);
        let mut space = vec![0xee; run.length()];
        run.read(&file, &mut space, Patience::Disk).map(|()| space)
    }

    fn terms(length: u64) -> Terms {
        Terms::negotiate(Options { block_size: Some(8), ..Options::default() }, length, 1500)
    }

    #[test]
    fn blocks_stand_behind_their_headers() {
        let content = b"abcdefghijklmnopqrst";
        let wire = |first, count| read(content, &terms(20), first, count);
        assert_eq!(wire(1, 1).unwrap(), b"\0\x03\0\x01abcdefgh");
        assert_eq!(wire(1, 3).unwrap(), b"\0\x03\0\x01abcdefgh\0\x03\0\x02ijklmnop\0\x03\0\x03qrst");
        assert_eq!(wire(3, 1).unwrap(), b"\0\x03\0\x03qrst");
    }

    #[test]
    fn file_of_whole_blocks_ends_with_an_empty_block() {
        assert_eq!(read(b"abcdefgh", &terms(8), 1, 2).unwrap(), b"\0\x03\0\x01abcdefgh\0\x03\0\x02");
        assert_eq!(read(b"", &terms(0), 1, 1).unwrap(), b"\0\x03\0\x01");
    }

    #[test]
    fn shrunk_file_is_noticed() {
        assert_eq!(read(b"abcdefgh", &terms(20), 2, 1), Err(ReadError::Shrunk));
        assert_eq!(read(b"abcdefghij", &terms(20), 2, 1), Err(ReadError::Shrunk));
    }

    #[test]
    fn block_numbers_wrap_to_zero() {
        let length = 8 * 65536 + 3;
        let content = vec![b'x'; length];
        let wire = read(&content, &terms(length as u64), 65535, 3).unwrap();
        let numbers: Vec<_> = wire.chunks(12).map(|datagram| [datagram[2], datagram[3]]).collect();
        assert_eq!(numbers, [[0xff, 0xff], [0, 0], [0, 1]]);
    }
}
