//! A part of a file in the form in which it is sent.

/// A run of consecutive blocks, each behind its header.
#[derive(Debug)]
pub(super) struct Chunk(pub(super) Vec<u8>);
