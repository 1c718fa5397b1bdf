//! A part of a file as it goes onto the wire.

/// A run of consecutive blocks, each behind its header.
#[derive(Debug)]
pub(super) struct Chunk(pub(super) Vec<u8>);
