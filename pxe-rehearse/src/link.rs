//! The simulator's side of the link: one packet socket for every machine, and the kernel told to leave the
//! machines' packets alone.
//!
//! DHCP and TFTP go through the packet socket. TCP is the kernel's: each machine's address becomes a local
//! one for as long as the rehearsal runs, so that sockets can be bound to it and the kernel answers ARP for it.

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
pub(super) use batch::{BATCH, Incoming, Outgoing};
use routes::Routes;

/// How many UDP ports are kept for TFTP. A machine takes the next for each request, as firmware does.
const TFTP_PORTS: usize = 8;
/// A burst of replies to thousands of machines must fit.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;

/// An interface, ready to carry simulated machines.
pub(super) struct Link {
    socket: Socket,
    outgoing: Outgoing,
    /// Frames that were lost because the interface had no room for them.
    unsent: u64,
    routes: Routes,
    hardware: MacAddr,
    ports: Arc<[u16]>,
    /// Bound, so that the kernel does not answer the machines' datagrams with ICMP errors.
    _sinks: Vec<Socket>,
}

impl Link {
    /// Opens the interface.
    pub(super) fn open(interface: &str) -> anyhow::Result<Self> {
        let (address, flags) = find(interface)?;
        let hardware = MacAddr(address.addr().unwrap_or_default());
        if hardware.is_zero() {
            bail!("{interface} is no Ethernet interface");
        }
        if !flags.contains(InterfaceFlags::IFF_UP) {
            bail!("{interface} is down: ip link set {interface} up");
        }
        let socket = packet_socket(&address).with_context(|| {
            format!("cannot open a packet socket on {interface}: it takes root or the capability CAP_NET_RAW")
        })?;
        let mut sinks = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..TFTP_PORTS {
            let sink = sink(0).context("cannot reserve UDP ports for TFTP")?;
            ports.extend(sink.local_addr()?.as_socket_ipv4().map(|address| address.port()));
            sinks.push(sink);
        }
        // For replies of ProxyDHCP boot servers. Whoever has the port already serves just as well.
        sinks.extend(sink(super::dhcp::PROXY_PORT));
        let index = u32::try_from(address.ifindex()).context("an interface index beyond 32 bits")?;
        let mut routes = Routes::open(index).context("cannot talk to the kernel about routes")?;
        if !flags.contains(InterfaceFlags::IFF_PROMISC) {
            // Replies go to the machines' hardware addresses, which the card would not accept.
            routes.set_promiscuous().with_context(|| {
                format!("cannot switch {interface} to promiscuous mode: it takes root or the capability CAP_NET_ADMIN")
            })?;
        }
        let (outgoing, ports) = (Outgoing::new(), ports.into());
        Ok(Self { socket, outgoing, unsent: 0, routes, hardware, ports, _sinks: sinks })
    }

    pub(super) const fn hardware(&self) -> MacAddr {
        self.hardware
    }

    pub(super) const fn ports(&self) -> &Arc<[u16]> {
        &self.ports
    }

    pub(super) const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Makes an address the kernel's, and its network reachable.
    pub(super) fn configure(&mut self, address: Ipv4Addr, prefix_length: u8) -> io::Result<()> {
        self.routes.add_local(address)?;
        self.routes.add_network(address, prefix_length)
    }

    /// Puts a frame in line. One that the interface has no room for is lost, as on any wire.
    pub(super) fn send(&mut self, frame: &[u8]) {
        if self.outgoing.is_full() {
            self.flush();
        }
        if self.outgoing.push(frame).is_none() && send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).is_err()
        {
            self.unsent += 1;
        }
    }

    /// Puts a copy of the frame in line and returns it, to be made its own.
    pub(super) fn send_like(&mut self, frame: &[u8]) -> Option<&mut [u8]> {
        if self.outgoing.is_full() {
            self.flush();
        }
        self.outgoing.push(frame)
    }

    /// Sends what is in line.
    pub(super) fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            self.unsent += self.outgoing.flush(&self.socket) as u64;
        }
    }

    /// Takes the frames that are there, a batch at most, and returns how many that is.
    pub(super) fn receive(&self, incoming: &mut Incoming) -> io::Result<usize> {
        match incoming.receive(&self.socket) {
            // The interface went down; it may come back.
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

/// The interface's link-layer address and flags.
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
    bail!("there is no interface {interface}; there are {}", names.join(", "))
}

fn packet_socket(address: &LinkAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.attach_filter(&wanted())?;
    socket.set_nonblocking(true)?;
    // Of what the host sends, the kernel need not even make copies.
    let _ = set_packet_option(&socket, libc::PACKET_IGNORE_OUTGOING);
    // Beyond the system's limit where we may; otherwise as far as it goes.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES);
    let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES);
    bind(socket.as_raw_fd(), address)?;
    Ok(socket)
}

/// The kernel's filter: incoming UDP over IPv4 and ARP. What the machines download over TCP stays out.
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

/// A UDP socket that takes everything and keeps nothing.
fn sink(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
    // A window that its sender left uncut need not be cut here, only to be thrown away.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket)
}
