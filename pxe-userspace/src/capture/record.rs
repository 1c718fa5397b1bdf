//! One frame of a capture.

use std::{sync::Arc, time::SystemTime};

/// The way of a frame, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It was received.
    In,
    /// It was sent.
    Out,
}

/// One frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The time at which it came or went.
    pub at: SystemTime,
    /// The interface.
    pub interface: Arc<str>,
    /// Its way.
    pub way: Way,
    /// Its length on the link.
    pub length: usize,
    /// Its bytes, as far as they are kept.
    pub bytes: Box<[u8]>,
    /// pxed's decision in words, or nothing.
    pub comment: String,
}
