//! The format of a segment of the history. Pure.
//!
//! A segment begins with [`HEADER`], whose last byte is the version. Blocks follow, each with its length, its CRC-32 and its entries. An entry
//! is an event, or defines the next text or network card, which later entries of the segment name by number. Times are differences in
//! milliseconds. An event takes about ten bytes.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;

use crate::model::{
    event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Signs, Transport},
    loader::LoaderFile,
    origin::Origin,
};

/// The first bytes of a segment. The last one is the version of the format.
pub(super) const HEADER: [u8; 8] = *b"pxedlog\x01";
/// The texts that a segment may define. A machine chooses the paths that it asks for.
const MAX_TEXTS: usize = 16_384;
/// The bytes of a block that a reader accepts, and of a text.
const MAX_BLOCK: usize = 4 << 20;
const MAX_TEXT: usize = 1_024;
/// The bit of a tag that marks an event that is not proven to be the machine's doing.
const UNPROVEN: u8 = 0x80;
const CLIENTS: [ClientKind; 4] = [ClientKind::Pxe, ClientKind::HttpBoot, ClientKind::Ipxe, ClientKind::Plain];
const SIGNS: [Signs; 4] = [Signs::None, Signs::System, Signs::Renewal, Signs::Talos];
const TRANSPORTS: [Transport; 2] = [Transport::Tftp, Transport::Http];
const ARTIFACTS: [ArtifactKind; 7] = [
    ArtifactKind::Loader,
    ArtifactKind::Script,
    ArtifactKind::Kernel,
    ArtifactKind::Initramfs,
    ArtifactKind::Uki,
    ArtifactKind::Config,
    ArtifactKind::Other,
];

/// The tags of entries.
mod tag {
    pub(super) const TEXT: u8 = 0;
    pub(super) const CARD: u8 = 1;
    pub(super) const DISCOVER: u8 = 2;
    pub(super) const OFFER: u8 = 3;
    pub(super) const REQUEST: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const DECLINE: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const IGNORED: u8 = 9;
    pub(super) const LEFT_TO_PEER: u8 = 10;
    pub(super) const FOREIGN_RELAY: u8 = 11;
    pub(super) const OTHER_VLAN: u8 = 12;
    pub(super) const REQUESTED: u8 = 13;
    pub(super) const DONE: u8 = 14;
    pub(super) const UNCONFIRMED: u8 = 15;
    pub(super) const FAILED: u8 = 16;
    pub(super) const AWAITS: u8 = 17;
    pub(super) const WRONG_ARCHITECTURE: u8 = 18;
    pub(super) const SENT_TO_DISK: u8 = 19;
    pub(super) const UP: u8 = 20;
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// Returns the CRC-32 (IEEE 802.3) of bytes.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| CRC[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

fn position<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|known| known == value).unwrap_or_default() as u8
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Encodes the events of one segment.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    texts: HashMap<Arc<str>, u64>,
    cards: HashMap<MacAddr, u64>,
    last: i64,
    block: Vec<u8>,
}

impl Encoder {
    /// Adds an event to the next block.
    pub(super) fn add(&mut self, event: &BootEvent) {
        let (boot_file, path, reason) = texts_of(&event.kind);
        let [boot_file, path, reason] = [boot_file, path, reason].map(|text| text.map(|text| self.text(text)));
        let card = self.card(event.mac);
        let at = millis(event.at);
        let difference = at.wrapping_sub(std::mem::replace(&mut self.last, at));
        let tag = tag_of(&event.kind) | if event.origin.is_proven() { 0 } else { UNPROVEN };
        let block = &mut self.block;
        block.push(tag);
        number(block, card);
        number(block, ((difference << 1) ^ (difference >> 63)) as u64);
        let optional =
            |block: &mut Vec<u8>, value: Option<u64>| number(block, value.map_or(0, |value| value.saturating_add(1)));
        let address = |block: &mut Vec<u8>, address: Ipv4Addr| block.extend(address.octets());
        let maybe_address = |block: &mut Vec<u8>, address: Option<Ipv4Addr>| {
            block.push(u8::from(address.is_some()));
            block.extend(address.iter().flat_map(Ipv4Addr::octets));
        };
        let file = |block: &mut Vec<u8>, artifact: ArtifactKind, transport: Transport| {
            block.push(position(&ARTIFACTS, &artifact) | position(&TRANSPORTS, &transport) << 4);
            number(block, path.unwrap_or_default());
        };
        let name = |block: &mut Vec<u8>, name: Option<&BootFileName>| match name {
            None => block.push(0),
            Some(BootFileName::Script) => block.push(1),
            Some(BootFileName::Uki) => block.push(2),
            Some(BootFileName::Loader(_) | BootFileName::OwnLoader(_)) => {
                block.push(3);
                number(block, boot_file.unwrap_or_default());
            }
        };
        match &event.kind {
            EventKind::Discover { client, client_architecture } => {
                block.push(position(&CLIENTS, client));
                optional(block, client_architecture.map(u64::from));
            }
            EventKind::Offer { address: offered, boot_file } => {
                maybe_address(block, *offered);
                name(block, boot_file.as_ref());
            }
            EventKind::Request { client, client_architecture, of_other_server, other_server, signs } => {
                let flags = u8::from(*of_other_server) << 4 | u8::from(other_server.is_some()) << 5;
                block.push(position(&CLIENTS, client) | position(&SIGNS, signs) << 2 | flags);
                optional(block, client_architecture.map(u64::from));
                block.extend(other_server.iter().flat_map(Ipv4Addr::octets));
            }
            EventKind::Ack { address: given, client, signs, boot_file } => {
                block.push(position(&CLIENTS, client) | position(&SIGNS, signs) << 2);
                maybe_address(block, *given);
                name(block, boot_file.as_ref());
            }
            EventKind::Nak { .. } | EventKind::Ignored { .. } => number(block, reason.unwrap_or_default()),
            EventKind::Decline { address: declined } => address(block, *declined),
            EventKind::Release | EventKind::SentToDisk => {}
            EventKind::LeftToPeer { client, address: node, chosen } => {
                block.push(position(&CLIENTS, client) | u8::from(*chosen) << 2);
                address(block, *node);
            }
            EventKind::ForeignRelay { relay } => address(block, *relay),
            EventKind::OtherVlan { vlan } => number(block, u64::from(*vlan)),
            EventKind::Requested { artifact, transport, .. } => file(block, *artifact, *transport),
            EventKind::Done { artifact, transport, bytes, took, .. } => {
                file(block, *artifact, *transport);
                number(block, *bytes);
                number(block, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            }
            EventKind::Unconfirmed { artifact, transport, bytes, .. } => {
                file(block, *artifact, *transport);
                number(block, *bytes);
            }
            EventKind::Failed { artifact, transport, bytes, .. } => {
                file(block, *artifact, *transport);
                number(block, *bytes);
                number(block, reason.unwrap_or_default());
            }
            EventKind::Awaits { percent, .. } => {
                number(block, path.unwrap_or_default());
                number(block, reason.unwrap_or_default());
                optional(block, percent.map(u64::from));
            }
            EventKind::WrongArchitecture { client_architecture } => number(block, u64::from(*client_architecture)),
            EventKind::Up { port } => number(block, u64::from(*port)),
        }
    }

    /// Returns the block of what was added since the last call, `None` if nothing was.
    pub(super) fn take_block(&mut self) -> Option<Vec<u8>> {
        if self.block.is_empty() {
            return None;
        }
        let entries = std::mem::take(&mut self.block);
        let mut block = Vec::with_capacity(entries.len() + 8);
        block.extend((entries.len() as u32).to_le_bytes());
        block.extend(crc(&entries).to_le_bytes());
        block.extend(entries);
        Some(block)
    }

    /// Returns `true` if the segment should end, because it has defined enough texts.
    pub(super) fn is_full(&self) -> bool {
        self.texts.len() >= MAX_TEXTS
    }

    fn text(&mut self, text: &str) -> u64 {
        let text = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
        if let Some(&known) = self.texts.get(text) {
            return known;
        }
        let index = self.texts.len() as u64;
        self.block.push(tag::TEXT);
        number(&mut self.block, text.len() as u64);
        self.block.extend(text.as_bytes());
        self.texts.insert(Arc::from(text), index);
        index
    }

    fn card(&mut self, mac: MacAddr) -> u64 {
        if let Some(&known) = self.cards.get(&mac) {
            return known;
        }
        let index = self.cards.len() as u64;
        self.block.push(tag::CARD);
        self.block.extend(mac.0);
        self.cards.insert(mac, index);
        index
    }
}

/// Returns the texts of an event: the name of the boot file, the path, and the reason or state.
fn texts_of(event: &EventKind) -> (Option<&str>, Option<&str>, Option<&str>) {
    match event {
        EventKind::Offer { boot_file, .. } | EventKind::Ack { boot_file, .. } => {
            let name = match boot_file {
                Some(BootFileName::Loader(loader)) => Some(loader.name()),
                Some(BootFileName::OwnLoader(name)) => Some(&**name),
                _ => None,
            };
            (name, None, None)
        }
        EventKind::Nak { reason } | EventKind::Ignored { reason } => (None, None, Some(reason)),
        EventKind::Requested { path, .. } | EventKind::Done { path, .. } | EventKind::Unconfirmed { path, .. } => {
            (None, Some(path), None)
        }
        EventKind::Failed { path, reason, .. } => (None, Some(path), Some(reason)),
        EventKind::Awaits { path, state, .. } => (None, Some(path), Some(state)),
        _ => (None, None, None),
    }
}

const fn tag_of(event: &EventKind) -> u8 {
    match event {
        EventKind::Discover { .. } => tag::DISCOVER,
        EventKind::Offer { .. } => tag::OFFER,
        EventKind::Request { .. } => tag::REQUEST,
        EventKind::Ack { .. } => tag::ACK,
        EventKind::Nak { .. } => tag::NAK,
        EventKind::Decline { .. } => tag::DECLINE,
        EventKind::Release => tag::RELEASE,
        EventKind::Ignored { .. } => tag::IGNORED,
        EventKind::LeftToPeer { .. } => tag::LEFT_TO_PEER,
        EventKind::ForeignRelay { .. } => tag::FOREIGN_RELAY,
        EventKind::OtherVlan { .. } => tag::OTHER_VLAN,
        EventKind::Requested { .. } => tag::REQUESTED,
        EventKind::Done { .. } => tag::DONE,
        EventKind::Unconfirmed { .. } => tag::UNCONFIRMED,
        EventKind::Failed { .. } => tag::FAILED,
        EventKind::Awaits { .. } => tag::AWAITS,
        EventKind::WrongArchitecture { .. } => tag::WRONG_ARCHITECTURE,
        EventKind::SentToDisk => tag::SENT_TO_DISK,
        EventKind::Up { .. } => tag::UP,
    }
}

/// Appends a number in groups of seven bits, the lowest first.
fn number(block: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        block.push(value as u8 | 0x80);
        value >>= 7;
    }
    block.push(value as u8);
}

/// Texts that events have for the whole life of the program. Those that are read from a disk are few, and are never freed.
#[derive(Debug, Default)]
pub(super) struct Statics(Vec<&'static str>);

impl Statics {
    /// The texts of all versions are fewer; a file may hold anything.
    const LIMIT: usize = 512;

    fn keep(&mut self, text: &str) -> &'static str {
        if let Some(known) = self.0.iter().find(|known| **known == text) {
            return known;
        }
        if self.0.len() >= Self::LIMIT {
            return "(not kept)";
        }
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        self.0.push(text);
        text
    }
}

/// The state of reading a segment.
#[derive(Debug, Default)]
struct Decoder {
    texts: Vec<Arc<str>>,
    cards: Vec<MacAddr>,
    last: i64,
}

/// Calls `each` with the events of a segment, oldest first. Returns the number of bytes that are whole: all of them, or those before the first
/// block that is damaged or cut off. Returns `None` if it is no segment, or has another version.
pub(super) fn read(segment: &[u8], statics: &mut Statics, mut each: impl FnMut(BootEvent)) -> Option<usize> {
    let mut rest = segment.strip_prefix(&HEADER)?;
    let mut decoder = Decoder::default();
    while let Some((entries, after)) = block(rest) {
        let mut entries = Bytes(entries);
        while !entries.0.is_empty() {
            match decoder.entry(&mut entries, statics) {
                Some(Some(event)) => each(event),
                Some(None) => {}
                None => return Some(segment.len() - rest.len()),
            }
        }
        rest = after;
    }
    Some(segment.len() - rest.len())
}

/// Returns the entries of the first block, and what follows it.
fn block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > MAX_BLOCK {
        return None;
    }
    let (entries, rest) = rest.split_at_checked(length)?;
    (crc(entries) == u32::from_le_bytes(*sum)).then_some((entries, rest))
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn optional<T: TryFrom<u64>>(&mut self) -> Option<Option<T>> {
        match self.number()? {
            0 => Some(None),
            value => T::try_from(value - 1).ok().map(Some),
        }
    }

    fn address(&mut self) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.take(4)?).ok().map(Ipv4Addr::from)
    }

    fn maybe_address(&mut self) -> Option<Option<Ipv4Addr>> {
        match self.byte()? {
            0 => Some(None),
            _ => self.address().map(Some),
        }
    }
}

fn client(code: u8) -> Option<ClientKind> {
    CLIENTS.get(usize::from(code & 3)).copied()
}

fn signs(code: u8) -> Option<Signs> {
    SIGNS.get(usize::from(code >> 2 & 3)).copied()
}

impl Decoder {
    /// Reads an entry. Returns `None` if it is damaged, and `Some(None)` if it is no event.
    fn entry(&mut self, bytes: &mut Bytes<'_>, statics: &mut Statics) -> Option<Option<BootEvent>> {
        let tag = bytes.byte()?;
        match tag {
            tag::TEXT => {
                let length: usize = bytes.small()?;
                let text = std::str::from_utf8(bytes.take(length)?).ok()?;
                self.texts.push(Arc::from(text));
                return Some(None);
            }
            tag::CARD => {
                self.cards.push(MacAddr(bytes.take(6)?.try_into().ok()?));
                return Some(None);
            }
            _ => {}
        }
        let mac = *self.cards.get(bytes.small::<usize>()?)?;
        let difference = bytes.number()?;
        self.last = self.last.wrapping_add((difference >> 1) as i64 ^ -((difference & 1) as i64));
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(self.last).ok()?))?;
        let origin = if tag & UNPROVEN == 0 { Origin::Machine } else { Origin::Unproven };
        let kind = self.kind(tag & !UNPROVEN, bytes, statics)?;
        Some(Some(BootEvent { mac, at, origin, kind }))
    }

    fn text(&self, bytes: &mut Bytes<'_>) -> Option<Arc<str>> {
        self.texts.get(bytes.small::<usize>()?).cloned()
    }

    fn file(&self, bytes: &mut Bytes<'_>) -> Option<(ArtifactKind, Transport, Arc<str>)> {
        let code = bytes.byte()?;
        let artifact = *ARTIFACTS.get(usize::from(code & 0xf))?;
        let transport = *TRANSPORTS.get(usize::from(code >> 4))?;
        Some((artifact, transport, self.text(bytes)?))
    }

    fn boot_file(&self, bytes: &mut Bytes<'_>) -> Option<Option<BootFileName>> {
        Some(match bytes.byte()? {
            0 => None,
            1 => Some(BootFileName::Script),
            2 => Some(BootFileName::Uki),
            3 => {
                let name = self.text(bytes)?;
                let usual = LoaderFile::ALL.into_iter().find(|loader| loader.name() == &*name);
                Some(usual.map_or(BootFileName::OwnLoader(name), BootFileName::Loader))
            }
            _ => return None,
        })
    }

    fn kind(&self, tag: u8, bytes: &mut Bytes<'_>, statics: &mut Statics) -> Option<EventKind> {
        Some(match tag {
            tag::DISCOVER => {
                EventKind::Discover { client: client(bytes.byte()?)?, client_architecture: bytes.optional()? }
            }
            tag::OFFER => EventKind::Offer { address: bytes.maybe_address()?, boot_file: self.boot_file(bytes)? },
            tag::REQUEST => {
                let code = bytes.byte()?;
                EventKind::Request {
                    client: client(code)?,
                    signs: signs(code)?,
                    of_other_server: code & 0x10 != 0,
                    client_architecture: bytes.optional()?,
                    other_server: if code & 0x20 == 0 { None } else { Some(bytes.address()?) },
                }
            }
            tag::ACK => {
                let code = bytes.byte()?;
                let (client, signs) = (client(code)?, signs(code)?);
                let address = bytes.maybe_address()?;
                EventKind::Ack { address, client, signs, boot_file: self.boot_file(bytes)? }
            }
            tag::NAK => EventKind::Nak { reason: statics.keep(&self.text(bytes)?) },
            tag::DECLINE => EventKind::Decline { address: bytes.address()? },
            tag::RELEASE => EventKind::Release,
            tag::IGNORED => EventKind::Ignored { reason: statics.keep(&self.text(bytes)?) },
            tag::LEFT_TO_PEER => {
                let code = bytes.byte()?;
                EventKind::LeftToPeer { client: client(code)?, address: bytes.address()?, chosen: code & 4 != 0 }
            }
            tag::FOREIGN_RELAY => EventKind::ForeignRelay { relay: bytes.address()? },
            tag::OTHER_VLAN => EventKind::OtherVlan { vlan: bytes.small()? },
            tag::REQUESTED => {
                let (artifact, transport, path) = self.file(bytes)?;
                EventKind::Requested { artifact, transport, path }
            }
            tag::DONE => {
                let (artifact, transport, path) = self.file(bytes)?;
                let (bytes, took) = (bytes.number()?, Duration::from_millis(bytes.number()?));
                EventKind::Done { artifact, transport, path, bytes, took }
            }
            tag::UNCONFIRMED => {
                let (artifact, transport, path) = self.file(bytes)?;
                EventKind::Unconfirmed { artifact, transport, path, bytes: bytes.number()? }
            }
            tag::FAILED => {
                let (artifact, transport, path) = self.file(bytes)?;
                let (bytes, reason) = (bytes.number()?, self.text(bytes)?);
                EventKind::Failed { artifact, transport, path, bytes, reason }
            }
            tag::AWAITS => {
                let (path, state) = (self.text(bytes)?, statics.keep(&self.text(bytes)?));
                EventKind::Awaits { path, state, percent: bytes.optional()? }
            }
            tag::WRONG_ARCHITECTURE => EventKind::WrongArchitecture { client_architecture: bytes.small()? },
            tag::SENT_TO_DISK => EventKind::SentToDisk,
            tag::UP => EventKind::Up { port: bytes.small()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "format/tests.rs"]
mod tests;
