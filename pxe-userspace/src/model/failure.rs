//! Why a file did not arrive, in the words in which TFTP and HTTP say it and by which the diagnosis knows it again: a
//! reason begins with one of these, and may go on.

/// The path names nothing below the artifacts directory.
pub const NO_SUCH_FILE: &str = "no such file";
/// The path has a `..`, or is a symbolic link to elsewhere.
pub const OUTSIDE: &str = "the path leads out of the artifacts directory";
/// Permissions, or the disk.
pub const UNREADABLE: &str = "the file cannot be read";
/// The client acknowledged or read nothing for too long.
pub const FELL_SILENT: &str = "the client fell silent";
/// Followed by the address that is not the machine's.
pub const ASKED_FROM: &str = "asked from";
/// The machine is not the one that the spec means.
pub const WRONG_ARCHITECTURE: &str = "the firmware's architecture is not the one in the cluster spec";
