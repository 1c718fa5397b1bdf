//! Errors: an interface is not served as wanted.

use std::io;

use super::{ring::QueueError, xdp::XdpError};
use crate::net::interface::InterfaceError;

/// An interface is not served, or not for everybody.
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
        /// The error.
        error: QueueError,
    },
    /// A system call failed.
    #[error("interface {interface}: {what}: {error}")]
    System {
        /// The interface.
        interface: String,
        /// The request to the kernel.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// A worker neither answers frames nor waits for them.
    #[error(
        "interface {interface}: worker {place} is stuck: the frames of its queue are not answered until pxed is restarted"
    )]
    Stuck {
        /// The interface.
        interface: String,
        /// Its place; with XDP, the queue.
        place: usize,
    },
    /// Several map entries could not be written.
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
