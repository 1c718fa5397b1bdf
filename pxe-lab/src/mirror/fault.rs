//! Bad upstreams.

/// The fault in the answers for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing follows after this many bytes of the content, until the fault is taken away.
    Stall {
        /// Bytes of the content; 0 stalls after the head.
        after: u64,
    },
    /// There is no answer at all until the fault is taken away.
    Silent,
    /// The connection is closed in place of an answer.
    Close,
    /// The connection is closed after this many bytes of the content, fewer than were announced.
    Truncate {
        /// Bytes of the content.
        after: u64,
    },
    /// Another length is announced, with the content as it is; the connection is closed after it.
    Length(u64),
    /// No length is announced: the content is sent in chunks.
    Chunked,
    /// This status, with a short text.
    Status(u16),
    /// This status, with `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// A page in HTML with status 200, like that of a hotel's network.
    Html,
    /// A redirection to itself.
    RedirectLoop,
    /// A redirection to this URL.
    Redirect(String),
    /// The content comes no faster than this, until the fault is taken away.
    Slow {
        /// Bytes per second.
        bytes_per_second: u64,
    },
    /// A Range is not understood: the answer is 200 with the whole content.
    NoRange,
    /// A Range is answered with status 206 and the content from another offset.
    WrongRange,
    /// Another content of the same length: the byte at this offset is altered.
    Altered {
        /// The offset of the altered byte.
        at: u64,
    },
    /// Bytes that are no HTTP.
    Garbage,
}
