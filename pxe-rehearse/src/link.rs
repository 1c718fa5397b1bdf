//! The simulator's side of the link: one packet socket for all machines, and routes that make their addresses local.
//!
//! DHCP and TFTP go through the packet socket. TCP is left to the kernel: each machine's address is a local one while the
//! rehearsal runs, so that sockets can be bound to it and the kernel answers ARP for it.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::socket::{LinkAddr, MsgFlags, bind, send, setsockopt, sockopt},
};
use pxe_common::MacAddr;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

mod batch;
mod routes;

use batch::set_packet_option;
pub(crate) use batch::{BATCH, Incoming, Outgoing};
use routes::Routes;

/// The number of UDP ports that are reserved for TFTP. A machine takes the next one for each request, as firmware does.
const TFTP_PORTS: usize = 8;
/// The size of the socket's buffers. A burst of replies to thousands of machines must fit.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;

/// An interface that carries simulated machines.
pub(crate) struct Link {
    socket: Socket,
    outgoing: Outgoing,
    /// The number of frames that were lost because the interface had no room for them.
    unsent: u64,
    routes: Routes,
    hardware: MacAddr,
    ports: Arc<[u16]>,
    /// Bound sockets, so that the kernel does not answer the machines' datagrams with ICMP errors.
    _sinks: Vec<Socket>,
}

impl Link {
    /// Opens the interface.
    ///
    /// # Errors
    ///
    /// Fails if the interface does not exist, is down or is not Ethernet, or if privileges are missing.
    pub(crate) fn open(interface: &str) -> anyhow::Result<Self> {
        let (address, flags) = find(interface)?;
        let hardware = MacAddr(address.addr().unwrap_or_default());
        if hardware.is_zero() {
            bail!("{interface} is not an Ethernet interface");
        }
        if !flags.contains(InterfaceFlags::IFF_UP) {
            bail!("{interface} is down: ip link set {interface} up");
        }
        let socket = packet_socket(&address).with_context(|| {
            format!("cannot open a packet socket on {interface}: this needs root or the capability CAP_NET_RAW")
        })?;
        let mut sinks = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..TFTP_PORTS {
            let sink = sink(0).context("cannot reserve UDP ports for TFTP")?;
            ports.extend(sink.local_addr()?.as_socket_ipv4().map(|address| address.port()));
            sinks.push(sink);
        }
        // For replies of ProxyDHCP boot servers. If another process has the port, that will do as well.
        sinks.extend(sink(crate::dhcp::PROXY_PORT));
        let index = u32::try_from(address.ifindex()).context("an interface index beyond 32 bits")?;
        let mut routes = Routes::open(index).context("cannot talk to the kernel about routes")?;
        if !flags.contains(InterfaceFlags::IFF_PROMISC) {
            // Replies go to the machines' hardware addresses, which the card does not accept otherwise.
            routes.set_promiscuous().with_context(|| {
                format!(
                    "cannot switch {interface} to promiscuous mode: this needs root or the capability CAP_NET_ADMIN"
                )
            })?;
        }
        let (outgoing, ports) = (Outgoing::new(), ports.into());
        Ok(Self { socket, outgoing, unsent: 0, routes, hardware, ports, _sinks: sinks })
    }

    /// Returns the hardware address of the interface.
    pub(crate) const fn hardware(&self) -> MacAddr {
        self.hardware
    }

    /// Returns the UDP ports that are reserved for TFTP.
    pub(crate) const fn ports(&self) -> &Arc<[u16]> {
        &self.ports
    }

    /// Returns the number of frames that were lost because the interface had no room for them.
    pub(crate) const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Makes an address local, and its network reachable.
    pub(crate) fn configure(&mut self, address: Ipv4Addr, prefix_length: u8) -> io::Result<()> {
        self.routes.add_local(address)?;
        self.routes.add_network(address, prefix_length)
    }

    /// Queues a frame. If the interface has no room for it, it is lost, as on any wire.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        if self.outgoing.is_full() {
            self.flush();
        }
        if self.outgoing.push(frame).is_none() && send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).is_err()
        {
            self.unsent += 1;
        }
    }

    /// Queues a copy of a frame and returns the copy, to be patched.
    pub(crate) fn send_like(&mut self, frame: &[u8]) -> Option<&mut [u8]> {
        if self.outgoing.is_full() {
            self.flush();
        }
        self.outgoing.push(frame)
    }

    /// Sends the queued frames.
    pub(crate) fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            self.unsent += self.outgoing.flush(&self.socket) as u64;
        }
    }

    /// Receives the frames that are there, at most one batch, and returns their number.
    pub(crate) fn receive(&self, incoming: &mut Incoming) -> io::Result<usize> {
        match incoming.receive(&self.socket) {
            // An interface that went down may come back.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN)) => Ok(0),
            result => result,
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns the link-layer address and the flags of an interface.
fn find(interface: &str) -> anyhow::Result<(LinkAddr, InterfaceFlags)> {
    let mut names = Vec::new();
    for known in getifaddrs().context("cannot list the network interfaces")? {
        if let Some(address) = known.address.as_ref().and_then(|address| address.as_link_addr()) {
            if known.interface_name == interface {
                return Ok((*address, known.flags));
            }
            names.push(known.interface_name);
        }
    }
    bail!("there is no interface {interface}; the interfaces are {}", names.join(", "))
}

fn packet_socket(address: &LinkAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.attach_filter(&wanted())?;
    socket.set_nonblocking(true)?;
    // Spares the kernel the copies of what the host sends.
    let _ = set_packet_option(&socket, libc::PACKET_IGNORE_OUTGOING);
    // Without CAP_NET_ADMIN, the system's default must do.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES);
    let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES);
    bind(socket.as_raw_fd(), address)?;
    Ok(socket)
}

/// Returns the socket filter: incoming UDP over IPv4, and ARP. Downloads over TCP stay out.
fn wanted() -> [SockFilter; 9] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;
    [
        SockFilter::new(LOAD_WORD, 0, 0, PACKET_TYPE),
        SockFilter::new(EQUAL, 5, 0, OUTGOING),
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(EQUAL, 4, 0, libc::ETH_P_ARP as u32),
        SockFilter::new(EQUAL, 0, 2, libc::ETH_P_IP as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(EQUAL, 1, 0, libc::IPPROTO_UDP as u32),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// Returns a UDP socket that discards what it receives.
fn sink(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
    // So the kernel need not segment a window that arrives whole, only for it to be discarded.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket)
}
