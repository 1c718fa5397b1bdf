//! The socket on which the service manager listens (sd_notify(3)).

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::atomic::{AtomicBool, Ordering},
};

/// The socket, if there is one.
pub(super) struct NotifySocket(Option<Open>);

struct Open {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Set once a failure has been logged.
    has_failed: AtomicBool,
}

impl NotifySocket {
    /// Opens the socket that the variable NOTIFY_SOCKET names: a path, or an abstract name after `@`. A name that makes no sense is logged
    /// and ignored, since pxed serves without a service manager as well.
    pub(super) fn find(name: Option<OsString>) -> Self {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Self(None) };
        Self::open(&name).unwrap_or_else(|error| {
            tracing::warn!("the service manager is told nothing: NOTIFY_SOCKET={}: {error}", name.display());
            Self(None)
        })
    }

    fn open(name: &OsString) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither an absolute path nor an abstract name (@…)")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Open { socket, address, has_failed: AtomicBool::new(false) })))
    }

    /// Returns `true` if there is somebody to tell.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a message. Returns `false` if it was not taken, because the receiver's queue is full or nobody listens.
    pub(super) fn send(&self, message: &str) -> bool {
        let Some(Open { socket, address, has_failed }) = &self.0 else { return false };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => true,
            Err(error) => {
                let is_new = error.kind() != io::ErrorKind::WouldBlock && !has_failed.swap(true, Ordering::Relaxed);
                if is_new {
                    tracing::warn!("cannot notify the service manager, which is tried again: {error}");
                }
                false
            }
        }
    }
}
