//! Files laid out as they are sent, kept for all who ask for the same.
//!
//! A storm is the same loader ten thousand times. So a file is cut into chunks, each as long as one send may be, with the
//! headers in their places: read once, and from then on a window is a system call that sends memory. What a file is can be
//! told by its identity; one that was written to a moment ago is not kept, for its next change might look the same.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use super::{chunk::Chunk, files::Identity, options::Terms, packet::HEADER_LENGTH, socket::Outbox};
use crate::artifacts::OpenArtifact;

/// Bytes that a worker keeps, at most.
const LIMIT: usize = 32 << 20;
/// A file that was written to more recently is read anew for each transfer: file systems' clocks are coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Which chunk of which file, cut for which block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    file: Identity,
    block_size: u16,
    index: u64,
}

/// The chunks that were used last.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    known: HashMap<Key, Arc<Chunk>>,
    /// In the order in which they came.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Chunks {
    /// The chunk, if it is kept.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Chunk>> {
        self.known.get(key).map(Arc::clone)
    }

    /// Keeps a chunk, and lets go of the oldest where there are too many.
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

/// Where a transfer is in the chunks of its file.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Identity,
    /// Blocks of a chunk.
    blocks: u64,
    /// The chunk that was used last. It does not keep it in memory.
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
    /// The first of the blocks.
    pub(super) first: u64,
    /// How many.
    pub(super) count: usize,
}

impl Cursor {
    /// For a transfer that begins now. `None`: this file is not kept.
    pub(super) fn new(file: &OpenArtifact, terms: &Terms, now: SystemTime) -> Option<Self> {
        let age = now.duration_since(file.modified).unwrap_or_default();
        // A power of two, so that windows do not straddle chunks.
        let most = Outbox::segments(HEADER_LENGTH + usize::from(terms.block_size)) as u64;
        let blocks = 1 << most.ilog2();
        let cursor = Self { file: Identity::of(file), blocks, last: (0, Weak::new()) };
        (age >= SETTLED_AFTER).then_some(cursor)
    }

    /// The blocks from `first` on, before `end`, that lie in one chunk.
    pub(super) fn piece(&self, terms: &Terms, first: u64, end: u64) -> Piece {
        let index = first.saturating_sub(1) / self.blocks;
        let chunk_start = index * self.blocks + 1;
        let chunk_end = (chunk_start + self.blocks).min(terms.blocks() + 1);
        let count = (end.min(chunk_end) - first) as usize;
        Piece { index, chunk_start, chunk_blocks: (chunk_end - chunk_start) as usize, first, count }
    }

    /// The chunk of a piece, if it is in memory.
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

    /// The name of a piece's chunk.
    pub(super) fn key(&self, terms: &Terms, piece: &Piece) -> Key {
        Key { file: self.file, block_size: terms.block_size, index: piece.index }
    }
}

impl Piece {
    /// Whether it begins its chunk. Only then is the chunk worth reading: who comes into the middle of one finds it in
    /// memory, or there are more transfers than memory for their chunks.
    pub(super) fn begins_chunk(&self) -> bool {
        self.first == self.chunk_start
    }

    /// Its bytes within the chunk, of blocks that are `datagram` bytes long with their headers.
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
    fn pieces_end_where_chunks_do() {
        // 50 bytes in blocks of 8 are 7 blocks; of chunks of 4 the second has 3.
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
    fn a_piece_is_found_in_its_chunk() {
        let (mut cursor, terms, mut chunks) = (cursor(1, 4), terms(50), Chunks::default());
        let piece = cursor.piece(&terms, 6, 8);
        assert!(cursor.find(&chunks, &terms, &piece).is_none());
        // Three blocks, of which the last has two bytes.
        chunks.keep(cursor.key(&terms, &piece), Chunk(vec![0; 12 + 12 + 6]));
        let chunk = cursor.find(&chunks, &terms, &piece).unwrap();
        assert_eq!(piece.range(&chunk, 12), 12..30);
        assert!(Arc::ptr_eq(&chunk, &cursor.find(&Chunks::default(), &terms, &piece).unwrap()), "remembered");
    }

    #[test]
    fn memory_is_bounded_and_let_go() {
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
        assert!(cursor.find(&chunks, &terms, &first).is_none(), "who used it last does not keep it");
    }

    #[test]
    fn a_file_that_was_just_written_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kernel"), "one").unwrap();
        let file = crate::artifacts::Store::new(directory.path().to_owned()).open(b"kernel").unwrap();
        let after = |wait| Cursor::new(&file, &terms(3), file.modified + wait).is_some();
        assert!(!after(Duration::from_secs(1)) && after(Duration::from_secs(3)));
    }
}
