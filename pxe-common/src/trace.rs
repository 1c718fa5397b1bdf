//! The record of one frame that the XDP program hands to userspace through its ring: the verdict, and the frame.

use crate::{counter::Counter, mac::MacAddr};

/// The most bytes of a frame in a [`Trace`]: all of an ordinary Ethernet frame with two VLAN tags.
pub const TRACE_BYTES: usize = 1536;

/// A frame, as the XDP program writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Trace {
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The verdict: the index of a [`Counter`].
    pub counter: u32,
    /// The receive queue.
    pub queue: u32,
    /// The length of the frame.
    pub length: u32,
    /// The number of `bytes` that are of the frame.
    pub kept: u32,
    /// The client that it names, or its Ethernet source if it names none.
    pub mac: MacAddr,
    /// One of [`TRACED_CARD`] and [`UNSEEN_REQUEST`].
    pub cause: u8,
    /// Padding, so that no byte before the frame is undefined.
    pub zero: u8,
    /// The frame, and behind it anything.
    pub bytes: [u8; TRACE_BYTES],
}

/// [`Trace::cause`]: somebody captures this MAC address.
pub const TRACED_CARD: u8 = 1;
/// [`Trace::cause`]: a dropped request, of a machine that the program does not know or of one that asks too often.
pub const UNSEEN_REQUEST: u8 = 2;

const _: () = assert!(size_of::<Trace>() == 32 + TRACE_BYTES && align_of::<Trace>() == 8);

/// A record as userspace reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced<'a> {
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The verdict.
    pub counter: Counter,
    /// The receive queue.
    pub queue: u32,
    /// The length of the frame.
    pub length: u32,
    /// The client that it names, or its Ethernet source if it names none.
    pub mac: MacAddr,
    /// Somebody captures this MAC address. Otherwise it is a request that was dropped.
    pub is_captured: bool,
    /// The frame, as far as it is kept.
    pub bytes: &'a [u8],
}

impl<'a> Traced<'a> {
    /// Reads a record of the ring. Returns `None` if the program cannot have written it.
    #[must_use]
    pub fn read(record: &'a [u8]) -> Option<Self> {
        let (head, bytes) = record.split_first_chunk::<32>()?;
        let [a, b, c, d, e, f, g, h, rest @ ..] = *head;
        let [i, j, k, l, m, n, o, p, rest @ ..] = rest;
        let [q, r, s, t, u, v, w, x, rest @ ..] = rest;
        let [mac @ .., cause, _] = rest;
        let word = u32::from_ne_bytes;
        let (counter, kept) = (word([i, j, k, l]), word([u, v, w, x]));
        Some(Self {
            at_ns: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            counter: *Counter::ALL.get(usize::try_from(counter).ok()?)?,
            queue: word([m, n, o, p]),
            length: word([q, r, s, t]),
            mac: MacAddr(mac),
            is_captured: cause == TRACED_CARD,
            bytes: bytes.get(..usize::try_from(kept).ok()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(counter: u32, kept: u32) -> [u8; 40] {
        let mut record = [0; 40];
        record[..8].copy_from_slice(&7_u64.to_ne_bytes());
        record[8..12].copy_from_slice(&counter.to_ne_bytes());
        record[12..16].copy_from_slice(&3_u32.to_ne_bytes());
        record[16..20].copy_from_slice(&300_u32.to_ne_bytes());
        record[20..24].copy_from_slice(&kept.to_ne_bytes());
        record[24..32].copy_from_slice(&[2, 0, 0, 0, 0, 9, TRACED_CARD, 0]);
        record[32..].copy_from_slice(b"abcdefgh");
        record
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        let record = record(Counter::RateLimited as u32, 5);
        let expected = Traced {
            at_ns: 7,
            counter: Counter::RateLimited,
            queue: 3,
            length: 300,
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            is_captured: true,
            bytes: b"abcde",
        };
        assert_eq!(Traced::read(&record), Some(expected));
    }

    #[test]
    fn record_that_the_program_cannot_have_written_is_refused() {
        for (counter, kept) in [(u32::MAX, 0), (crate::counter::COUNTERS, 0), (0, 9), (0, u32::MAX)] {
            assert_eq!(Traced::read(&record(counter, kept)), None, "{counter} {kept}");
        }
        for length in 0..32 {
            assert_eq!(Traced::read(&record(0, 0)[..length]), None, "{length}");
        }
    }
}
