//! UDP sockets as this server needs them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::buffer;

/// The sizes of a socket's buffers, in bytes. Without CAP_NET_ADMIN the limits of net.core.{r,w}mem_max hold: a smaller buffer loses datagrams
/// in a storm, which clients repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    pub(super) receive: usize,
    pub(super) send: usize,
}

/// Binds a non-blocking UDP socket. Port 0 lets the kernel choose one at random.
pub(super) fn bind(address: Ipv4Addr, port: u16, buffers: Buffers) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    buffer::set_receive_buffer(&socket, buffers.receive)?;
    buffer::set_send_buffer(&socket, buffers.send)?;
    socket.bind(&SocketAddrV4::new(address, port).into())?;
    Ok(socket.into())
}
