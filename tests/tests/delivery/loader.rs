//! A TCP client made of frames, which acknowledges no more than it is told to. iPXE on UEFI starts the kernel without acknowledging the end of
//! the initramfs; no socket does that.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, recv, send, setsockopt, socket,
        sockopt,
    },
};
use pxe_common::MacAddr;
use pxe_lab::{
    Bridged,
    cluster::{self, Machine},
    topology::INTERFACE,
};

const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 1574;
const SERVER_PORT: u16 = 8000;
/// It takes more at once than the test ever leaves unacknowledged: 16 kB by 2 to the power of this.
const WINDOW: u16 = 16 * 1024;
const WINDOW_SCALE: u8 = 6;

/// A connection from a machine whose kernel knows nothing of it: its interface has no address.
pub(crate) struct Loader {
    socket: OwnedFd,
    mac: MacAddr,
    address: Ipv4Addr,
    server_mac: MacAddr,
    server: Ipv4Addr,
    /// The next byte that we send.
    sequence: u32,
    /// The next byte that we acknowledge.
    acknowledged: u32,
}

impl Loader {
    /// Connects to pxed.
    pub(crate) fn connect(network: &Bridged, machine: &Machine) -> anyhow::Result<Self> {
        let link = network.server.ip(&["-o", "link", "show", "dev", INTERFACE])?;
        let server_mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).context("no MAC")?;
        // Nobody answers ARP for the machine.
        network.server.ip(&[
            "neighbour",
            "replace",
            &machine.address,
            "lladdr",
            &machine.mac,
            "nud",
            "permanent",
            "dev",
            INTERFACE,
        ])?;
        let mut loader = Self {
            socket: network.clients[0].enter(packet_socket)??,
            mac: machine.mac.parse()?,
            address: machine.address.parse()?,
            server_mac: server_mac.parse()?,
            server: cluster::SERVER.parse()?,
            sequence: 1_000,
            acknowledged: 0,
        };
        let syn = TcpHeader { syn: true, ..loader.header() };
        let syn = with_options(
            syn,
            &[TcpOptionElement::MaximumSegmentSize(1_460), TcpOptionElement::WindowScale(WINDOW_SCALE)],
        )?;
        loader.send(syn, &[])?;
        let (answer, _) = loader.receive()?;
        ensure!(answer.syn && answer.ack, "no SYN+ACK: {answer:?}");
        loader.sequence += 1;
        loader.acknowledged = answer.sequence_number.wrapping_add(1);
        loader.send(loader.acknowledgement(), &[])?;
        Ok(loader)
    }

    /// GETs a path and returns the body, whose last `kept_back` bytes it does not acknowledge.
    pub(crate) fn get(&mut self, path: &str, kept_back: u32) -> anyhow::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        self.send(TcpHeader { psh: true, ..self.acknowledgement() }, request.as_bytes())?;
        self.sequence += u32::try_from(request.len())?;
        let first = self.acknowledged;
        let mut answer: Vec<u8> = Vec::new();
        loop {
            let (header, payload) = self.receive()?;
            let expected = first.wrapping_add(u32::try_from(answer.len())?);
            if header.sequence_number != expected || payload.is_empty() {
                continue;
            }
            answer.extend(payload);
            let Some(length) = length_of(&answer) else { continue };
            let most = u32::try_from(length)? - kept_back;
            let acknowledged = first.wrapping_add(most.min(u32::try_from(answer.len())?));
            if acknowledged != self.acknowledged {
                self.acknowledged = acknowledged;
                self.send(self.acknowledgement(), &[])?;
            }
            if answer.len() == length {
                let head = head_length(&answer).context("no head")?;
                return Ok(answer.split_off(head));
            }
        }
    }

    /// Resets the connection, as an operating system does that has the machine's address and knows of no connection.
    pub(crate) fn reset(self) -> anyhow::Result<()> {
        self.send(TcpHeader { rst: true, ..self.header() }, &[])
    }

    fn header(&self) -> TcpHeader {
        TcpHeader::new(PORT, SERVER_PORT, self.sequence, WINDOW)
    }

    fn acknowledgement(&self) -> TcpHeader {
        TcpHeader { ack: true, acknowledgment_number: self.acknowledged, ..self.header() }
    }

    fn send(&self, header: TcpHeader, payload: &[u8]) -> anyhow::Result<()> {
        let builder = PacketBuilder::ethernet2(self.mac.0, self.server_mac.0)
            .ipv4(self.address.octets(), self.server.octets(), 64)
            .tcp_header(header);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload)?;
        send(self.socket.as_raw_fd(), &frame, nix::sys::socket::MsgFlags::empty()).context("cannot send a frame")?;
        Ok(())
    }

    /// Returns the next segment for this connection.
    fn receive(&self) -> anyhow::Result<(TcpHeader, Vec<u8>)> {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no segment within {} s", SOON.as_secs());
            poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::try_from(left)?)?;
            // The kernel cuts large packets into segments for a card only, and this is none.
            let mut frame = vec![0; 70_000];
            let length = recv(self.socket.as_raw_fd(), &mut frame, nix::sys::socket::MsgFlags::empty())?;
            let Ok(packet) = SlicedPacket::from_ethernet(&frame[..length]) else { continue };
            if let Some(TransportSlice::Tcp(tcp)) = packet.transport
                && tcp.destination_port() == PORT
            {
                return Ok((tcp.to_header(), tcp.payload().to_vec()));
            }
        }
    }
}

fn with_options(mut header: TcpHeader, options: &[TcpOptionElement]) -> anyhow::Result<TcpHeader> {
    header.set_options(options).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(header)
}

fn packet_socket() -> anyhow::Result<OwnedFd> {
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == INTERFACE)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {INTERFACE}"))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
    ensure!(address.family().is_some(), "no hardware address");
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// The length of an answer with its head, once that has come.
fn length_of(answer: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(&answer[..head_length(answer)?]).ok()?;
    let length: usize = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()?;
    Some(head.len() + length)
}

fn head_length(answer: &[u8]) -> Option<usize> {
    Some(answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}
