//! Boot events of the files that machines ask for.
//!
//! Nothing else in `tftp` makes an event. A [`Delivery`] tells the journal of the request when it begins, and is used up by its end, so that
//! every request has one end at most.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pxe_common::MacAddr;

use crate::model::{
    artifact_names::kind_of,
    event::{ArtifactKind, EventKind, EventSink, Transport, short_path},
};

/// A file that a client asked for.
#[derive(Debug)]
pub(super) struct Delivery {
    machine: Option<MacAddr>,
    artifact: ArtifactKind,
    path: Arc<str>,
    requested: Instant,
}

/// How a delivery ended, as the journal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client acknowledged the whole file.
    Done,
    /// The client wanted to know the length, and not the file.
    Unwanted,
    /// The file did not arrive, for this reason.
    Failed(String),
}

impl Delivery {
    /// Tells the journal that a client asked for a file. `machine` is whose address the client has.
    pub(super) fn begin(events: &EventSink, now: Instant, machine: Option<MacAddr>, path: &[u8]) -> Self {
        let delivery = Self { machine, artifact: kind_of(path), path: short_path(path), requested: now };
        let (artifact, transport, path) = (delivery.artifact, Transport::Tftp, Arc::clone(&delivery.path));
        delivery.tell(events, EventKind::Requested { artifact, transport, path });
        delivery
    }

    /// Tells the journal how it ended, after `bytes` of the file were acknowledged.
    pub(super) fn end(self, events: &EventSink, now: Instant, bytes: u64, end: End) {
        let (artifact, transport, path) = (self.artifact, Transport::Tftp, Arc::clone(&self.path));
        let kind = match end {
            End::Done => EventKind::Done { artifact, transport, path, bytes, took: self.age(now) },
            End::Unwanted => return,
            End::Failed(reason) => EventKind::Failed { artifact, transport, path, bytes, reason: reason.into() },
        };
        self.tell(events, kind);
    }

    /// Returns `true` if the client has the address of a machine.
    pub(super) fn is_to_machine(&self) -> bool {
        self.machine.is_some()
    }

    /// Writes a line for the end of a transfer, for who looks at one server closely.
    pub(super) fn log(&self, server: Ipv4Addr, client: SocketAddrV4, now: Instant, bytes: u64, end: &End) {
        let (path, took) = (&self.path, self.age(now));
        tracing::debug!(%server, %client, %path, bytes, ?took, ?end, "TFTP transfer ended");
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.requested)
    }

    fn tell(&self, events: &EventSink, kind: EventKind) {
        if let Some(machine) = self.machine {
            events.send(machine, SystemTime::now(), kind);
        }
    }
}
