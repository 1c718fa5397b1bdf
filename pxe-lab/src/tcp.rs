//! TCP connections whose client decides how much the server gets rid of, and how they end.

use std::{
    net::{SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt},
};

/// No test waits longer for bytes.
const READ: Duration = Duration::from_secs(30);

/// Connects with a receive buffer of this many bytes, which the kernel doubles: what the client has not read beyond that stays in the
/// server's send queue. In the caller's namespace.
///
/// # Errors
///
/// When nobody listens there.
pub fn connect_with_receive_buffer(address: SocketAddrV4, bytes: usize) -> anyhow::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(READ))?;
    Ok(connection)
}

/// Closes a connection by a RST instead of a FIN, as a machine that is reset does at the next segment.
///
/// # Errors
///
/// When the kernel refuses.
pub fn reset(connection: TcpStream) -> anyhow::Result<()> {
    setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(connection);
    Ok(())
}
