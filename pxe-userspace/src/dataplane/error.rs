//! Reasons why an interface is not served as wanted.

use std::io;

use super::{ring::QueueError, xdp::XdpError};
use crate::net::interface::InterfaceError;

/// The reason why an interface is not served, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The interface is unsuitable or could not be read.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The XDP program could not be loaded or attached, or its maps could not be written.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// No AF_XDP socket could be opened.
    #[error("interface {interface}: {error}")]
    Queue {
        /// The interface.
        interface: String,
        /// The step that failed, with the reason.
        error: QueueError,
    },
    /// A system call failed.
    #[error("interface {interface}: {what}: {error}")]
    System {
        /// The interface.
        interface: String,
        /// The operation that failed.
        what: &'static str,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// Several map entries failed in the same way.
    #[error("{first} (and {others} more)")]
    Entries {
        /// The error of the first entry.
        first: Box<DataplaneError>,
        /// The number of other entries.
        others: usize,
    },
}

impl DataplaneError {
    /// Returns the error of a failed system call.
    #[must_use]
    pub fn system(interface: &str, what: &'static str, error: io::Error) -> Self {
        Self::System { interface: interface.to_owned(), what, error }
    }
}
