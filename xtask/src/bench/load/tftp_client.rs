//! One TFTP client of the load generator.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recv, recvmsg, setsockopt,
    sockopt::{RcvBuf, UdpGroSegment},
};
use pxe_common::MacAddr;

use super::tftp_ack::Acknowledger;

/// The time before a client repeats itself: the shortest that firmware uses.
const PATIENCE: Duration = Duration::from_secs(1);
/// The repetitions before a client gives up.
const ATTEMPTS: u32 = 10;
/// The block size of RFC 1350.
const DEFAULT_BLOCK_SIZE: u16 = 512;
/// The part of a single datagram that is copied and checked, in bytes: its header, and the beginning of its block.
const CHECKED: usize = 256;
/// Opcodes.
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;
/// Room for a window of separate datagrams, in bytes of kernel memory.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The load on a TFTP server.
#[derive(Clone, Debug)]
pub(crate) struct TftpLoad {
    /// The server's address.
    pub(crate) server: SocketAddrV4,
    /// The name of the file.
    pub(crate) file: String,
    /// The length of the file in bytes. Its content is [`pattern`].
    pub(crate) length: u64,
    /// The clients' addresses, shared evenly: servers limit the transfers of one address.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The number of concurrent clients.
    pub(crate) clients: usize,
    /// Requested block size in bytes, a multiple of four.
    pub(crate) block_size: u16,
    /// Requested windowsize in blocks; the server may grant less.
    pub(crate) window: u16,
    /// The total of transfers; a client that has finished one starts the next.
    pub(crate) transfers: u64,
    /// The time limit. Transfers that still run then are cut.
    pub(crate) limit: Duration,
    /// The MACs of the client's interface and of the server: acknowledgements bypass the client's IP stack.
    pub(crate) macs: (MacAddr, MacAddr),
}

/// Returns content that shows where each of its bytes belongs: four-byte words that count up, little-endian.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut content: Vec<u8> = (0..length.div_ceil(4) as u32).flat_map(u32::to_le_bytes).collect();
    content.truncate(length);
    content
}

/// The receive buffer, which all sockets share, and the sender of acknowledgements.
pub(super) struct Inbox {
    acknowledger: Acknowledger,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

impl Inbox {
    pub(super) fn new(acknowledger: Acknowledger) -> Self {
        Self { acknowledger, buffer: vec![0; 1 << 16], control: nix::cmsg_space!(i32) }
    }

    /// Sends the queued acknowledgements.
    pub(super) fn flush(&mut self) {
        self.acknowledger.flush();
    }
}

/// The progress of a client.
pub(super) enum Progress {
    Running,
    /// Nothing came, so the client repeated its last packet.
    AskedAgain,
    Done,
    Failed(String),
}

/// One client with one transfer.
pub(super) struct Client {
    socket: UdpSocket,
    /// The client's address.
    address: SocketAddrV4,
    server: SocketAddrV4,
    /// The port of the server's transfer is known.
    connected: bool,
    length: u64,
    block_size: u16,
    window: u16,
    /// Every block up to this one has arrived.
    received: u64,
    bytes: u64,
    /// Every block up to this one is acknowledged.
    acknowledged: u64,
    /// The gap in this window was reported.
    gap_told: bool,
    started: Instant,
    heard: Instant,
    attempts: u32,
}

impl Client {
    /// Opens a socket at this address and sends the request.
    pub(super) fn begin(load: &TftpLoad, address: Ipv4Addr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((address, 0)).with_context(|| format!("cannot open a socket at {address}"))?;
        socket.set_nonblocking(true)?;
        if load.window > 1 {
            setsockopt(&socket, UdpGroSegment, &true)?;
            setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
        }
        let now = Instant::now();
        let mut client = Self {
            address: SocketAddrV4::new(address, socket.local_addr()?.port()),
            socket,
            server: load.server,
            connected: false,
            length: load.length,
            block_size: DEFAULT_BLOCK_SIZE,
            window: 1,
            received: 0,
            bytes: 0,
            acknowledged: 0,
            gap_told: false,
            started: now,
            heard: now,
            attempts: 0,
        };
        client.request(load);
        Ok(client)
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Returns the bytes of the file received so far.
    pub(super) fn received_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the negotiated window, in blocks.
    pub(super) fn window(&self) -> u16 {
        self.window
    }

    pub(super) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Tells the server that the transfer is aborted.
    pub(super) fn break_off(&self) {
        if self.connected {
            // If this is lost, the server sees a silent client.
            let _ = self.socket.send(b"\0\x05\0\0cut\0");
        }
    }

    /// Handles arrived datagrams, at most one window.
    pub(super) fn on_ready(&mut self, now: Instant, inbox: &mut Inbox) -> Progress {
        loop {
            let (length, segment) = match self.receive(inbox) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Running,
                Err(error) => return Progress::Failed(format!("receiving: {error}")),
            };
            self.heard = now;
            self.attempts = 0;
            let acknowledged = self.acknowledged;
            let Inbox { buffer, acknowledger, .. } = &mut *inbox;
            for datagram in buffer[..length].chunks(segment.max(1)) {
                match self.on_datagram(datagram, acknowledger) {
                    Progress::Running => {}
                    progress => return progress,
                }
            }
            // Reading on is needless: nothing more is expected before the server's turn, and asking costs a system call.
            if self.acknowledged != acknowledged || self.window == 1 {
                return Progress::Running;
            }
        }
    }

    /// Repeats the last packet if the server has been silent for too long.
    pub(super) fn on_time(&mut self, now: Instant, load: &TftpLoad, inbox: &mut Inbox) -> Progress {
        if now.saturating_duration_since(self.heard) < PATIENCE {
            return Progress::Running;
        }
        // Datagrams that came while another was being read raised no event of their own.
        match self.on_ready(now, inbox) {
            Progress::Running if self.heard < now => {}
            progress => return progress,
        }
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            return Progress::Failed(format!("silence after block {}", self.received));
        }
        self.heard = now;
        if self.connected {
            // Through the IP stack: a frame may have gone astray. If this is lost too, it is repeated again.
            let _ = self.socket.send(&self.acknowledgement());
        } else {
            self.request(load);
        }
        Progress::AskedAgain
    }

    fn request(&mut self, load: &TftpLoad) {
        let TftpLoad { file, block_size, window, .. } = load;
        let mut packet = format!("\0\x01{file}\0octet\0blksize\0{block_size}\0tsize\00\0");
        if *window > 1 {
            packet += &format!("windowsize\0{window}\0");
        }
        // A packet that cannot be sent is repeated like a lost one.
        let _ = self.socket.send_to(packet.as_bytes(), self.server);
    }

    fn acknowledge(&mut self, acknowledger: &mut Acknowledger) {
        acknowledger.send(self.address, self.server, self.acknowledgement());
        self.acknowledged = self.received;
    }

    fn acknowledgement(&self) -> [u8; 4] {
        let ([opcode_high, opcode_low], [high, low]) = (ACK.to_be_bytes(), (self.received as u16).to_be_bytes());
        [opcode_high, opcode_low, high, low]
    }

    /// Receives one datagram, or several that came as one. Returns their length and that of each but the last.
    fn receive(&mut self, inbox: &mut Inbox) -> io::Result<(usize, usize)> {
        if !self.connected {
            let (length, from) = self.socket.recv_from(&mut inbox.buffer)?;
            if let SocketAddr::V4(from) = from
                && from.ip() == self.server.ip()
            {
                self.socket.connect(from)?;
                self.server = from;
                self.connected = true;
            }
            return Ok((length, length));
        }
        if self.window == 1 {
            // Only the checked part is copied. The returned length is still that of the datagram.
            let start = &mut inbox.buffer[..CHECKED];
            let length = recv(self.socket.as_raw_fd(), start, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC)?;
            return Ok((length, length));
        }
        let mut slices = [IoSliceMut::new(&mut inbox.buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut inbox.control), flags)?;
        let segment = message.cmsgs().map_err(io::Error::from)?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
            _ => None,
        });
        Ok((message.bytes, segment.unwrap_or(message.bytes)))
    }

    fn on_datagram(&mut self, datagram: &[u8], acknowledger: &mut Acknowledger) -> Progress {
        let [opcode_high, opcode_low, high, low, rest @ ..] = datagram else {
            return Progress::Failed(format!("a datagram of {} bytes", datagram.len()));
        };
        match u16::from_be_bytes([*opcode_high, *opcode_low]) {
            DATA => self.on_block(u16::from_be_bytes([*high, *low]), rest, acknowledger),
            OACK if self.received == 0 => self.on_options(&datagram[2..], acknowledger),
            OACK => Progress::Running,
            ERROR => Progress::Failed(format!("error {low}: {}", rest.escape_ascii())),
            opcode => Progress::Failed(format!("opcode {opcode}")),
        }
    }

    fn on_options(&mut self, text: &[u8], acknowledger: &mut Acknowledger) -> Progress {
        let mut words = text.split(|&byte| byte == 0);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let value = std::str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
            match (name.to_ascii_lowercase().as_slice(), value) {
                (b"blksize", Some(bytes)) => self.block_size = bytes.clamp(8, u16::MAX.into()) as u16,
                (b"windowsize", Some(blocks)) => self.window = blocks.clamp(1, u16::MAX.into()) as u16,
                (b"tsize", Some(bytes)) if bytes != self.length => {
                    return Progress::Failed(format!("a tsize of {bytes} instead of {}", self.length));
                }
                _ => {}
            }
        }
        self.acknowledge(acknowledger);
        Progress::Running
    }

    fn on_block(&mut self, number: u16, block: &[u8], acknowledger: &mut Acknowledger) -> Progress {
        let next = self.received + 1;
        if number != next as u16 {
            // RFC 7440 §4: report the gap once; blocks in flight are useless. A number behind is a repetition.
            let ahead = number.wrapping_sub(next as u16) < 0x8000;
            if ahead && !self.gap_told && self.window > 1 {
                self.gap_told = true;
                self.acknowledge(acknowledger);
            }
            return Progress::Running;
        }
        self.gap_told = false;
        let expected = ((self.bytes / 4) as u32).to_le_bytes();
        let length = block.len().min(4);
        if block.len() > self.block_size.into() || block[..length] != expected[..length] {
            return Progress::Failed(format!("block {next} does not hold what the file does"));
        }
        self.received = next;
        self.bytes += block.len() as u64;
        let last = block.len() < self.block_size.into();
        if last || self.received - self.acknowledged >= self.window.into() {
            self.acknowledge(acknowledger);
        }
        match last {
            true if self.bytes == self.length => Progress::Done,
            true => Progress::Failed(format!("{} bytes instead of {}", self.bytes, self.length)),
            false => Progress::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_tells_positions() {
        let content = pattern(1027);
        assert_eq!(content.len(), 1027);
        assert_eq!(content[400..404], 100u32.to_le_bytes());
    }
}
