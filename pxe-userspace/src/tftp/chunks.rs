//! A cache of files in the form in which they are sent, shared by all transfers of the same file.
//!
//! A storm asks for the same loader ten thousand times. So a file is cut into chunks, each as long as one send may be, with the
//! headers in their places. A chunk is read once; from then on a window is a system call that sends memory. Chunks are found by the
//! identity of their file. A file that was written to a moment ago is not cached, because its next change might leave the same
//! identity.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use super::{chunk::Chunk, files::Identity, options::Terms, packet::HEADER_LENGTH, socket::Outbox};
use crate::artifacts::OpenArtifact;

/// The most bytes that a worker keeps.
const LIMIT: usize = 32 << 20;
/// A file that was written to more recently is read again for each transfer, because file systems' clocks are coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Identifies a chunk: its file, its block size and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    file: Identity,
    block_size: u16,
    index: u64,
}

/// The cached chunks of one worker.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    known: HashMap<Key, Arc<Chunk>>,
    /// The oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Chunks {
    /// Returns a chunk, if it is kept.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Chunk>> {
        self.known.get(key).map(Arc::clone)
    }

    /// Keeps a chunk, and drops the oldest ones beyond the limit.
    pub(super) fn keep(&mut self, key: Key, chunk: Chunk) -> Arc<Chunk> {
        let chunk = Arc::new(chunk);
        self.bytes += chunk.0.len();
        if let Some(former) = self.known.insert(key, Arc::clone(&chunk)) {
            self.bytes -= former.0.len();
        } else {
            self.order.push_back(key);
        }
        while self.bytes > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.known.remove(&oldest).map_or(0, |chunk| chunk.0.len());
        }
        chunk
    }
}

/// A transfer's place in the chunks of its file.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Identity,
    /// Blocks in a chunk.
    blocks: u64,
    /// The chunk that was used last, without keeping it in memory.
    last: (u64, Weak<Chunk>),
}

/// Blocks that lie in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The chunk's number.
    index: u64,
    /// Its first block.
    pub(super) chunk_start: u64,
    /// Its blocks.
    pub(super) chunk_blocks: usize,
    /// The first block of the piece.
    pub(super) first: u64,
    /// The number of blocks of the piece.
    pub(super) count: usize,
}

impl Cursor {
    /// Makes the cursor of a transfer that begins at `now`. Returns `None` for a file that is not cached.
    pub(super) fn new(file: &OpenArtifact, terms: &Terms, now: SystemTime) -> Option<Self> {
        let age = now.duration_since(file.modified).unwrap_or_default();
        // A power of two, so that windows do not straddle chunks.
        let most = Outbox::segments(HEADER_LENGTH + usize::from(terms.block_size)) as u64;
        let blocks = 1 << most.ilog2();
        let cursor = Self { file: Identity::of(file), blocks, last: (0, Weak::new()) };
        (age >= SETTLED_AFTER).then_some(cursor)
    }

    /// Returns those of the blocks `first..end` that lie in the same chunk as the first.
    pub(super) fn piece(&self, terms: &Terms, first: u64, end: u64) -> Piece {
        let index = first.saturating_sub(1) / self.blocks;
        let chunk_start = index * self.blocks + 1;
        let chunk_end = (chunk_start + self.blocks).min(terms.blocks() + 1);
        let count = (end.min(chunk_end) - first) as usize;
        Piece { index, chunk_start, chunk_blocks: (chunk_end - chunk_start) as usize, first, count }
    }

    /// Returns the chunk of a piece, if it is in memory.
    pub(super) fn find(&mut self, chunks: &Chunks, terms: &Terms, piece: &Piece) -> Option<Arc<Chunk>> {
        let (index, chunk) = &self.last;
        if *index == piece.index
            && let Some(chunk) = chunk.upgrade()
        {
            return Some(chunk);
        }
        let chunk = chunks.get(&self.key(terms, piece))?;
        self.last = (piece.index, Arc::downgrade(&chunk));
        Some(chunk)
    }

    /// Returns the key of a piece's chunk.
    pub(super) fn key(&self, terms: &Terms, piece: &Piece) -> Key {
        Key { file: self.file, block_size: terms.block_size, index: piece.index }
    }
}

impl Piece {
    /// Returns `true` if the piece begins its chunk. Only then is the chunk worth reading: a transfer that enters the middle of
    /// one finds it in memory, unless there are more chunks in use than memory for them.
    pub(super) fn begins_chunk(&self) -> bool {
        self.first == self.chunk_start
    }

    /// Returns its range of bytes in the chunk. `datagram` is the length of a block with its header.
    pub(super) fn range(&self, chunk: &Chunk, datagram: usize) -> std::ops::Range<usize> {
        let start = (self.first - self.chunk_start) as usize * datagram;
        let end = (start + self.count * datagram).min(chunk.0.len());
        start.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::packet::Options;

    fn identity(inode: u64) -> Identity {
        Identity { inode, length: 1 << 40, modified: SystemTime::UNIX_EPOCH }
    }

    fn cursor(inode: u64, blocks: u64) -> Cursor {
        Cursor { file: identity(inode), blocks, last: (0, Weak::new()) }
    }

    fn terms(length: u64) -> Terms {
        Terms::negotiate(Options { block_size: Some(8), ..Options::default() }, length, 1500)
    }

    #[test]
    fn pieces_end_with_their_chunk() {
        // 50 bytes in blocks of 8 are 7 blocks; in chunks of 4, the second has 3.
        let (cursor, terms) = (cursor(1, 4), terms(50));
        let piece = |first, end| {
            let piece = cursor.piece(&terms, first, end);
            (piece.index, piece.chunk_start, piece.chunk_blocks, piece.count)
        };
        assert_eq!(piece(1, 3), (0, 1, 4, 2));
        assert_eq!(piece(3, 8), (0, 1, 4, 2));
        assert_eq!(piece(5, 8), (1, 5, 3, 3));
        assert_eq!(piece(7, 8), (1, 5, 3, 1));
    }

    #[test]
    fn piece_is_found_in_its_chunk() {
        let (mut cursor, terms, mut chunks) = (cursor(1, 4), terms(50), Chunks::default());
        let piece = cursor.piece(&terms, 6, 8);
        assert!(cursor.find(&chunks, &terms, &piece).is_none());
        // Three blocks, the last with two bytes.
        chunks.keep(cursor.key(&terms, &piece), Chunk(vec![0; 12 + 12 + 6]));
        let chunk = cursor.find(&chunks, &terms, &piece).unwrap();
        assert_eq!(piece.range(&chunk, 12), 12..30);
        assert!(Arc::ptr_eq(&chunk, &cursor.find(&Chunks::default(), &terms, &piece).unwrap()), "remembered");
    }

    #[test]
    fn memory_is_bounded_and_released() {
        let (mut cursor, terms, mut chunks) = (cursor(1, 4), terms(1 << 40), Chunks::default());
        let first = cursor.piece(&terms, 1, 5);
        for number in 0..100_000 {
            let piece = cursor.piece(&terms, number * 4 + 1, number * 4 + 5);
            chunks.keep(cursor.key(&terms, &piece), Chunk(vec![0; 64 << 10]));
            if number == 0 {
                assert!(cursor.find(&chunks, &terms, &piece).is_some());
            }
            assert!(chunks.bytes <= LIMIT && chunks.order.len() == chunks.known.len());
        }
        assert_eq!(chunks.bytes, LIMIT);
        assert!(cursor.find(&chunks, &terms, &first).is_none(), "its last user does not keep it");
    }

    #[test]
    fn file_that_was_just_written_is_not_cached() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kernel"), "one").unwrap();
        let file = crate::artifacts::Store::new(directory.path().to_owned()).open(b"kernel").unwrap();
        let after = |wait| Cursor::new(&file, &terms(3), file.modified + wait).is_some();
        assert!(!after(Duration::from_secs(1)) && after(Duration::from_secs(3)));
    }
}
