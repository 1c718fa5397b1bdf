//! The simulator's own TFTP client (RFC 1350, 2347, 2348, 2349, 7440): the transfer of one file. Does no I/O and reads no
//! clock.

use std::{net::Ipv4Addr, ops::Deref, rc::Rc, time::Duration};

/// The client that the transfer imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// EDK2: a request for the size, which it aborts with ERROR 8, then the real request without `tsize`.
    Edk,
    /// A PXE ROM: the same two requests, without windows.
    BootAgent,
    /// iPXE: one request with all options.
    Ipxe,
}

/// An instruction to the owner of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send these bytes from this port to that port of the server.
    Send { from: u16, to: u16, bytes: Bytes },
    /// The file has arrived.
    Done(Received),
    /// The transfer failed for this reason.
    Failed(String),
    /// The server fell silent.
    Lost(String),
}

/// A packet. Acknowledgements, which are most of them, need no allocation. Other packets are shared, not copied, to be repeated.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Acknowledgement([u8; 4]),
    Other(Rc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Acknowledgement(bytes) => bytes,
            Self::Other(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

/// A file that has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The length of the file.
    pub(crate) bytes: u64,
    /// Its first bytes, as many as the caller keeps.
    pub(crate) kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The size was requested.
    Probe,
    /// The file was requested.
    Request,
    /// Blocks arrive.
    Data,
}

/// The transfer of a file.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) server: Ipv4Addr,
    file: String,
    style: Style,
    phase: Phase,
    ports: [u16; 2],
    /// The port of the server's first answer: its transfer identifier.
    peer: Option<u16>,
    block_size: usize,
    window: u16,
    /// The number of the last block that arrived in order. It does not wrap.
    last: u64,
    unacknowledged: u16,
    /// A missing block has been reported already.
    gap_told: bool,
    size: Option<u64>,
    keep: usize,
    received: Received,
    /// The port and the packet that were sent last, to be repeated.
    pending: (u16, Bytes),
    retries: u32,
    deadline: Duration,
    finished: bool,
}

const SERVER: u16 = 69;
const DEFAULT_BLOCK: usize = 512;

impl Transfer {
    /// Begins a transfer from two local ports: a request that follows the one for the size comes from the second. Up to `keep`
    /// bytes of the file are kept.
    pub(crate) fn begin(
        now: Duration,
        server: Ipv4Addr,
        file: &str,
        style: Style,
        ports: [u16; 2],
        keep: usize,
    ) -> (Self, Vec<Action>) {
        let phase = if style == Style::Ipxe { Phase::Request } else { Phase::Probe };
        let mut transfer = Self {
            server,
            file: file.to_owned(),
            style,
            phase,
            ports,
            peer: None,
            block_size: DEFAULT_BLOCK,
            window: 1,
            last: 0,
            unacknowledged: 0,
            gap_told: false,
            size: None,
            keep,
            received: Received::default(),
            pending: (SERVER, Bytes::Acknowledgement([0; 4])),
            retries: 0,
            deadline: now,
            finished: false,
        };
        let action = transfer.request(now);
        (transfer, vec![action])
    }

    /// Returns when [`Self::on_timer`] must be called.
    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns `true` if blocks are expected.
    pub(crate) fn has_begun(&self) -> bool {
        self.phase == Phase::Data
    }

    /// Returns the length of a datagram with a full block.
    pub(crate) const fn datagram_length(&self) -> usize {
        4 + self.block_size
    }

    /// Returns the local port of the current request.
    pub(crate) const fn local_port(&self) -> u16 {
        match self.phase {
            Phase::Probe => self.ports[0],
            _ => self.ports[1],
        }
    }

    fn request(&mut self, now: Duration) -> Action {
        let options: &[(&str, &str)] = match (self.style, self.phase) {
            (Style::Edk, Phase::Probe) => &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")],
            (Style::Edk, _) => &[("blksize", "1468"), ("windowsize", "4")],
            (Style::BootAgent, Phase::Probe) => &[("tsize", "0")],
            (Style::BootAgent, _) => &[("blksize", "1456")],
            (Style::Ipxe, _) => &[("blksize", "1432"), ("tsize", "0")],
        };
        let mut bytes = vec![0, 1];
        let words =
            [self.file.as_str(), "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value]));
        for word in words {
            bytes.extend(word.bytes().filter(|&byte| byte != 0));
            bytes.push(0);
        }
        self.peer = None;
        self.send(now, SERVER, Bytes::Other(bytes.into()))
    }

    fn send(&mut self, now: Duration, to: u16, bytes: Bytes) -> Action {
        self.retries = 0;
        self.deadline = now + self.patience();
        self.pending = (to, bytes.clone());
        Action::Send { from: self.local_port(), to, bytes }
    }

    /// Returns the time until the last packet is repeated. EDK2 waits 3 s, iPXE a quarter of a second, doubled each time.
    fn patience(&self) -> Duration {
        match self.style {
            Style::Edk | Style::BootAgent => Duration::from_secs(3),
            Style::Ipxe => Duration::from_millis(250 << self.retries.min(5)),
        }
    }

    fn acknowledge(&mut self, now: Duration, to: u16) -> Action {
        self.unacknowledged = 0;
        let [high, low] = (self.last as u16).to_be_bytes();
        self.send(now, to, Bytes::Acknowledgement([0, 4, high, low]))
    }

    fn fail(&mut self, reason: String) -> Vec<Action> {
        self.finished = true;
        vec![Action::Failed(reason)]
    }

    /// Repeats the last packet, or gives up, if its time has come.
    pub(crate) fn on_timer(&mut self, now: Duration) -> Vec<Action> {
        if self.finished || now < self.deadline {
            return Vec::new();
        }
        self.retries += 1;
        if self.retries > 6 {
            let reason = match self.phase {
                Phase::Data => format!("the server went silent after {} bytes", self.received.bytes),
                _ => "the server does not answer".to_owned(),
            };
            self.finished = true;
            return vec![Action::Lost(reason)];
        }
        self.gap_told = false;
        self.deadline = now + self.patience();
        let (to, bytes) = self.pending.clone();
        vec![Action::Send { from: self.local_port(), to, bytes }]
    }

    /// Handles a datagram from a port of the server to a local port.
    pub(crate) fn on_datagram(&mut self, now: Duration, from: u16, to: u16, payload: &[u8]) -> Vec<Action> {
        if self.finished || to != self.local_port() {
            return Vec::new();
        }
        // RFC 1350 §4: the first answer determines the transfer identifier of the server.
        if *self.peer.get_or_insert(from) != from {
            return vec![Action::Send { from: to, to: from, bytes: error(5, "Unknown transfer ID") }];
        }
        match payload {
            [0, 3, ..] => self.on_burst(now, from, payload),
            [0, 5, high, low, message @ ..] => {
                let text = String::from_utf8_lossy(message);
                let text = text.trim_end_matches('\0');
                let number = u16::from_be_bytes([*high, *low]);
                self.fail(format!("the server says: {text} (TFTP error {number})"))
            }
            [0, 6, options @ ..] => self.on_option_acknowledgement(now, from, options),
            _ => Vec::new(),
        }
    }

    fn on_option_acknowledgement(&mut self, now: Duration, from: u16, options: &[u8]) -> Vec<Action> {
        if self.phase == Phase::Data {
            // It was repeated, so ACK 0 was lost.
            return if self.last == 0 { vec![self.acknowledge(now, from)] } else { Vec::new() };
        }
        let mut words = options.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let Ok(number) = value.parse::<u64>() else {
                let reason = format!("the server acknowledges {name}={value}, which is not a number");
                return self.fail(reason);
            };
            match name.to_ascii_lowercase().as_str() {
                "tsize" => self.size = Some(number),
                "blksize" if (8..=65464).contains(&number) => self.block_size = number as usize,
                "windowsize" if (1..=65535).contains(&number) => self.window = number as u16,
                _ => {
                    let reason = format!("the server acknowledges {name}={value}, which was not asked for");
                    return self.fail(reason);
                }
            }
        }
        if self.phase == Phase::Probe {
            return self.leave_probe(now, from);
        }
        self.phase = Phase::Data;
        vec![self.acknowledge(now, from)]
    }

    /// Aborts the request for the size, whether the server told it or not, and requests the file.
    fn leave_probe(&mut self, now: Duration, from: u16) -> Vec<Action> {
        let abort = Action::Send { from: self.local_port(), to: from, bytes: error(8, "User aborted the transfer") };
        self.phase = Phase::Request;
        (self.block_size, self.window) = (DEFAULT_BLOCK, 1);
        vec![abort, self.request(now)]
    }

    /// Handles a block, or several: between network namespaces, datagrams that rely on UDP segmentation offload arrive as one.
    fn on_burst(&mut self, now: Duration, from: u16, mut payload: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        while let [0, 3, high, low, data @ ..] = payload {
            let number = u16::from_be_bytes([*high, *low]);
            let block = if self.phase == Phase::Data { self.block_size } else { data.len() };
            let [next_high, next_low] = number.wrapping_add(1).to_be_bytes();
            let is_uncut = data.get(block..).is_some_and(|rest| rest.starts_with(&[0, 3, next_high, next_low]));
            let (data, rest) = data.split_at(if is_uncut { block } else { data.len() });
            actions.extend(self.on_data(now, from, number, data));
            payload = rest;
            if self.finished {
                break;
            }
        }
        actions
    }

    fn on_data(&mut self, now: Duration, from: u16, number: u16, data: &[u8]) -> Vec<Action> {
        match self.phase {
            Phase::Probe => return self.leave_probe(now, from),
            Phase::Request => {
                // A server that answers with data knows no options (RFC 2347).
                (self.block_size, self.window, self.phase) = (DEFAULT_BLOCK, 1, Phase::Data);
            }
            Phase::Data => {}
        }
        if number != (self.last + 1) as u16 {
            // EDK2 and iPXE acknowledge the last block in order for every block that they do not expect. Others do so once if a
            // block is missing (RFC 7440 §4), but not for a duplicate (RFC 1123 §4.2.3.1).
            let is_ahead = number.wrapping_sub(self.last as u16) < 0x8000 && number != self.last as u16;
            let answers = match self.style {
                Style::Edk | Style::Ipxe => true,
                Style::BootAgent => is_ahead && !self.gap_told,
            };
            self.gap_told |= is_ahead;
            return if answers { vec![self.acknowledge(now, from)] } else { Vec::new() };
        }
        if data.len() > self.block_size {
            let reason = format!("block {number} holds {} bytes, {} were agreed", data.len(), self.block_size);
            return self.fail(reason);
        }
        self.last += 1;
        self.gap_told = false;
        self.retries = 0;
        self.deadline = now + self.patience();
        self.unacknowledged += 1;
        self.received.bytes += data.len() as u64;
        let room = self.keep.saturating_sub(self.received.kept.len());
        self.received.kept.extend(&data[..data.len().min(room)]);
        if data.len() < self.block_size {
            let last = self.acknowledge(now, from);
            return self.finish(last);
        }
        if self.unacknowledged >= self.window { vec![self.acknowledge(now, from)] } else { Vec::new() }
    }

    fn finish(&mut self, acknowledgement: Action) -> Vec<Action> {
        self.finished = true;
        let received = std::mem::take(&mut self.received);
        let outcome = match self.size {
            Some(size) if size != received.bytes => {
                Action::Failed(format!("the server announced {size} bytes and sent {}", received.bytes))
            }
            _ => Action::Done(received),
        };
        vec![acknowledgement, outcome]
    }
}

/// Returns an ERROR packet.
fn error(number: u8, text: &str) -> Bytes {
    Bytes::Other([&[0, 5, 0, number], text.as_bytes(), &[0]].concat().into())
}

#[cfg(test)]
#[path = "tftp_tests.rs"]
mod tests;
