//! Boot events of the files that machines ask for.
//!
//! Nothing else in `tftp` makes events. A [`Delivery`] tells the journal of the request as soon as the client has answered, which shows that it
//! has received something, and is consumed by its end, so that a request has at most one end. Requests may be forged by the thousand; of those
//! that nobody has answered, the journal is told at their end, with the end, and of few of them (`allowance`).
//!
//! | end | the journal is told | because |
//! |---|---|---|
//! | the last block was acknowledged | done | the client has the whole file |
//! | every block was sent, the last was not acknowledged | unconfirmed | some firmware never acknowledges it, other clients are gone: the next step of the machine shows which |
//! | the client asked for the length only | nothing | no file was delivered, and nothing failed |
//! | the client sent another request from the same port, and fell silent | nothing, or unconfirmed | it has started over, and the journal is told of the other request |
//! | nobody answered, and others needed the place, or the client's host said that nobody waits there | nothing, not even of the request | it was probably forged |
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
const DISPLACED: &str = "too many transfers are in progress, most of them from this address";
/// The reason of a failure that the client's host reports.
const UNREACHABLE: &str = "the client does not receive at its port any more";

/// A file that a client asked for.
#[derive(Debug)]
pub(super) struct Delivery {
    machine: Option<MacAddr>,
    artifact: ArtifactKind,
    path: Arc<str>,
    requested: Instant,
    /// The journal knows of the request.
    is_told: bool,
    origin: Origin,
}

/// The end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client ended it, or the disk did not answer.
    Transferred(Outcome),
    /// The file changed or could not be read, for this reason.
    Unsendable(String),
    /// Another request needed its place: the client had not acknowledged anything, or its address has too many transfers.
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
            Self::Transferred(Outcome::Unreachable) => TransferResult::Unreachable,
            Self::Transferred(Outcome::DiskStalled) | Self::Unsendable(_) => TransferResult::FileError,
            Self::Displaced => TransferResult::Displaced,
        }
    }

    /// Returns `true` if the request was probably forged, should nobody have answered before.
    fn suggests_forgery(&self) -> bool {
        match self {
            Self::Displaced | Self::Transferred(Outcome::Unreachable | Outcome::Probed | Outcome::Restarted) => true,
            Self::Unsendable(_)
            | Self::Transferred(
                Outcome::Done | Outcome::Unconfirmed | Outcome::Aborted { .. } | Outcome::Silent | Outcome::DiskStalled,
            ) => false,
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
            Self::Transferred(Outcome::Probed | Outcome::Restarted) => Verdict::NothingWanted,
            Self::Transferred(Outcome::Unreachable) => Verdict::Failed(UNREACHABLE.to_owned()),
            Self::Transferred(Outcome::Aborted { code, message }) => {
                Verdict::Failed(format!("the client broke off with error {code}: {message}"))
            }
            Self::Transferred(Outcome::Silent) => Verdict::Failed(FELL_SILENT.to_owned()),
            Self::Transferred(Outcome::DiskStalled) => {
                Verdict::Failed(format!("{UNREADABLE}: the disk does not answer"))
            }
            Self::Unsendable(reason) => Verdict::Failed(reason.clone()),
            Self::Displaced => Verdict::Failed(DISPLACED.to_owned()),
        }
    }
}

impl Delivery {
    /// Begins the delivery of a file that a client asks for. `machine` is the machine that has the client's address.
    pub(super) fn begin(now: Instant, machine: Option<MacAddr>, path: &[u8]) -> Self {
        let (artifact, path) = (kind_of(path), short_path(path));
        Self { machine, artifact, path, requested: now, is_told: false, origin: Origin::Unproven }
    }

    /// Returns the delivery of a file that another client than `machine` asks for. The journal is told of its end only.
    pub(super) fn of_another(now: Instant, machine: Option<MacAddr>, path: &[u8]) -> Self {
        Self { is_told: true, ..Self::begin(now, machine, path) }
    }

    /// Tells the journal of the request, once: the client has answered. Returns the machine and the kind of file then, if it is a machine's.
    pub(super) fn answered(&mut self, events: &EventSink) -> Option<(MacAddr, ArtifactKind)> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let (artifact, transport, path) = (self.artifact, Transport::Tftp, Arc::clone(&self.path));
        self.tell(events, EventKind::Requested { artifact, transport, path });
        self.machine.map(|machine| (machine, artifact))
    }

    /// Tells the journal that the request was refused, for this reason.
    pub(super) fn refuse(mut self, events: &EventSink, reason: &str) {
        self.origin = Origin::Unanswered;
        let _ = self.answered(events);
        self.fail(events, 0, reason.to_owned());
    }

    /// Tells the journal how the transfer ended, after `bytes` of the file were acknowledged. `is_admitted` says if the journal may
    /// be told of a transfer that nobody has answered.
    pub(super) fn end(
        mut self,
        events: &EventSink,
        now: Instant,
        bytes: u64,
        end: &End,
        is_admitted: impl FnOnce() -> bool,
    ) {
        if !self.is_told {
            if end.suggests_forgery() || !is_admitted() {
                return;
            }
            self.origin = Origin::Unanswered;
            let _ = self.answered(events);
        }
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
            events.send(machine, SystemTime::now(), self.origin, kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_whole_file_alone_is_done() {
        let aborted = Outcome::Aborted { code: 8, message: "no".into() };
        /// The events of an end if the client has answered, and if not.
        type Case = (End, TransferResult, &'static [&'static str], &'static [&'static str]);
        let failed: &[&str] = &["requested", "failed"];
        let cases: &[Case] = &[
            (End::Transferred(Outcome::Done), TransferResult::Done, &["requested", "done"], &["requested", "done"]),
            (
                End::Transferred(Outcome::Unconfirmed),
                TransferResult::Unconfirmed,
                &["requested", "unconfirmed"],
                &["requested", "unconfirmed"],
            ),
            (End::Transferred(Outcome::Probed), TransferResult::Probed, &["requested"], &[]),
            (End::Transferred(aborted), TransferResult::Aborted, failed, failed),
            (End::Transferred(Outcome::Silent), TransferResult::Silent, failed, failed),
            (End::Transferred(Outcome::Restarted), TransferResult::Restarted, &["requested"], &[]),
            (End::Transferred(Outcome::Unreachable), TransferResult::Unreachable, failed, &[]),
            (End::Transferred(Outcome::DiskStalled), TransferResult::FileError, failed, failed),
            (End::Unsendable("shrank".to_owned()), TransferResult::FileError, failed, failed),
            (End::Displaced, TransferResult::Displaced, failed, &[]),
        ];
        let now = Instant::now();
        let told = |machine, is_answered, is_admitted, end| {
            let (events, mut journal) = EventSink::channel(4);
            let mut delivery = Delivery::begin(now, machine, b"ipxe.efi");
            for _ in 0..2 {
                if is_answered {
                    let _ = delivery.answered(&events);
                }
            }
            delivery.end(&events, now, 512, end, || is_admitted);
            drop(events);
            let told = std::iter::from_fn(|| journal.blocking_recv());
            let name = |event: crate::model::event::BootEvent| {
                assert_eq!(event.origin == Origin::Unproven, is_answered, "{event:?}");
                match event.kind {
                    EventKind::Requested { .. } => "requested",
                    EventKind::Done { bytes: 512, .. } => "done",
                    EventKind::Unconfirmed { bytes: 512, .. } => "unconfirmed",
                    EventKind::Failed { bytes: 512, .. } => "failed",
                    other => panic!("{other:?}"),
                }
            };
            told.map(name).collect::<Vec<_>>()
        };
        let machine = Some(MacAddr([2, 0, 0, 0, 0, 7]));
        for (end, result, answered, unanswered) in cases {
            assert_eq!(end.result(), *result);
            assert_eq!(told(machine, true, false, end), *answered, "{end:?}");
            assert_eq!(told(machine, false, true, end), *unanswered, "{end:?}, and nobody has answered");
            assert_eq!(told(machine, false, false, end), [""; 0], "{end:?}, of many that nobody has answered");
            assert_eq!(told(None, true, true, end), [""; 0], "{end:?}");
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
