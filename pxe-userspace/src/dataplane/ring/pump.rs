//! The loop between the rings: takes received frames, hands over replies, and returns every frame to where it belongs.

use nix::errno::Errno;

use super::{
    ledger::Ledger,
    rings::{REPLIES, Rings},
};
use crate::net::frame::{Reply, Second};

/// The most system calls for one batch of replies. In copy mode, the kernel sends up to 32 frames in each.
const KICKS: usize = REPLIES / 32 + 1;

/// Answers the frames that arrive in the rings. It holds no frame between two turns.
pub(super) struct Pump<'l, R> {
    rings: R,
    ledger: &'l mut Ledger,
    transmission: Transmission,
}

/// The state of the transmit ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transmission {
    /// The kernel has taken all frames.
    Done,
    /// The kernel must be asked to send again soon.
    Pending,
    /// The interface is down. The kernel must be asked to send again when frames arrive.
    Down,
}

/// The result of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Frames received.
    pub(super) received: usize,
    /// Replies that were dropped because those in flight have used up their budget of frames.
    pub(super) lost: usize,
    /// Set if the kernel must be asked to send again soon.
    pub(super) kick_pending: bool,
}

impl<'l, R: Rings> Pump<'l, R> {
    /// Creates a pump for these rings, whose frames this ledger counts.
    pub(super) fn new(rings: R, ledger: &'l mut Ledger) -> Self {
        Self { rings, ledger, transmission: Transmission::Done }
    }

    /// Returns the rings, for the caller that waits for them.
    pub(super) fn rings(&self) -> &R {
        &self.rings
    }

    /// Answers up to a batch of received frames, hands the replies to the kernel and refills the fill ring. `respond` gets a
    /// received frame and a buffer for the reply, and returns the reply's length and copies.
    pub(super) fn turn(&mut self, mut respond: impl FnMut(&[u8], &mut [u8]) -> Option<Reply>) -> Turn {
        self.collect();
        let received = self.rings.receive();
        self.ledger.received(received);
        let mut lost = 0;
        while let Some(query) = self.rings.next_received() {
            lost += self.answer(&query, &mut respond);
            self.rings.free(query);
            self.ledger.answered();
        }
        let sent = self.rings.transmit();
        while let Some(reply) = self.rings.unstage() {
            self.drop_reply(reply);
            lost += 1;
        }
        let kick = match self.transmission {
            Transmission::Done => sent > 0,
            Transmission::Pending => true,
            // A received frame is enough, even without a reply: the waiting frames may be those that the reply needs.
            Transmission::Down => received > 0,
        };
        if kick {
            self.transmission = self.kick();
        }
        let filled = self.rings.fill(self.ledger.owed());
        self.ledger.filled(filled);
        Turn { received, lost, kick_pending: self.transmission == Transmission::Pending }
    }

    /// Stages one or two copies of the reply to a query. Returns the number of copies that found no frame.
    fn answer(&mut self, query: &[u8], respond: &mut impl FnMut(&[u8], &mut [u8]) -> Option<Reply>) -> usize {
        let Some(mut reply) = self.take_reply() else { return 1 };
        let Some(Reply { length, second }) = respond(query, &mut reply) else {
            self.drop_reply(reply);
            return 0;
        };
        if second == Second::None {
            return self.stage(reply, length);
        }
        let copy = self.take_reply().map(|mut copy| {
            if let (Some(room), Some(bytes)) = (copy.get_mut(..length), reply.get(..length)) {
                room.copy_from_slice(bytes);
                second.make(room);
            }
            copy
        });
        self.stage(reply, length) + copy.map_or(1, |copy| self.stage(copy, length))
    }

    /// Stages a frame or drops it. Returns the number of dropped frames.
    fn stage(&mut self, frame: R::Frame, length: usize) -> usize {
        match self.rings.stage(frame, length) {
            Ok(()) => 0,
            Err(frame) => {
                self.drop_reply(frame);
                1
            }
        }
    }

    fn take_reply(&mut self) -> Option<R::Frame> {
        if !self.ledger.take_reply() {
            return None;
        }
        let frame = self.rings.allocate();
        if frame.is_none() {
            self.ledger.drop_reply();
        }
        frame
    }

    fn drop_reply(&mut self, frame: R::Frame) {
        self.rings.free(frame);
        self.ledger.drop_reply();
    }

    fn collect(&mut self) {
        let completed = self.rings.complete();
        self.ledger.completed(completed);
    }

    /// Asks the kernel to send what the transmit ring holds.
    fn kick(&mut self) -> Transmission {
        for _ in 0..KICKS {
            match self.rings.kick() {
                Ok(()) => return Transmission::Done,
                // The batch limit, a full send buffer, or a full completion ring or device queue.
                Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS) => self.collect(),
                Err(_) => return Transmission::Down,
            }
        }
        Transmission::Pending
    }
}

#[cfg(test)]
mod tests;
