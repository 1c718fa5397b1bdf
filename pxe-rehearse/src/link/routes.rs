//! The routes and the promiscuous mode that a rehearsal needs, set by rtnetlink and removed at its end.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// The origin that marks our routes: `ip route show table local proto 112`.
const PROTOCOL: u8 = 112;
/// The metric of our routes, worse than that of any other.
const METRIC: u32 = 4999;

const NEW_LINK: u16 = libc::RTM_NEWLINK;
const NEW_ROUTE: u16 = libc::RTM_NEWROUTE;
const DELETE_ROUTE: u16 = libc::RTM_DELROUTE;

/// A route, in the notation of `ip route add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// `local ADDRESS dev IF`
    Local(Ipv4Addr),
    /// `NETWORK/LENGTH dev IF metric 4999`
    Network(Ipv4Addr, u8),
}

/// The routes that were added. They are removed on drop.
#[derive(Debug)]
pub(super) struct Routes {
    socket: OwnedFd,
    interface: u32,
    sequence: u32,
    added: Vec<Route>,
    made_promiscuous: bool,
}

impl Routes {
    pub(super) fn open(interface: u32) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Self { socket, interface, sequence: 0, added: Vec::new(), made_promiscuous: false })
    }

    pub(super) fn set_promiscuous(&mut self) -> io::Result<()> {
        self.change_promiscuous(true)?;
        self.made_promiscuous = true;
        Ok(())
    }

    pub(super) fn add_local(&mut self, address: Ipv4Addr) -> io::Result<()> {
        self.add(Route::Local(address))
    }

    pub(super) fn add_network(&mut self, address: Ipv4Addr, prefix_length: u8) -> io::Result<()> {
        let length = prefix_length.clamp(1, 32);
        let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - length)));
        let route = Route::Network(network, length);
        // The machines share a few networks.
        if self.added.iter().rev().take(4096).any(|known| *known == route) { Ok(()) } else { self.add(route) }
    }

    fn add(&mut self, route: Route) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        match self.ask(NEW_ROUTE, flags, &self.encode(route)) {
            Ok(()) => self.added.push(route),
            // It was there before, so it stays afterwards.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns `struct rtmsg` and its attributes.
    fn encode(&self, route: Route) -> Vec<u8> {
        let (address, length, table, scope, kind) = match route {
            Route::Local(address) => (address, 32, libc::RT_TABLE_LOCAL, libc::RT_SCOPE_HOST, libc::RTN_LOCAL),
            Route::Network(network, length) => {
                (network, length, libc::RT_TABLE_MAIN, libc::RT_SCOPE_LINK, libc::RTN_UNICAST)
            }
        };
        let mut body = vec![libc::AF_INET as u8, length, 0, 0, table, PROTOCOL, scope, kind, 0, 0, 0, 0];
        let mut attribute = |kind: u16, value: [u8; 4]| {
            body.extend(8_u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        };
        attribute(libc::RTA_DST, address.octets());
        attribute(libc::RTA_OIF, self.interface.to_ne_bytes());
        if let Route::Network(..) = route {
            attribute(libc::RTA_PRIORITY, METRIC.to_ne_bytes());
        }
        body
    }

    /// Sends `struct ifinfomsg` with that one flag.
    fn change_promiscuous(&mut self, on: bool) -> io::Result<()> {
        let mask = libc::IFF_PROMISC as u32;
        let mut body = vec![0; 4];
        body.extend(self.interface.to_ne_bytes());
        body.extend(if on { mask } else { 0 }.to_ne_bytes());
        body.extend(mask.to_ne_bytes());
        self.ask(NEW_LINK, 0, &body)
    }

    /// Sends a request and waits for its acknowledgement.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = Vec::with_capacity(64);
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; 4096];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            // `struct nlmsghdr` (length, type, flags, sequence, port), then the negative errno.
            if length < 20 || answer[8..12] != self.sequence.to_ne_bytes() {
                continue;
            }
            let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
            return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) };
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        for route in std::mem::take(&mut self.added).into_iter().rev() {
            let body = self.encode(route);
            let _ = self.ask(DELETE_ROUTE, 0, &body);
        }
        if self.made_promiscuous {
            let _ = self.change_promiscuous(false);
        }
    }
}
