//! Reads the kernel's send queue of a TCP connection.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

/// The numbers of bytes at the end of the written stream that wait in the send queue. A FIN counts as one byte. The kernel
/// keeps the numbers when the connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendQueue {
    /// Bytes that the peer has not acknowledged.
    pub(super) unacknowledged: u64,
    /// The part of these bytes that was never sent.
    pub(super) unsent: u64,
}

impl SendQueue {
    /// A queue that holds everything that was ever written.
    pub(super) const ENDLESS: Self = Self { unacknowledged: u64::MAX, unsent: u64::MAX };

    /// Reads the queue from the kernel.
    ///
    /// # Errors
    ///
    /// The kernel's error; a connected TCP socket causes none.
    pub(super) fn of(socket: impl AsFd) -> io::Result<Self> {
        /// SIOCOUTQNSD of <linux/sockios.h>, which libc lacks.
        const SIOCOUTQNSD: u64 = 0x894b;
        let socket = socket.as_fd();
        // SIOCOUTQ has the same number as TIOCOUTQ.
        let unacknowledged = ask(socket, libc::TIOCOUTQ)?;
        let unsent = if unacknowledged == 0 { 0 } else { ask(socket, SIOCOUTQNSD)? };
        Ok(Self { unacknowledged, unsent })
    }
}

#[expect(unsafe_code, reason = "no crate here wraps these, and their TCP_INFO lacks the unsent bytes")]
fn ask(socket: BorrowedFd<'_>, request: u64) -> io::Result<u64> {
    let mut length: libc::c_int = 0;
    // SAFETY: both requests write one int (tcp(7)), to a variable that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut length) };
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

    /// Fills the connection and returns the number of bytes that it took.
    fn fill(server: &mut TcpStream) -> u64 {
        server.set_nonblocking(true).unwrap();
        let chunk = [0; 65536];
        std::iter::from_fn(|| server.write(&chunk).ok()).sum::<usize>() as u64
    }

    #[test]
    fn send_queue_holds_the_unacknowledged_bytes() {
        let (mut server, mut client) = connection();
        let empty = SendQueue { unacknowledged: 0, unsent: 0 };
        assert_eq!(SendQueue::of(&server).unwrap(), empty);
        let written = fill(&mut server);
        let queue = SendQueue::of(&server).unwrap();
        // The client's window is full, so the bytes that it has not taken are unsent.
        assert!(0 < queue.unacknowledged && queue.unacknowledged < written, "{queue:?} of {written}");
        assert!(0 < queue.unsent && queue.unsent <= queue.unacknowledged, "{queue:?}");
        let mut rest = vec![0; usize::try_from(written).unwrap()];
        client.read_exact(&mut rest).unwrap();
        // A FIN follows the bytes, and its acknowledgement follows theirs.
        drop(client);
        server.set_nonblocking(false).unwrap();
        server.read_exact(&mut [0]).unwrap_err();
        assert_eq!(SendQueue::of(&server).unwrap(), empty);
    }

    #[test]
    fn send_queue_outlives_a_reset() {
        let (mut server, client) = connection();
        let written = fill(&mut server);
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        server.set_nonblocking(false).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let queue = SendQueue::of(&server).unwrap();
        assert!(0 < queue.unacknowledged && queue.unacknowledged < written, "{queue:?} of {written}");
        assert!(0 < queue.unsent && queue.unsent <= queue.unacknowledged, "{queue:?}");
    }

    #[test]
    fn fin_counts_as_one_byte() {
        let (mut server, _client) = connection();
        fill(&mut server);
        let queue = SendQueue::of(&server).unwrap().unacknowledged;
        server.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(SendQueue::of(&server).unwrap().unacknowledged, queue + 1);
    }
}
