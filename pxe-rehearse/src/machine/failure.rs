//! The reason that a file did not arrive.

/// The reason that a file did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server fell silent or the connection broke. Another attempt may reach another server.
    Lost(String),
    /// The server answered something that cannot be used.
    Refused(String),
}

impl Failure {
    /// Returns the reason, for people.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Lost(reason) | Self::Refused(reason) => reason,
        }
    }
}
