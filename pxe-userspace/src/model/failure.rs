//! Reasons why a file did not arrive. TFTP and HTTP write them into events, and the diagnosis recognises them there: the reason
//! of an event begins with one of these texts, and details may follow.

/// The path names nothing below the artifacts directory.
pub const NO_SUCH_FILE: &str = "no such file";
/// The path contains `..`, or is a symbolic link that leads elsewhere.
pub const OUTSIDE: &str = "the path leads out of the artifacts directory";
/// Symbolic links lead to each other, or there are too many of them.
pub const LINKS_IN_A_CIRCLE: &str = "symbolic links lead in a circle";
/// Permissions are missing, or the disk fails.
pub const UNREADABLE: &str = "the file cannot be read";
/// The process or the host has no free file descriptor, which passes.
pub const NO_DESCRIPTORS: &str = "no file descriptor is free now";
/// The client has acknowledged or read nothing for too long.
pub const FELL_SILENT: &str = "the client fell silent";
/// The request came from an address that is not the machine's. The address follows.
pub const ASKED_FROM: &str = "asked from";
/// The spec names another architecture. Its machine is probably not this one.
pub const WRONG_ARCHITECTURE: &str = "the firmware's architecture is not the one in the cluster spec";
/// A unified kernel image cannot be made. The reason and the remedy follow.
pub const NO_IMAGE: &str = "its unified kernel image cannot be made";
/// Somebody wrote to the file in place, so that what the machine would get is neither the old file nor the new one.
pub const CHANGED: &str = "the file changed while it was sent: replace files by a rename (mv), not in place (cp)";
/// The file is not as it was when it was verified, and is being read again, which passes.
pub const UNVERIFIED: &str = "the file has changed and is being verified";
/// The file is not what was verified, so that it is not served.
pub const ALTERED: &str = "the file is not the one that was verified";
/// DHCP packets were dropped by the rate limit of their machine.
pub const TOO_OFTEN: &str = "it asked more often than --machine-rate admits";
/// A DHCP packet is left unanswered, because the machine chose the offer of a server that is no node of this fleet.
pub const OTHER_OFFER: &str = "the machine chose another DHCP server's offer; is there a second one on this network?";
