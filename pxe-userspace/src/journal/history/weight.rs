//! The number of events of a machine that the journal keeps of those that the history has: it merges some of them, and keeps others apart.

use std::sync::Arc;

use crate::model::{
    event::{ArtifactKind, EventKind},
    failure::TOO_OFTEN,
};

/// The knowledge about a machine's events before the next one.
///
/// The weights of a machine's events are never more than the journal keeps of them, so that as many as are wanted are read back. Those that
/// are too many are dropped there. A segment begins without knowledge of the one before, in which the same event may have been the last.
#[derive(Debug, Default)]
pub(super) struct Weigher {
    last: Last,
}

#[derive(Debug, Default)]
enum Last {
    /// It has no event in this segment yet.
    #[default]
    Unknown,
    Awaits(Arc<str>),
    LeftToPeer,
    /// An attempt to get its configuration, after another one that ended so.
    Attempt(Option<End>),
    /// The same, as its first event in this segment.
    FirstAttempt,
    Ended(End),
    Other,
}

/// The end of an attempt to get a machine configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Done(u64),
    Failed(Arc<str>),
}

impl Weigher {
    /// Returns the number of events that the journal keeps on account of the next one.
    pub(super) fn weigh(&mut self, event: &EventKind) -> usize {
        let (last, weight) = match event {
            // It is kept apart, and ends no sequence.
            EventKind::Ignored { reason: TOO_OFTEN } => return 0,
            EventKind::Awaits { path, .. } => {
                let is_repeated = match &self.last {
                    Last::Unknown => true,
                    Last::Awaits(awaited) => awaited == path,
                    _ => false,
                };
                (Last::Awaits(Arc::clone(path)), usize::from(!is_repeated))
            }
            EventKind::LeftToPeer { .. } => {
                (Last::LeftToPeer, usize::from(!matches!(self.last, Last::Unknown | Last::LeftToPeer)))
            }
            EventKind::Requested { artifact: ArtifactKind::Config, .. } => match std::mem::take(&mut self.last) {
                Last::Unknown => (Last::FirstAttempt, 0),
                Last::Ended(end) => (Last::Attempt(Some(end)), 0),
                _ => (Last::Attempt(None), 1),
            },
            EventKind::Done { artifact: ArtifactKind::Config, bytes, .. } => {
                // As the journal keeps it.
                self.end(End::Done((*bytes).min(u32::MAX.into())))
            }
            EventKind::Failed { artifact: ArtifactKind::Config, reason, .. } => {
                self.end(End::Failed(Arc::clone(reason)))
            }
            _ => (Last::Other, 1),
        };
        self.last = last;
        weight
    }

    fn end(&self, end: End) -> (Last, usize) {
        let weight = match &self.last {
            Last::Unknown | Last::FirstAttempt => 0,
            // The attempt before is dropped.
            Last::Attempt(Some(before)) if *before == end => 0,
            // The request was not counted yet.
            Last::Attempt(Some(_)) => 2,
            _ => 1,
        };
        (Last::Ended(end), weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::{fleet::Fleet, remembered::State, samples::*};

    fn awaits(path: &str, percent: u8) -> EventKind {
        EventKind::Awaits { path: path.into(), state: "fetching", percent: Some(percent) }
    }

    fn left() -> EventKind {
        EventKind::LeftToPeer { client: Pxe, address: [10, 255, 0, 2].into(), chosen: false }
    }

    /// Returns the weight of these events after another one.
    fn weight(events: &[EventKind]) -> usize {
        let mut weigher = Weigher::default();
        weigher.weigh(&discover(Pxe));
        events.iter().map(|event| weigher.weigh(event)).sum()
    }

    #[test]
    fn events_weigh_what_is_kept_of_them() {
        let too_often = || EventKind::Ignored { reason: TOO_OFTEN };
        let fails = |reason| [requested(Config), failed(Config, reason)];
        for (events, expected) in [
            (vec![too_often(), too_often()], 0),
            (vec![awaits("a", 1), awaits("a", 2), too_often(), awaits("a", 3), awaits("b", 1)], 2),
            (vec![left(), left(), discover(Pxe), left()], 3),
            ([fails("x"), fails("x"), fails("x")].concat(), 2),
            ([fails("x"), fails("y"), fails("y")].concat(), 4),
            ([&fails("x")[..], &[discover(Pxe)], &fails("x")].concat(), 5),
            ([load(Config), load(Config)].concat(), 2),
            (uefi_boot(), uefi_boot().len()),
        ] {
            assert_eq!(weight(&events), expected, "{events:?}");
        }
    }

    fn event_that_may_be_merged() -> impl Strategy<Value = EventKind> {
        let reason = prop_oneof![Just("x"), Just("y")];
        let path = prop_oneof![Just("a"), Just("b")];
        prop_oneof![
            4 => (path, any::<u8>()).prop_map(|(path, percent)| awaits(path, percent)),
            4 => Just(left()),
            8 => Just(requested(Config)),
            8 => reason.prop_map(|reason| failed(Config, reason)),
            4 => Just(done(Config)),
            1 => Just(EventKind::Ignored { reason: TOO_OFTEN }),
            1 => any_event(),
        ]
    }

    proptest! {
        #[test]
        fn events_never_weigh_more_than_is_kept(
            segments in prop::collection::vec(prop::collection::vec(event_that_may_be_merged(), 0..12), 0..5),
        ) {
            let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
            let machine = Arc::new(machine(1));
            let mut kept = |events: &[EventKind]| {
                timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
                fleet.machine(&machine, usize::MAX).events.len()
            };
            let weigh = |events: &[EventKind]| {
                let mut weigher = Weigher::default();
                events.iter().map(|event| weigher.weigh(event)).sum::<usize>()
            };
            let mut weight = 0;
            for events in &segments {
                weight += weigh(events);
                let kept = kept(events);
                prop_assert!(weight <= kept, "{weight} > {kept}: {segments:?}");
            }
        }
    }
}
