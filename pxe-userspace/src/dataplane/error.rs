//! Why an interface is not served as wanted.

use std::io;

use super::{ring::QueueError, xdp::XdpError};
use crate::net::interface::InterfaceError;

/// Why an interface is not served, or not for everybody.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The interface is not fit for it, or could not be looked up.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// No XDP program, or no entry in its maps.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// No AF_XDP socket.
    #[error("interface {interface}: {error}")]
    Queue {
        /// The interface.
        interface: String,
        /// What failed.
        error: QueueError,
    },
    /// A system call failed.
    #[error("interface {interface}: {what}: {error}")]
    System {
        /// The interface.
        interface: String,
        /// What was asked of the kernel.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// The same happened to several map entries.
    #[error("{first} (and {others} more)")]
    Entries {
        /// What happened to the first.
        first: Box<DataplaneError>,
        /// How many others there are.
        others: usize,
    },
}

impl DataplaneError {
    /// Returns the error of a system call.
    #[must_use]
    pub fn system(interface: &str, what: &'static str, error: io::Error) -> Self {
        Self::System { interface: interface.to_owned(), what, error }
    }
}
