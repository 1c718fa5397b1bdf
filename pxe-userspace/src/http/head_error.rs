//! The reason why a request head cannot be answered.

/// The reason why a head is answered by an error and the end of the connection: the start of the next request is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// The status to answer with.
    pub status: u16,
    /// The reason, in words for a person.
    pub reason: &'static str,
}

/// Returns the error of a malformed request.
pub(super) const fn bad(reason: &'static str) -> HeadError {
    HeadError { status: 400, reason }
}
