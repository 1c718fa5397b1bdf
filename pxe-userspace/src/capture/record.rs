//! One frame of a capture.

use std::{sync::Arc, time::SystemTime};

use pxe_common::counter::Action;

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
    /// The action of the XDP program, if the program tells of the frame. Most such frames come by another way, too.
    pub by_program: Option<Action>,
}
