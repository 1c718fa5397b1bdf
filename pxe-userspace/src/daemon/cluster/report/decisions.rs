//! The way of a person's decision from the admin API to the reporter, and back.

use pxe_common::MacAddr;
use tokio::sync::{mpsc, oneshot};

/// The decisions that may wait for the reporter.
const CAPACITY: usize = 64;

/// A decision that is in force here and is to be carried into the API.
#[derive(Debug)]
pub(super) struct Decide {
    pub(super) mac: MacAddr,
    /// A hold, or else a release.
    pub(super) is_hold: bool,
    pub(super) reply: Reply,
}

/// The way back.
#[derive(Debug)]
pub(super) struct Reply(oneshot::Sender<Vec<String>>);

impl Reply {
    /// Returns a way back and its end.
    pub(super) fn channel() -> (Self, oneshot::Receiver<Vec<String>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Tells what was written where.
    pub(super) fn send(self, notes: Vec<String>) {
        // An error means that nobody waits any more.
        let _ = self.0.send(notes);
    }

    /// Tells that the machine has no object.
    pub(super) fn send_nothing(self) {
        let note = "no TalosMachine has its MAC address, so this node alone knows of it, and remembers it in its state directory";
        self.send(vec![note.to_owned()]);
    }
}

/// The sending half.
#[derive(Clone, Debug)]
pub(super) struct Decisions(mpsc::Sender<Decide>);

impl Decisions {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Decide>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), receiver)
    }

    /// Carries a decision into the API. Returns what was written where, in sentences for people.
    pub(super) async fn carry(self, mac: MacAddr, is_hold: bool) -> Vec<String> {
        let (reply, receiver) = Reply::channel();
        let ended = || vec!["pxed is ending: other nodes do not know of it".to_owned()];
        if self.0.send(Decide { mac, is_hold, reply }).await.is_err() {
            return ended();
        }
        receiver.await.unwrap_or_else(|_| ended())
    }
}
