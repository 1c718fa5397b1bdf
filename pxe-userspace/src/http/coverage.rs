//! Tracks the parts of files that machines have, for files that arrive in several answers. Pure.
//!
//! A client that lost its connection requests the rest by a range (`curl -C -`, UEFI HTTP boot), and GRUB requests ranges
//! wherever it seeks. Then no single answer holds the whole file, and its last byte proves nothing. A file is recorded from
//! the first part that a machine has got until it has all parts. A file that arrives whole is never recorded.

use std::{collections::HashMap, ops::Range, time::SystemTime};

use pxe_common::MacAddr;

use crate::{
    artifacts::OpenArtifact,
    model::inventory::{AddressHashBuilder, Inventory},
};

/// The most files recorded for a machine: kernel, initramfs, loader and one more. The file that grew last is kept longest.
const FILE_LIMIT: usize = 4;

/// The most separate ranges recorded for a file. Resuming a download needs one or two.
const RANGE_LIMIT: usize = 8;

/// One state of a file. A file that was replaced or written to has another state, so its parts are not mixed with the old
/// ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) identity: Identity,
    pub(super) length: u64,
}

/// The facts that tell one state of a file from all others of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is a file of the store.
    Stored { inode: u64, modified: SystemTime },
    /// It is made for the request, and this is the beginning of a hash of all of it.
    Made([u8; 16]),
}

impl FileState {
    pub(super) fn of(artifact: &OpenArtifact) -> Self {
        let &OpenArtifact { inode, length, modified, .. } = artifact;
        Self { identity: Identity::Stored { inode, modified }, length }
    }
}

/// The parts of files that machines have. Its size is bounded by the fleet.
#[derive(Debug, Default)]
pub struct Coverage {
    machines: HashMap<MacAddr, Vec<Part>, AddressHashBuilder>,
}

#[derive(Debug)]
struct Part {
    file: FileState,
    ranges: Ranges,
}

impl Coverage {
    /// Records that a machine has these bytes of a file. If it now has the whole file, returns `true` and forgets the parts.
    pub(super) fn add(&mut self, mac: MacAddr, file: FileState, bytes: Range<u64>, inventory: &Inventory) -> bool {
        if bytes.start == 0 && bytes.end >= file.length {
            self.forget(mac, file);
            return true;
        }
        if bytes.is_empty() || !self.has_room_for(mac, inventory) {
            return false;
        }
        let parts = self.machines.entry(mac).or_default();
        let known = parts.iter().position(|part| part.file == file);
        let mut part = known.map_or_else(|| Part { file, ranges: Ranges::default() }, |at| parts.remove(at));
        part.ranges.insert(bytes);
        if part.ranges.is_all(file.length) {
            if parts.is_empty() {
                self.machines.remove(&mac);
            }
            return true;
        }
        if parts.len() == FILE_LIMIT {
            parts.remove(0);
        }
        parts.push(part);
        false
    }

    /// Returns `true` if a machine would have the whole file with these bytes of it.
    pub(super) fn would_be_whole(&self, mac: MacAddr, file: FileState, bytes: &Range<u64>) -> bool {
        let parts = self.machines.get(&mac).map(Vec::as_slice).unwrap_or_default();
        let part = parts.iter().find(|part| part.file == file);
        let mut ranges = part.map(|part| part.ranges.clone()).unwrap_or_default();
        ranges.insert(bytes.clone());
        ranges.is_all(file.length)
    }

    /// Forgets the parts of a file that a machine has, because it starts over.
    pub(super) fn forget(&mut self, mac: MacAddr, file: FileState) {
        let Some(parts) = self.machines.get_mut(&mac) else { return };
        parts.retain(|part| part.file != file);
        if parts.is_empty() {
            self.machines.remove(&mac);
        }
    }

    /// Returns `true` if the machine fits into the table. If necessary, removes machines that have left the inventory.
    fn has_room_for(&mut self, mac: MacAddr, inventory: &Inventory) -> bool {
        if self.machines.contains_key(&mac) {
            return true;
        }
        if self.machines.len() >= inventory.machines().len() {
            self.machines.retain(|&mac, _| inventory.by_mac(mac).is_some());
        }
        inventory.by_mac(mac).is_some()
    }
}

/// A set of bytes as a few ranges: in order, not empty, with a gap between neighbours.
#[derive(Clone, Debug, Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range that is not empty. If there are too many ranges, drops the shortest.
    fn insert(&mut self, bytes: Range<u64>) {
        let first = self.0.partition_point(|range| range.end < bytes.start);
        let end = self.0.partition_point(|range| range.start <= bytes.end);
        let joined = match self.0.get(first..end) {
            Some([only]) => only.start.min(bytes.start)..only.end.max(bytes.end),
            Some([lowest, .., highest]) => lowest.start.min(bytes.start)..highest.end.max(bytes.end),
            _ => bytes,
        };
        self.0.splice(first..end, [joined]);
        if self.0.len() > RANGE_LIMIT {
            let shortest = self.0.iter().enumerate().min_by_key(|(_, range)| range.end - range.start);
            if let Some((at, _)) = shortest {
                self.0.remove(at);
            }
        }
    }

    fn is_all(&self, length: u64) -> bool {
        matches!(self.0.as_slice(), [only] if only.start == 0 && only.end >= length)
    }
}

#[cfg(test)]
mod tests;
