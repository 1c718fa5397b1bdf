//! The frames of a capture, in the order of their times, as a pcapng file. Pure.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::frame::{IPV4_LENGTH, PROTOCOL_UDP, ethertype};

use super::{
    pcapng::{self, Direction, Packet, Statistics},
    record::{Record, Way},
    selection::{TCP, is_dhcp, network_layer},
    traces::Traces,
};

/// The time that a frame waits for others that came before it by another way, and for what is said about it.
const PATIENCE: Duration = Duration::from_millis(300);

/// Words about a frame of TFTP or HTTP that is in the file at about this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The time.
    pub at: SystemTime,
    /// The frame is of TCP, and otherwise of UDP.
    pub by_tcp: bool,
    /// Bytes that are in the frame, such as a path; empty if that is not known.
    pub content: Box<[u8]>,
    /// The words.
    pub text: String,
}

/// The capture of one machine, while it is written.
#[derive(Debug)]
pub struct CaptureFile {
    begun: SystemTime,
    /// The index of each interface.
    interfaces: HashMap<Arc<str>, u32>,
    waiting: Vec<Record>,
    notes: Vec<Note>,
    /// The XDP program's words about frames.
    traces: Traces,
    packets: u64,
    /// The number of packets at which the file is full.
    limit: u64,
    /// The counts that were written last.
    told: Option<(u64, u64)>,
    out: Vec<u8>,
}

impl CaptureFile {
    /// Begins a file of at most `limit` packets on these interfaces, each with the way by which DHCP comes from there.
    #[must_use]
    pub fn begin(begun: SystemTime, limit: u64, about: (&str, &str), interfaces: &[(Arc<str>, &str)]) -> Self {
        let (system, comment) = about;
        let mut file = Self {
            begun,
            interfaces: HashMap::new(),
            waiting: Vec::new(),
            notes: Vec::new(),
            traces: Traces::default(),
            packets: 0,
            limit,
            told: None,
            out: Vec::new(),
        };
        pcapng::section_header(&mut file.out, concat!("pxed ", env!("CARGO_PKG_VERSION")), system, comment);
        for (name, path) in interfaces {
            file.describe(name, &format!("pxed gets DHCP from here by {path}"));
        }
        file
    }

    /// Adds a frame.
    pub fn add(&mut self, record: Record) {
        match record.by_program {
            Some(_) => self.traces.add(record),
            None => self.waiting.push(record),
        }
    }

    /// Adds words about a frame, which may come later.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Writes the frames that nothing earlier can come before.
    pub fn write_until(&mut self, now: SystemTime) {
        self.traces.join(&mut self.waiting, Some(now), PATIENCE);
        let due = now.checked_sub(PATIENCE).unwrap_or(now);
        self.write(|at| at <= due);
        // A note whose frame is not here: the packet socket lost it.
        self.notes.retain(|note| note.at > due);
    }

    /// Writes everything that waits.
    pub fn write_all(&mut self) {
        self.traces.join(&mut self.waiting, None, PATIENCE);
        self.write(|_| true);
    }

    /// Returns `true` if no further packet is written.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.packets >= self.limit
    }

    /// Writes the counts of frames that were taken and that were dropped. It does nothing if they are as before, unless the reader is to see
    /// that somebody still writes.
    pub fn tell(&mut self, now: SystemTime, (taken, dropped): (u64, u64), again: bool) {
        if self.told == Some((taken, dropped)) && !again {
            return;
        }
        self.told = Some((taken, dropped));
        let comment = match dropped {
            0 => String::new(),
            1 => "1 frame is missing: it came faster than the file was written".to_owned(),
            _ => format!("{dropped} frames are missing: they came faster than the file was written"),
        };
        if self.interfaces.is_empty() {
            pcapng::nothing(&mut self.out);
            return;
        }
        // The counts are of all interfaces together, and stand at the first.
        let (received, since) = (taken + dropped, self.begun);
        let statistics = Statistics { interface: 0, at: now, since, received, dropped, comment: &comment };
        pcapng::interface_statistics(&mut self.out, &statistics);
    }

    /// Returns the bytes that were written since the last call: whole blocks.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn write(&mut self, is_due: impl Fn(SystemTime) -> bool) {
        self.waiting.sort_by_key(|record| record.at);
        for note in std::mem::take(&mut self.notes) {
            let place = place_of(&self.waiting, &note);
            match place.and_then(|index| self.waiting.get_mut(index)) {
                Some(record) if record.comment.is_empty() => record.comment = note.text,
                Some(record) => {
                    record.comment.push('\n');
                    record.comment.push_str(&note.text);
                }
                None => self.notes.push(note),
            }
        }
        let due = self.waiting.partition_point(|record| is_due(record.at));
        for record in self.waiting.drain(..due).collect::<Vec<_>>() {
            if self.is_full() {
                return;
            }
            self.traces.note_written(&record);
            let Record { at, interface, way, length, bytes, comment, by_program: _ } = record;
            let interface = self.describe(&interface, "");
            let direction = match way {
                Way::In => Direction::Inbound,
                Way::Out => Direction::Outbound,
            };
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            let packet = Packet { interface, at, direction, length, bytes: &bytes, comment: &comment };
            pcapng::enhanced_packet(&mut self.out, &packet);
            self.packets += 1;
        }
    }

    /// Returns the index of an interface, which is described if it is new.
    fn describe(&mut self, name: &Arc<str>, description: &str) -> u32 {
        if let Some(&index) = self.interfaces.get(name) {
            return index;
        }
        let index = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        pcapng::interface_description(&mut self.out, name, description);
        self.interfaces.insert(Arc::clone(name), index);
        index
    }
}

/// Returns the place of the frame that a note is about: the last one before it that has the content, or else the last one of the protocol.
fn place_of(records: &[Record], note: &Note) -> Option<usize> {
    let before = records.iter().enumerate().rev().filter(|(_, record)| record.at <= note.at);
    let of_protocol = before.filter(|(_, record)| protocol(&record.bytes) == Some(note.by_tcp));
    if note.content.is_empty() {
        return of_protocol.map(|(index, _)| index).next();
    }
    let has_content = |record: &Record| record.bytes.windows(note.content.len()).any(|bytes| *bytes == *note.content);
    of_protocol.filter(|(_, record)| has_content(record)).map(|(index, _)| index).next()
}

/// Returns `true` for TCP, `false` for UDP that is not DHCP.
fn protocol(frame: &[u8]) -> Option<bool> {
    let (start, ethertype) = network_layer(frame)?;
    let ip = frame.get(start..)?.first_chunk::<IPV4_LENGTH>()?;
    match ip[9] {
        _ if ethertype != ethertype::IPV4 => None,
        TCP => Some(true),
        // The frames of DHCP bring their own words.
        PROTOCOL_UDP => {
            let udp = frame.get(start + usize::from(ip[0] & 15) * 4..)?;
            let port = |at: usize| Some(u16::from_be_bytes(*udp.get(at..)?.first_chunk()?));
            (!is_dhcp((port(0)?, port(2)?))).then_some(false)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
