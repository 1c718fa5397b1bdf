//! Rings in plain memory. At their other end is a kernel that the test controls.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
};

use nix::errno::Errno;

use super::rings::{BATCH, REPLIES, Rings};

/// Bytes of a frame.
const CAPACITY: usize = 4;

/// The most frames sent by one kick, as in copy mode.
const KICK_LIMIT: usize = 32;

/// The kernel's behaviour when it is asked to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transmitter {
    /// Sends and completes at once.
    Prompt,
    /// Takes the frames and keeps them.
    Holding,
    /// Takes nothing: its send buffer or the device's queue is full.
    Full,
    /// Drops each frame and reports that it is busy.
    Dropping,
    /// Takes nothing: the interface is down.
    Down,
}

/// A frame, by its number.
#[derive(Debug)]
pub(super) struct Frame {
    number: usize,
    length: usize,
    bytes: [u8; CAPACITY],
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

/// The frames, by where they are.
#[derive(Debug)]
pub(super) struct Memory {
    depth: usize,
    transmit_room: usize,
    total: usize,
    pub(super) transmitter: Transmitter,
    pub(super) free: VecDeque<Frame>,
    pub(super) fill: VecDeque<Frame>,
    pub(super) receive: VecDeque<Frame>,
    incoming: VecDeque<Frame>,
    outgoing: VecDeque<Frame>,
    pub(super) transmit: VecDeque<Frame>,
    /// Taken by the kernel, but not completed.
    pub(super) sending: VecDeque<Frame>,
    pub(super) completion: VecDeque<Frame>,
    /// The bytes of the frames that were sent.
    pub(super) sent: Vec<Vec<u8>>,
    /// The number of times that the kernel was asked to send.
    pub(super) kicks: usize,
}

impl Memory {
    /// Creates the free frames for a fill ring of `depth` and a budget of replies, with a transmit ring of `transmit_room`.
    pub(super) fn new(depth: usize, budget: usize, transmit_room: usize) -> Self {
        let total = depth + budget;
        let frame = |number| Frame { number, length: 0, bytes: [0; CAPACITY] };
        Self {
            depth,
            transmit_room,
            total,
            transmitter: Transmitter::Prompt,
            free: (0..total).map(frame).collect(),
            fill: VecDeque::new(),
            receive: VecDeque::new(),
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            transmit: VecDeque::new(),
            sending: VecDeque::new(),
            completion: VecDeque::new(),
            sent: Vec::new(),
            kicks: 0,
        }
    }

    /// Receives a frame. Returns `false` if the fill ring is empty or the receive ring is full.
    pub(super) fn deliver(&mut self, bytes: [u8; CAPACITY]) -> bool {
        let Some(mut frame) = (self.receive.len() < self.depth).then(|| self.fill.pop_front()).flatten() else {
            return false;
        };
        (frame.bytes, frame.length) = (bytes, CAPACITY);
        self.receive.push_back(frame);
        true
    }

    /// Completes the transmission of up to `frames` of the frames that the kernel holds.
    pub(super) fn finish(&mut self, frames: usize) {
        let frames = frames.min(self.sending.len());
        self.completion.extend(self.sending.drain(..frames));
    }

    /// Returns the number of frames between the transmit ring and the free list.
    pub(super) fn in_flight(&self) -> usize {
        self.transmit.len() + self.sending.len() + self.completion.len()
    }

    /// Asserts that between two turns each frame is in exactly one place, and the pump holds none.
    pub(super) fn check(&self) {
        let Self { free, fill, receive, incoming, outgoing, transmit, sending, completion, .. } = self;
        assert!(incoming.is_empty() && outgoing.is_empty(), "the pump kept frames: {self:?}");
        let places = [free, fill, receive, transmit, sending, completion];
        let mut numbers: Vec<_> = places.into_iter().flatten().map(|frame| frame.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..self.total).collect::<Vec<_>>(), "a frame is lost or duplicated: {self:?}");
    }
}

impl Rings for &mut Memory {
    type Frame = Frame;

    fn complete(&mut self) -> usize {
        let frames = self.completion.len();
        let Memory { free, completion, .. } = &mut **self;
        free.extend(completion.drain(..));
        frames
    }

    fn receive(&mut self) -> usize {
        let frames = self.receive.len().min(BATCH);
        let Memory { receive, incoming, .. } = &mut **self;
        incoming.extend(receive.drain(..frames));
        frames
    }

    fn next_received(&mut self) -> Option<Frame> {
        self.incoming.pop_front()
    }

    fn allocate(&mut self) -> Option<Frame> {
        let mut frame = self.free.pop_front()?;
        frame.length = CAPACITY;
        Some(frame)
    }

    fn free(&mut self, frame: Frame) {
        // Last in, first out, as in `Umem`: a frame that is used twice shows up soon.
        self.free.push_front(frame);
    }

    fn stage(&mut self, mut frame: Frame, length: usize) -> Result<(), Frame> {
        if length > CAPACITY || self.outgoing.len() == REPLIES {
            return Err(frame);
        }
        frame.length = length;
        self.outgoing.push_back(frame);
        Ok(())
    }

    fn transmit(&mut self) -> usize {
        let frames = self.outgoing.len();
        // All or nothing, like the ring of the `xdp` crate.
        if frames > self.transmit_room - self.transmit.len() {
            return 0;
        }
        let Memory { transmit, outgoing, .. } = &mut **self;
        transmit.extend(outgoing.drain(..));
        frames
    }

    fn unstage(&mut self) -> Option<Frame> {
        self.outgoing.pop_front()
    }

    fn fill(&mut self, frames: usize) -> usize {
        let frames = frames.min(self.free.len()).min(self.depth - self.fill.len());
        let Memory { free, fill, .. } = &mut **self;
        fill.extend(free.drain(..frames));
        frames
    }

    fn kick(&mut self) -> Result<(), Errno> {
        self.kicks += 1;
        let Memory { transmitter, transmit, sending, completion, sent, .. } = &mut **self;
        match transmitter {
            Transmitter::Full => return if transmit.is_empty() { Ok(()) } else { Err(Errno::EAGAIN) },
            Transmitter::Down => return Err(Errno::ENETDOWN),
            Transmitter::Dropping => {
                let Some(frame) = transmit.pop_front() else { return Ok(()) };
                completion.push_back(frame);
                return Err(Errno::EBUSY);
            }
            Transmitter::Prompt | Transmitter::Holding => {}
        }
        let frames = transmit.drain(..transmit.len().min(KICK_LIMIT));
        let taken = frames.inspect(|frame| sent.push(frame.to_vec()));
        if *transmitter == Transmitter::Prompt {
            completion.extend(taken);
        } else {
            sending.extend(taken);
        }
        if transmit.is_empty() { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}
