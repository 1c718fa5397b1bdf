//! Reads how many bytes of a TCP connection the peer has not acknowledged.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Returns the length of the send queue in bytes: everything that was written to the socket and is not acknowledged yet,
/// including a FIN as one byte. The kernel keeps the number when the connection is reset.
///
/// # Errors
///
/// The kernel's error; a connected TCP socket causes none.
#[expect(unsafe_code, reason = "no crate here wraps SIOCOUTQ, and their TCP_INFO lacks the bytes that are not sent yet")]
pub(super) fn send_queue(socket: impl AsFd) -> io::Result<u64> {
    let mut length: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int (tcp(7)), to a variable that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ as _, &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    /// Fills the connection and returns how many bytes it took.
    fn fill(server: &mut TcpStream) -> u64 {
        server.set_nonblocking(true).unwrap();
        let chunk = [0; 65536];
        std::iter::from_fn(|| server.write(&chunk).ok()).sum::<usize>() as u64
    }

    #[test]
    fn send_queue_holds_the_unacknowledged_bytes() {
        let (mut server, mut client) = connection();
        assert_eq!(send_queue(&server).unwrap(), 0);
        let written = fill(&mut server);
        let queue = send_queue(&server).unwrap();
        assert!(0 < queue && queue <= written, "{queue} of {written}");
        let mut rest = vec![0; usize::try_from(written).unwrap()];
        client.read_exact(&mut rest).unwrap();
        // A FIN follows the bytes, and its acknowledgement follows theirs.
        drop(client);
        server.set_nonblocking(false).unwrap();
        server.read_exact(&mut [0]).unwrap_err();
        assert_eq!(send_queue(&server).unwrap(), 0);
    }

    #[test]
    fn send_queue_outlives_a_reset() {
        let (mut server, client) = connection();
        let written = fill(&mut server);
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        server.set_nonblocking(false).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let queue = send_queue(&server).unwrap();
        assert!(0 < queue && queue <= written, "{queue} of {written}");
    }

    #[test]
    fn fin_counts_as_one_byte() {
        let (mut server, _client) = connection();
        fill(&mut server);
        let queue = send_queue(&server).unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(send_queue(&server).unwrap(), queue + 1);
    }
}
