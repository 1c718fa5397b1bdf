//! The pieces of an image.

use std::{ops::Range, sync::Arc};

/// A file that an image takes bytes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceFile {
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The unified kernel image that is taken apart.
    Uki,
}

/// A piece of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A range of a file, in bytes.
    File {
        /// The file.
        file: SourceFile,
        /// The range.
        range: Range<u64>,
    },
}

impl Piece {
    /// Returns the length in bytes. No piece is empty.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no piece is empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }
}

/// Pieces in order. Neighbours are joined where they can be.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    /// Bytes behind the last piece.
    bytes: Vec<u8>,
    pub(super) length: u64,
}

impl Pieces {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
    }

    /// Adds zeros up to this length.
    pub(super) fn pad(&mut self, length: u64) {
        let missing = length.saturating_sub(self.length);
        self.bytes.resize(self.bytes.len() + usize::try_from(missing).unwrap_or(0), 0);
        self.length += missing;
    }

    pub(super) fn file(&mut self, file: SourceFile, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.length += range.end - range.start;
        if self.bytes.is_empty()
            && let Some(Piece::File { file: last, range: before }) = self.pieces.last_mut()
            && (*last, before.end) == (file, range.start)
        {
            before.end = range.end;
            return;
        }
        self.flush();
        self.pieces.push(Piece::File { file, range: range.clone() });
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.bytes).into()));
        }
    }

    pub(super) fn finish(mut self) -> Vec<Piece> {
        self.flush();
        self.pieces
    }
}
