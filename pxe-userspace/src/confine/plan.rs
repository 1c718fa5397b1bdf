//! The things that pxed needs as long as it runs, from which everything else follows.

use std::path::PathBuf;

use super::user::UserName;
use crate::capabilities::Capabilities;

/// The things that pxed needs as long as it runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The user to become; without one, that of the package if pxed was started as root and the user exists.
    pub user: Option<UserName>,
    /// The capabilities to keep.
    pub capabilities: Capabilities,
    /// The state directory.
    pub state: PathBuf,
    /// The artifacts directory.
    pub artifacts: PathBuf,
    /// Set if files are fetched into the artifacts directory.
    pub fetches: bool,
    /// Files and directories that are read, also again later.
    pub read: Vec<PathBuf>,
    /// Directories in which sockets are made.
    pub sockets: Vec<PathBuf>,
    /// The TCP ports that are listened on.
    pub tcp_ports: Vec<u16>,
    /// Set if programs are started.
    pub runs_programs: bool,
}
