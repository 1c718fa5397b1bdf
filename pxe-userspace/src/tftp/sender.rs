//! The sending side of a worker: packets, and blocks from memory, page cache or disk.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddrV4, UdpSocket},
    ops::Range,
    sync::Arc,
    time::SystemTime,
};

use pxe_common::MacAddr;

use super::{
    blocks::{Patience, ReadError, Run, read_at},
    chunk::Chunk,
    chunks::{Chunks, Cursor},
    key::{Key, PortId},
    metrics::Metrics,
    netascii::Netascii,
    options::Terms,
    packet::HEADER_LENGTH,
    ports::Ports,
    socket::{Destination, Outbox, path_mtu, route_mtu},
};
use crate::{
    artifacts::OpenArtifact,
    model::failure::{CHANGED, UNREADABLE},
    net::raw_udp::RawUdp,
};

/// Ethernet's MTU, for paths whose MTU the kernel does not know.
const USUAL_MTU: u16 = 1500;

/// The path that blocks take to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Not looked up yet.
    Unknown,
    /// Next the host's IP stack, which resolves the neighbour again. After that it is looked up.
    Resolve,
    /// The host's IP stack decides.
    Stack,
    /// Straight to this neighbour, past the IP stack.
    Direct(MacAddr),
}

/// The form in which a file is sent.
#[derive(Debug)]
enum Form {
    /// As it is, with the place in the chunks that are kept of the file, if any are.
    Octet(Option<Cursor>),
    /// Encoded for each transfer.
    Netascii(Netascii),
}

/// The blocks of one transfer on their way to its client.
#[derive(Debug)]
pub(super) struct Flow {
    key: Key,
    terms: Terms,
    file: Arc<OpenArtifact>,
    form: Form,
    route: Route,
}

/// Blocks were not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// The blocks from `first` on are not in the page cache.
    Cold {
        /// The first missing block.
        first: u64,
        /// Its offset in the file, in bytes.
        offset: u64,
    },
    /// The file cannot be sent to its end, for this reason.
    Unsendable(String),
}

/// The ports, the datagrams that wait to be sent from them, and the chunks that many transfers send.
pub(super) struct Sender {
    ports: Ports,
    /// A socket that is connected to one client after another, to ask the kernel for the path's MTU.
    probe: UdpSocket,
    outbox: Outbox,
    chunks: Chunks,
    /// Memory for bytes of files that are encoded.
    scratch: Vec<u8>,
    metrics: Arc<Metrics>,
}

impl Flow {
    /// Makes the flow of a transfer that begins at `now`.
    pub(super) fn new(key: Key, terms: Terms, file: Arc<OpenArtifact>, now: SystemTime) -> Self {
        let form =
            if terms.netascii { Form::Netascii(Netascii::new()) } else { Form::Octet(Cursor::new(&file, &terms, now)) };
        Self { key, terms, file, form, route: Route::Unknown }
    }

    /// Returns the file.
    pub(super) fn file(&self) -> Arc<OpenArtifact> {
        Arc::clone(&self.file)
    }

    /// Sends through the IP stack next. It resolves the neighbour again, in case frames went to a wrong address.
    pub(super) fn avoid_shortcut(&mut self) {
        if self.route != Route::Stack {
            self.route = Route::Resolve;
        }
    }
}

impl Sender {
    /// Makes a sender on these ports. `direct` is a way past the IP stack.
    pub(super) fn new(ports: Ports, probe: UdpSocket, direct: Option<RawUdp>, metrics: Arc<Metrics>) -> Self {
        Self { ports, probe, outbox: Outbox::new(direct), chunks: Chunks::default(), scratch: Vec::new(), metrics }
    }

    /// Returns the ports, to receive what comes back.
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Takes a port for a new transfer.
    ///
    /// # Errors
    ///
    /// See [`Ports::take`].
    pub(super) fn take_port(
        &mut self,
        client: SocketAddrV4,
        in_flight: usize,
        is_free: impl Fn(PortId) -> bool,
    ) -> io::Result<PortId> {
        self.ports.take(client, in_flight, is_free)
    }

    /// Sends what is queued from a port whose transfer is over, and returns the port.
    pub(super) fn give_back(&mut self, port: PortId) {
        if self.outbox.holds(port) {
            self.flush();
        }
        self.ports.give_back(port);
    }

    /// Returns `true` if another send can be queued without flushing.
    pub(super) fn has_room(&self) -> bool {
        self.outbox.has_room(0)
    }

    /// Sends everything that is queued.
    pub(super) fn flush(&mut self) {
        self.outbox.flush(&self.ports);
        let errors = self.outbox.take_errors();
        if errors > 0 {
            self.metrics.send_errors.inc_by(errors);
        }
    }

    /// Returns the MTU of the path to a client, in bytes.
    pub(super) fn mtu(&self, Key { client, port }: Key) -> u16 {
        let connected = self.ports.socket(port).filter(|_| self.ports.client(port) == Some(client));
        connected.map_or_else(|| path_mtu(&self.probe, client), route_mtu).unwrap_or(USUAL_MTU)
    }

    /// Queues one packet.
    pub(super) fn send(&mut self, Key { client, port: from }: Key, packet: &[u8]) {
        if !self.outbox.has_room(packet.len()) {
            self.flush();
        }
        if let Some(space) = self.outbox.space(packet.len()).get_mut(..packet.len()) {
            space.copy_from_slice(packet);
            self.outbox.push(Destination { client, from, shortcut: None }, packet.len(), packet.len());
        }
    }

    /// Queues blocks of a flow. Returns the last block of the file if encoding has come to it; the blocks end with it then.
    ///
    /// # Errors
    ///
    /// Some blocks are not in the page cache, and those before them are queued; or the file changed or cannot be read.
    pub(super) fn send_blocks(
        &mut self,
        flow: &mut Flow,
        blocks: Range<u64>,
        patience: Patience,
    ) -> Result<Option<u64>, Interrupted> {
        if blocks.end > flow.terms.blocks() && !flow.file.is_unchanged() {
            return Err(interrupted(flow, blocks.start, ReadError::Changed));
        }
        let mut next = blocks.start;
        while next < blocks.end {
            if !self.outbox.has_room(0) {
                self.flush();
            }
            let queued = self.queue_blocks(flow, next..blocks.end, patience);
            let Queued { count, is_end } = queued.map_err(|error| interrupted(flow, next, error))?;
            next += count as u64;
            if is_end {
                return Ok(Some(next - 1));
            }
        }
        Ok(None)
    }

    /// Queues as many of these blocks as go into one send.
    fn queue_blocks(&mut self, flow: &mut Flow, blocks: Range<u64>, patience: Patience) -> Result<Queued, ReadError> {
        let Flow { key: Key { client, port: from }, terms, file, form, route } = flow;
        let datagram = HEADER_LENGTH + usize::from(terms.block_size);
        if *route == Route::Unknown {
            *route = self.outbox.neighbour(&self.probe, *client).map_or(Route::Stack, Route::Direct);
        }
        let mac = match *route {
            Route::Direct(mac) => Some(mac),
            Route::Resolve => {
                *route = Route::Unknown;
                None
            }
            Route::Unknown | Route::Stack => None,
        };
        let to = Destination { client: *client, from: *from, shortcut: self.ports.local(*from).zip(mac) };
        let mut count = Outbox::segments(datagram).min((blocks.end - blocks.start) as usize);
        match form {
            Form::Netascii(netascii) => {
                if !self.outbox.has_room(count * datagram) {
                    self.flush();
                }
                let read = |offset, space: &mut [u8]| {
                    let wanted = space.len();
                    read_at(&file.file, &mut [IoSliceMut::new(space)], offset, wanted, patience)
                };
                let space = self.outbox.space(count * datagram);
                let encoded = netascii.fill(terms, (blocks.start, count), space, &mut self.scratch, read)?;
                if encoded.is_end && !file.is_unchanged() {
                    return Err(ReadError::Changed);
                }
                self.outbox.push(to, encoded.length, datagram);
                return Ok(Queued { count: encoded.count, is_end: encoded.is_end });
            }
            Form::Octet(Some(cursor)) => {
                let piece = cursor.piece(terms, blocks.start, blocks.end);
                let mut chunk = cursor.find(&self.chunks, terms, &piece);
                if chunk.is_none() && piece.begins_chunk() {
                    let run = Run::new(terms, piece.chunk_start, piece.chunk_blocks);
                    let mut bytes = vec![0; run.length()];
                    run.read(&file.file, &mut bytes, patience)?;
                    chunk = Some(self.chunks.keep(cursor.key(terms, &piece), Chunk(bytes)));
                }
                if let Some(chunk) = chunk {
                    let range = piece.range(&chunk, datagram);
                    self.outbox.push_chunk(to, chunk, range, datagram);
                    return Ok(Queued { count: piece.count, is_end: false });
                }
                count = piece.count;
            }
            Form::Octet(None) => {}
        }
        let run = Run::new(terms, blocks.start, count);
        if !self.outbox.has_room(run.length()) {
            self.flush();
        }
        run.read(&file.file, self.outbox.space(run.length()), patience)?;
        self.outbox.push(to, run.length(), datagram);
        Ok(Queued { count, is_end: false })
    }
}

/// Blocks that were queued.
struct Queued {
    count: usize,
    /// Encoding has come to the end of the file with them.
    is_end: bool,
}

/// Returns the interruption of a flow whose blocks from `first` on were not read.
fn interrupted(flow: &Flow, first: u64, error: ReadError) -> Interrupted {
    match error {
        ReadError::Cold => {
            let offset = match &flow.form {
                Form::Netascii(netascii) => netascii.offset(first),
                Form::Octet(_) => Run::new(&flow.terms, first, 1).offset(),
            };
            Interrupted::Cold { first, offset }
        }
        ReadError::Shrunk | ReadError::Changed => Interrupted::Unsendable(CHANGED.to_owned()),
        ReadError::Io(error) => Interrupted::Unsendable(format!("{UNREADABLE}: {error}")),
    }
}
