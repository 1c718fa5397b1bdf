//! Announces the files that machines request by HTTP, and their arrival or loss. Only this module makes these events.
//!
//! | event | condition |
//! |---|---|
//! | requested | the request arrived |
//! | done | the machine has the whole file: it acknowledged the last byte of each answer that counts ([`super::flights`]), and the answers together hold all of the file ([`super::coverage`]) |
//! | unconfirmed | the machine has the whole file, provided that it has the last bytes sent |
//! | failed | the request was refused, an answer was lost, or the file was overwritten before the answer had arrived |
//! | none | a part arrived, but others are missing |
//!
//! Boot policy depends on these events: a machine that is wrongly believed to have its initramfs is sent to an empty disk.
//! Acknowledged bytes have reached the machine's TCP; it is not visible whether its loader has read them.

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use arrayvec::ArrayVec;
use pxe_common::MacAddr;
use tokio::time::Instant;

use super::{
    context::Context,
    coverage::{Coverage, FileState},
    flights::{Event, Flights, Verdict},
    stream::{Broken, Sending, Stream},
};
use crate::{
    artifacts::OpenArtifact,
    model::{
        event::{ArtifactKind, EventKind, EventSink, Transport, short_path},
        failure::CHANGED,
        machine_path::MachinePath,
        origin::Origin,
        progress::Meter,
    },
};

/// The reason for bytes that were not acknowledged when pxed itself ended the connection.
const STOPPED: &str = "pxed stopped before the last byte was acknowledged";

/// The most files of the store that one answer is made of: a kernel and an initramfs.
const SOURCE_LIMIT: usize = 2;

type SourceFiles = ArrayVec<Arc<OpenArtifact>, SOURCE_LIMIT>;

/// The fields that all events about one requested file or script share.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    mac: MacAddr,
    artifact: ArtifactKind,
    path: Arc<str>,
    origin: Origin,
}

impl Delivery {
    pub(super) fn new(mac: MacAddr, artifact: ArtifactKind, path: &[u8]) -> Self {
        Self { mac, artifact, path: short_path(&MachinePath::masked(path)), origin: Origin::Machine }
    }

    /// Returns the delivery with events that may be somebody else's doing, who has the machine's address.
    pub(super) fn unproven(self) -> Self {
        Self { origin: Origin::Unproven, ..self }
    }

    /// Announces the request.
    pub(super) fn requested(&self, events: &EventSink) {
        let path = Arc::clone(&self.path);
        self.send(events, EventKind::Requested { artifact: self.artifact, transport: Transport::Http, path });
    }

    /// Announces that the machine does not get the file.
    pub(super) fn refused(&self, events: &EventSink, reason: &str) {
        self.failed(events, 0, reason);
    }

    fn failed(&self, events: &EventSink, bytes: u64, reason: &str) {
        let (path, reason) = (Arc::clone(&self.path), reason.into());
        let (artifact, transport) = (self.artifact, Transport::Http);
        self.send(events, EventKind::Failed { artifact, transport, path, bytes, reason });
    }

    fn unconfirmed(&self, events: &EventSink, bytes: u64) {
        let (artifact, transport, path) = (self.artifact, Transport::Http, Arc::clone(&self.path));
        self.send(events, EventKind::Unconfirmed { artifact, transport, path, bytes });
    }

    fn done(&self, events: &EventSink, bytes: u64, began: Instant) {
        let (path, took) = (Arc::clone(&self.path), began.elapsed());
        let (artifact, transport) = (self.artifact, Transport::Http);
        self.send(events, EventKind::Done { artifact, transport, path, bytes, took });
    }

    fn send(&self, events: &EventSink, kind: EventKind) {
        events.send(self.mac, SystemTime::now(), self.origin, kind);
    }
}

/// The content of an answer's body.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A text of this many bytes.
    Text(u64),
    /// These bytes of a file.
    File(FileState, Range<u64>),
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Self::Text(length) => *length,
            Self::File(_, bytes) => bytes.end - bytes.start,
        }
    }
}

/// An answer in flight to a machine.
#[derive(Debug)]
struct InFlight {
    delivery: Delivery,
    content: Content,
    began: Instant,
    /// The progress that it publishes, if the file is large.
    meter: Option<Meter>,
}

impl InFlight {
    /// Publishes that the client has acknowledged this many bytes of the answer.
    fn note(&self, acknowledged: u64, now: Instant) {
        if let (Some(meter), Content::File(_, bytes)) = (&self.meter, &self.content) {
            meter.note(bytes.start + acknowledged, now.into_std());
        }
    }
}

/// The answers in flight on one connection.
#[derive(Debug)]
pub(super) struct Deliveries {
    context: Arc<Context>,
    flights: Flights<InFlight>,
    /// The file that was sent last, and the files of the store that it is made of, until its answer has arrived.
    last_file: Option<(FileState, SourceFiles)>,
}

impl Deliveries {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, flights: Flights::new(Instant::now()), last_file: None }
    }

    /// Tracks an answer that is sent next. Its request arrived at `began`, and its body begins at `position` in the stream.
    pub(super) fn depart(&mut self, delivery: Delivery, content: Content, began: Instant, position: u64) {
        if let Content::File(file, bytes) = &content
            && (bytes.start, bytes.end) == (0, file.length)
        {
            // A request for the whole file starts over: whatever an earlier boot loaded was lost at power-off.
            self.coverage(|coverage| coverage.forget(delivery.mac, *file));
        }
        let body = position..position + content.length();
        let now = Instant::now();
        let meter = match &content {
            Content::Text(_) => None,
            Content::File(file, bytes) => {
                let Delivery { mac, artifact, .. } = delivery;
                let meter =
                    self.context.progress.begin(mac, (artifact, Transport::Http), (file.length, 0), now.into_std());
                // A client that asks for the rest has what comes before it.
                meter.inspect(|meter| meter.note(bytes.start, now.into_std()))
            }
        };
        self.flights.depart(InFlight { delivery, content, began, meter }, body, now);
    }

    /// Keeps the files of the store that a file is made of which is sent next, to look at them once more when the answer has arrived.
    /// Returns what publishes its progress while it is sent.
    pub(super) fn sending<'a>(
        &mut self,
        file: FileState,
        sources: impl IntoIterator<Item = &'a Arc<OpenArtifact>>,
    ) -> Option<Sending> {
        if self.flights.len() > 0 {
            self.last_file = Some((file, sources.into_iter().take(SOURCE_LIMIT).map(Arc::clone).collect()));
        }
        let (InFlight { meter, content, .. }, begins_at) = self.flights.last()?;
        let Content::File(sent, bytes) = content else { return None };
        let gauge = meter.as_ref().filter(|_| *sent == file)?.gauge();
        Some(Sending { gauge, begins_at, first: bytes.start, noted: None })
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Returns `true` if an answer must arrive or be lost before the next one may be sent.
    pub(super) fn is_full(&self) -> bool {
        self.flights.is_full()
    }

    /// Returns the time for the next [`Event::Timer`] in [`Deliveries::observe`], or `None` if nothing is in flight.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.flights.next_look()
    }

    /// Announces the answers that have arrived by now.
    ///
    /// # Errors
    ///
    /// [`Broken::Stalled`] if the client is too slow. The answers in flight have then been announced as lost.
    pub(super) fn observe(&mut self, event: Event, stream: &Stream) -> Result<(), Broken> {
        self.settle(event, stream, &"");
        self.flights.too_slow().map_or(Ok(()), |too_slow| Err(Broken::Stalled(too_slow)))
    }

    /// Announces the answers that arrived before the connection broke, and the rest as lost.
    pub(super) fn broken(&mut self, stream: &Stream, broken: &Broken) {
        self.settle(Event::Broken, stream, broken);
    }

    /// Announces the answers that arrived before pxed ended the connection, and the rest as lost.
    pub(super) fn stopped(&mut self, stream: &Stream) {
        self.settle(Event::Stopped, stream, &STOPPED);
    }

    /// Announces the verdicts that follow from an event. An answer that did not arrive has failed because the client is too
    /// slow, or else for this reason. The system call is made only while an answer is in flight.
    fn settle(&mut self, event: Event, stream: &Stream, reason: &dyn ToString) {
        if self.flights.len() == 0 {
            return;
        }
        let verdicts = self.flights.observe(event, stream.reach(), Instant::now());
        let too_slow = self.flights.too_slow();
        let reason = too_slow.as_ref().map_or(reason, |too_slow| too_slow);
        for (flight, verdict) in verdicts {
            self.announce(&flight, verdict, reason);
            if let Some(meter) = flight.meter
                && verdict == Verdict::Delivered
            {
                meter.complete();
            }
        }
        if let Some((flight, acknowledged, now)) = self.flights.first() {
            flight.note(acknowledged, now);
        }
        if self.flights.len() == 0 {
            self.last_file = None;
        }
    }

    /// Returns `true` if somebody has written to a file that was sent. The send queue refers to the page cache, so bytes that
    /// were written in place before they had arrived may be the new ones.
    fn has_changed(&self, content: &Content) -> bool {
        let Content::File(file, _) = content else { return false };
        let last = self.last_file.as_ref().filter(|(last, _)| last == file);
        last.is_some_and(|(_, sources)| sources.iter().any(|source| !source.is_unchanged()))
    }

    fn announce(&self, flight: &InFlight, verdict: Verdict, reason: &dyn ToString) {
        let (InFlight { delivery, content, began, .. }, events) = (flight, &self.context.events);
        if verdict == Verdict::Delivered && self.has_changed(content) {
            delivery.failed(events, content.length(), CHANGED);
            return;
        }
        let acknowledged = match verdict {
            Verdict::Delivered => content.length(),
            Verdict::Unconfirmed { acknowledged } | Verdict::Lost { acknowledged } => acknowledged,
        };
        // The length of the file if the machine now has all of it, including earlier answers.
        let whole = match content {
            Content::Text(length) => (verdict == Verdict::Delivered).then_some(*length),
            Content::File(file, bytes) => {
                let (arrived, inventory) = (bytes.start..bytes.start + acknowledged, self.context.inventory.load());
                let is_whole = self.coverage(|coverage| coverage.add(delivery.mac, *file, arrived, &inventory));
                is_whole.then_some(file.length)
            }
        };
        match (whole, verdict) {
            (Some(length), _) => delivery.done(events, length, *began),
            (None, Verdict::Delivered) => {}
            (None, Verdict::Unconfirmed { .. }) if self.would_be_whole(flight) => {
                delivery.unconfirmed(events, acknowledged);
            }
            (None, Verdict::Unconfirmed { .. } | Verdict::Lost { .. }) => {
                delivery.failed(events, acknowledged, &reason.to_string());
            }
        }
    }

    /// Returns `true` if the machine has the whole file, provided that it has all of this answer.
    fn would_be_whole(&self, InFlight { delivery, content, .. }: &InFlight) -> bool {
        match content {
            Content::Text(_) => true,
            Content::File(file, bytes) => self.coverage(|coverage| coverage.would_be_whole(delivery.mac, *file, bytes)),
        }
    }

    fn coverage<T>(&self, work: impl FnOnce(&mut Coverage) -> T) -> T {
        work(&mut self.context.coverage.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
