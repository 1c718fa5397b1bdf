//! The sizes of socket buffers.

use std::{io, os::fd::AsFd};

use nix::sys::socket::{setsockopt, sockopt};

/// Sets the size of a socket's receive buffer. Without `CAP_NET_ADMIN` the kernel allows up to `net.core.rmem_max`.
///
/// # Errors
///
/// If the kernel refuses.
pub fn set_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

/// Sets the size of a socket's send buffer. Without `CAP_NET_ADMIN` the kernel allows up to `net.core.wmem_max`.
///
/// # Errors
///
/// If the kernel refuses.
pub fn set_send_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::SndBuf, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn buffers_have_the_requested_size() {
        const BYTES: usize = 20_000;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_receive_buffer(&socket, BYTES).unwrap();
        set_send_buffer(&socket, BYTES).unwrap();
        // socket(7): the kernel doubles the value to have room for bookkeeping.
        assert_eq!(getsockopt(&socket, sockopt::RcvBuf), Ok(2 * BYTES));
        assert_eq!(getsockopt(&socket, sockopt::SndBuf), Ok(2 * BYTES));
    }
}
