//! TCP connections with a limited receive buffer, and their reset.

use std::{
    net::{SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt},
};

/// The time limit for a read.
const READ: Duration = Duration::from_secs(30);

/// Connects, in the caller's namespace, with a receive buffer of this many bytes, which the kernel doubles. Unread bytes beyond
/// that stay in the server's send queue.
///
/// # Errors
///
/// Fails if nobody listens on the address.
pub fn connect_with_receive_buffer(address: SocketAddrV4, bytes: usize) -> anyhow::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(READ))?;
    Ok(connection)
}

/// Closes a connection by a RST instead of a FIN, like the next segment to a machine that was reset.
///
/// # Errors
///
/// Fails if the kernel refuses.
pub fn reset(connection: TcpStream) -> anyhow::Result<()> {
    setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(connection);
    Ok(())
}
