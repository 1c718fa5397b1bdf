//! Keeps the kernel from refusing datagrams that a packet socket answers.
//!
//! A packet socket gets copies of frames. The kernel handles them too, and replies "port unreachable" (ICMP) if no socket has the
//! port, before our answer is sent. EDK2 takes that for the end of its question and ignores the answer.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
};

use rustix::{io::Errno, net::sockopt};

/// Binds a socket that is never read to a UDP port of all addresses, for as long as it lives. Returns `None` if another server has
/// the port: then the kernel refuses nothing. A server that starts later gets the port if it sets `SO_REUSEADDR`.
///
/// # Errors
///
/// If the kernel does not give the port for another reason than that it is in use.
pub fn hold(port: u16) -> io::Result<Option<UdpSocket>> {
    // The option is set after the bind, so that the port is not taken from a server that has it already.
    let socket = match UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)) {
        Ok(socket) => socket,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRINUSE) => return Ok(None),
        Err(error) => return Err(error),
    };
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // The kernel raises it to its minimum.
    sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, bind, socket};

    use super::*;

    #[test]
    fn port_of_another_server_is_left_to_it() {
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        assert!(hold(port).unwrap().is_none());
        drop(other);
        assert!(hold(port).unwrap().is_some());
    }

    #[test]
    fn held_port_answers_nothing_and_refuses_nothing() {
        let held = hold(0).unwrap().unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, held.local_addr().unwrap().port());
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        for _ in 0..100 {
            // An ICMP error would make the next call fail.
            client.send(&[0; 300]).unwrap();
        }
    }

    #[test]
    fn later_server_that_shares_addresses_gets_the_port() {
        let held = hold(0).unwrap().unwrap();
        let port = held.local_addr().unwrap().port();
        let later = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&later, true).unwrap();
        bind(&later, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let later = UdpSocket::from(later);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.send_to(b"question", (Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(later.recv(&mut buffer).unwrap(), 8);
    }
}
