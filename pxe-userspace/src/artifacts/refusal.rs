//! Reasons why the store does not open a file.

use crate::model::failure;

/// The reason why a path was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The file does not exist or is not a regular file.
    NotFound,
    /// The path contains a NUL byte or `..`, or leaves the directory through a symbolic link.
    Outside,
    /// The symbolic links of the path lead in a circle, or there are too many of them.
    Circle,
    /// The file exists but cannot be read.
    Unreadable,
    /// The file is not as it was recorded, and is being read to verify it. This passes.
    Unverified,
    /// The file was read and is not what was recorded.
    Altered,
    /// No file can be opened now, since descriptors or memory are used up. This passes and says nothing about the file.
    Exhausted,
}

impl Refusal {
    /// Returns the reason for a client, which need not know our directories.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => failure::NO_SUCH_FILE,
            Self::Outside => failure::OUTSIDE,
            Self::Circle => failure::LINKS_IN_A_CIRCLE,
            Self::Unreadable => failure::UNREADABLE,
            Self::Unverified => failure::UNVERIFIED,
            Self::Altered => failure::ALTERED,
            Self::Exhausted => failure::NO_DESCRIPTORS,
        }
    }
}
