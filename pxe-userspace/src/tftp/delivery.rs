//! Boot events of the files that machines ask for.
//!
//! Nothing else in `tftp` makes events. A [`Delivery`] tells the journal of the request when it begins and is consumed by its end, so
//! that a request has at most one end:
//!
//! | end | the journal is told | because |
//! |---|---|---|
//! | the last block was acknowledged | done | the client has the whole file |
//! | every block was sent, the last was not acknowledged | unconfirmed | some firmware never acknowledges it, other clients are gone: the next step of the machine shows which |
//! | the client asked for the length only | nothing | no file was delivered, and nothing failed |
//! | anything else | failed, with the reason | |

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use pxe_common::MacAddr;

use super::{metrics::TransferResult, transfer::Outcome};
use crate::model::{
    artifact_names::kind_of,
    event::{ArtifactKind, EventKind, EventSink, Transport, short_path},
    failure::{FELL_SILENT, UNREADABLE},
    origin::Origin,
};

/// The reason of a displaced transfer's failure.
const DISPLACED: &str = "the client acknowledged nothing, and other requests needed its place";

/// A file that a client asked for.
#[derive(Debug)]
pub(super) struct Delivery {
    machine: Option<MacAddr>,
    artifact: ArtifactKind,
    path: Arc<str>,
    requested: Instant,
}

/// The end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client ended it, or the disk did not answer.
    Transferred(Outcome),
    /// The file changed or could not be read, for this reason.
    Unsendable(String),
    /// The client had not acknowledged anything when another request needed its place.
    Displaced,
}

/// The meaning of an end for the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The machine has the file.
    Done,
    /// The machine was sent the file, and may have it.
    Unconfirmed,
    /// The machine did not ask for the file itself.
    NothingWanted,
    /// The machine does not have the file, for this reason.
    Failed(String),
}

impl End {
    /// Returns the result that the metrics count.
    pub(super) fn result(&self) -> TransferResult {
        match self {
            Self::Transferred(Outcome::Done) => TransferResult::Done,
            Self::Transferred(Outcome::Probed) => TransferResult::Probed,
            Self::Transferred(Outcome::Unconfirmed) => TransferResult::Unconfirmed,
            Self::Transferred(Outcome::Aborted { .. }) => TransferResult::Aborted,
            Self::Transferred(Outcome::Silent) => TransferResult::Silent,
            Self::Transferred(Outcome::Restarted) => TransferResult::Restarted,
            Self::Transferred(Outcome::DiskStalled) | Self::Unsendable(_) => TransferResult::FileError,
            Self::Displaced => TransferResult::Displaced,
        }
    }

    /// Returns the error to send to a client that still waits for the file.
    pub(super) fn error_message(&self) -> Option<String> {
        match (self, self.verdict()) {
            (Self::Unsendable(_) | Self::Transferred(Outcome::DiskStalled), Verdict::Failed(reason)) => Some(reason),
            _ => None,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Transferred(Outcome::Done) => Verdict::Done,
            Self::Transferred(Outcome::Unconfirmed) => Verdict::Unconfirmed,
            Self::Transferred(Outcome::Probed) => Verdict::NothingWanted,
            Self::Transferred(Outcome::Aborted { code, message }) => {
                Verdict::Failed(format!("the client broke off with error {code}: {message}"))
            }
            Self::Transferred(Outcome::Silent) => Verdict::Failed(FELL_SILENT.to_owned()),
            Self::Transferred(Outcome::Restarted) => Verdict::Failed("the client started over".to_owned()),
            Self::Transferred(Outcome::DiskStalled) => {
                Verdict::Failed(format!("{UNREADABLE}: the disk does not answer"))
            }
            Self::Unsendable(reason) => Verdict::Failed(reason.clone()),
            Self::Displaced => Verdict::Failed(DISPLACED.to_owned()),
        }
    }
}

impl Delivery {
    /// Tells the journal that a client asks for a file. `machine` is the machine that has the client's address.
    pub(super) fn begin(events: &EventSink, now: Instant, machine: Option<MacAddr>, path: &[u8]) -> Self {
        let delivery = Self::of_another(now, machine, path);
        let (artifact, transport, path) = (delivery.artifact, Transport::Tftp, Arc::clone(&delivery.path));
        delivery.tell(events, EventKind::Requested { artifact, transport, path });
        delivery
    }

    /// Returns the delivery of a file that another client than `machine` asks for. The journal is told of its end only.
    pub(super) fn of_another(now: Instant, machine: Option<MacAddr>, path: &[u8]) -> Self {
        Self { machine, artifact: kind_of(path), path: short_path(path), requested: now }
    }

    /// Tells the journal that the request was refused, for this reason.
    pub(super) fn refuse(self, events: &EventSink, reason: &str) {
        self.fail(events, 0, reason.to_owned());
    }

    /// Tells the journal how the transfer ended, after `bytes` of the file were acknowledged.
    pub(super) fn end(self, events: &EventSink, now: Instant, bytes: u64, end: &End) {
        let (artifact, transport, path) = (self.artifact, Transport::Tftp, Arc::clone(&self.path));
        match end.verdict() {
            Verdict::Done => {
                let took = now.saturating_duration_since(self.requested);
                self.tell(events, EventKind::Done { artifact, transport, path, bytes, took });
            }
            Verdict::Unconfirmed => self.tell(events, EventKind::Unconfirmed { artifact, transport, path, bytes }),
            Verdict::NothingWanted => {}
            Verdict::Failed(reason) => self.fail(events, bytes, reason),
        }
    }

    fn fail(self, events: &EventSink, bytes: u64, reason: String) {
        let (artifact, transport, path) = (self.artifact, Transport::Tftp, Arc::clone(&self.path));
        self.tell(events, EventKind::Failed { artifact, transport, path, bytes, reason: reason.into() });
    }

    fn tell(&self, events: &EventSink, kind: EventKind) {
        if let Some(machine) = self.machine {
            events.send(machine, SystemTime::now(), Origin::Unproven, kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_whole_file_alone_is_done() {
        let aborted = Outcome::Aborted { code: 8, message: "no".into() };
        let cases: &[(End, TransferResult, &[&str])] = &[
            (End::Transferred(Outcome::Done), TransferResult::Done, &["requested", "done"]),
            (End::Transferred(Outcome::Unconfirmed), TransferResult::Unconfirmed, &["requested", "unconfirmed"]),
            (End::Transferred(Outcome::Probed), TransferResult::Probed, &["requested"]),
            (End::Transferred(aborted), TransferResult::Aborted, &["requested", "failed"]),
            (End::Transferred(Outcome::Silent), TransferResult::Silent, &["requested", "failed"]),
            (End::Transferred(Outcome::Restarted), TransferResult::Restarted, &["requested", "failed"]),
            (End::Transferred(Outcome::DiskStalled), TransferResult::FileError, &["requested", "failed"]),
            (End::Unsendable("shrank".to_owned()), TransferResult::FileError, &["requested", "failed"]),
            (End::Displaced, TransferResult::Displaced, &["requested", "failed"]),
        ];
        let now = Instant::now();
        for machine in [Some(MacAddr([2, 0, 0, 0, 0, 7])), None] {
            for (end, result, expected) in cases {
                let (events, mut journal) = EventSink::channel(4);
                Delivery::begin(&events, now, machine, b"ipxe.efi").end(&events, now, 512, end);
                drop(events);
                let told = std::iter::from_fn(|| journal.blocking_recv());
                let told: Vec<_> = told
                    .map(|event| match event.kind {
                        EventKind::Requested { .. } => "requested",
                        EventKind::Done { bytes: 512, .. } => "done",
                        EventKind::Unconfirmed { bytes: 512, .. } => "unconfirmed",
                        EventKind::Failed { bytes: 512, .. } => "failed",
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(end.result(), *result);
                assert_eq!(told, if machine.is_some() { expected.to_vec() } else { Vec::new() }, "{end:?}");
            }
        }
    }

    #[test]
    fn failures_to_read_are_sent_to_the_client() {
        let message = |end: End| end.error_message();
        assert_eq!(message(End::Unsendable("shrank".to_owned())).as_deref(), Some("shrank"));
        assert!(message(End::Transferred(Outcome::DiskStalled)).is_some_and(|text| text.starts_with(UNREADABLE)));
        assert_eq!(message(End::Transferred(Outcome::Silent)), None);
        assert_eq!(message(End::Displaced), None, "the request may be forged");
    }
}
