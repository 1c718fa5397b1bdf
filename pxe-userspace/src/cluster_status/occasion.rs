//! Occasions for an Event: what a person should see when it begins.

use std::time::{Duration, Instant};

/// The content of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Occasion {
    /// The firmware cannot start the kernel of the architecture in the spec.
    WrongArchitecture,
    /// A file that it boots is not there, and does not come by itself.
    ImageMissing,
    /// It has been at a stage for longer than a healthy machine.
    BootStuck,
    /// A step failed.
    BootFailed,
    /// It chose the offer of a DHCP server that is no node of this fleet.
    OtherDhcpServer,
    /// A mistake in the spec leaves it out.
    LeftOut,
    /// Something about a cluster is not as it should be.
    NotReady,
}

impl Occasion {
    /// All occasions.
    pub const ALL: [Self; 7] = [
        Self::WrongArchitecture,
        Self::ImageMissing,
        Self::BootStuck,
        Self::BootFailed,
        Self::OtherDhcpServer,
        Self::LeftOut,
        Self::NotReady,
    ];

    /// Returns the reason of the Event.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::WrongArchitecture => "WrongArchitecture",
            Self::ImageMissing => "ImageMissing",
            Self::BootStuck => "BootStuck",
            Self::BootFailed => "BootFailed",
            Self::OtherDhcpServer => "OtherDhcpServer",
            Self::LeftOut => "LeftOut",
            Self::NotReady => "NotReady",
        }
    }
}

/// The time after which a repetition is an Event of its own. Kubernetes deletes Events after an hour.
const SERIES: Duration = Duration::from_secs(30 * 60);
/// The least time between two changes of a series.
pub const SERIES_EVERY: Duration = Duration::from_secs(60);

/// An Event that was written, to which repetitions are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The occasion.
    pub occasion: Occasion,
    /// The part that distinguishes it from others of the kind.
    detail: String,
    /// The name of the Event, once it is written.
    pub name: Option<String>,
    /// The number of times.
    pub count: u32,
    /// The time of the last.
    last: Instant,
    /// The last time is still to be written.
    is_due: bool,
}

/// The Events of one object: the last one of each occasion, and the occasion that lasts now.
#[derive(Clone, Debug, Default)]
pub struct Occasions {
    series: Vec<Series>,
    lasts: Option<(Occasion, String)>,
}

impl Occasions {
    /// Notes what an assessment says. `begins` is `true` if a new attempt of the machine ended in it. Returns the occasion to write an
    /// Event about, and the delay after which it may be written.
    pub fn note(
        &mut self,
        now: Instant,
        occasion: Option<Occasion>,
        detail: &str,
        begins: bool,
    ) -> Option<(Occasion, Duration)> {
        let Some(occasion) = occasion else {
            self.lasts = None;
            return None;
        };
        let lasts = self.lasts.as_ref().is_some_and(|(lasts, of)| *lasts == occasion && *of == detail);
        self.lasts = Some((occasion, detail.to_owned()));
        if lasts && !begins {
            return None;
        }
        let is_same = |series: &&mut Series| {
            series.occasion == occasion
                && series.detail == detail
                && now.saturating_duration_since(series.last) < SERIES
        };
        if let Some(series) = self.series.iter_mut().find(is_same) {
            series.count = series.count.saturating_add(1);
            series.last = now;
            series.is_due = true;
            let delay = if series.name.is_some() { SERIES_EVERY } else { Duration::ZERO };
            return Some((occasion, delay));
        }
        self.series.retain(|series| series.occasion != occasion);
        let detail = detail.to_owned();
        self.series.push(Series { occasion, detail, name: None, count: 1, last: now, is_due: true });
        Some((occasion, Duration::ZERO))
    }

    /// Returns the series that is to be written.
    #[must_use]
    pub fn due(&self, occasion: Occasion) -> Option<&Series> {
        self.series.iter().find(|series| series.occasion == occasion && series.is_due)
    }

    /// Notes that an Event was written, or that it never will be (`None`).
    pub fn written(&mut self, occasion: Occasion, name: Option<String>, count: u32) {
        if let Some(series) = self.series.iter_mut().find(|series| series.occasion == occasion) {
            series.is_due = name.is_some() && series.count != count;
            series.name = name;
        }
    }

    /// Forgets the name of an Event that the server does not have any more.
    pub fn is_gone(&mut self, occasion: Occasion) {
        if let Some(series) = self.series.iter_mut().find(|series| series.occasion == occasion) {
            (series.name, series.count, series.is_due) = (None, 1, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_written_when_its_occasion_begins_and_not_while_it_lasts() {
        let mut occasions = Occasions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (failed, stuck) = (Some(Occasion::BootFailed), Some(Occasion::BootStuck));
        assert_eq!(occasions.note(at(0), None, "", false), None);
        let first = Some((Occasion::BootFailed, Duration::ZERO));
        assert_eq!(occasions.note(at(1), failed, "no such file", false), first);
        assert_eq!(occasions.note(at(2), failed, "no such file", false), None);
        let series = occasions.due(Occasion::BootFailed).unwrap();
        assert_eq!((series.count, &series.name), (1, &None));
        occasions.written(Occasion::BootFailed, Some("x.1".to_owned()), 1);
        assert_eq!(occasions.due(Occasion::BootFailed), None);
        // It retries and fails again, twice within a minute: a series.
        for second in [10, 20] {
            assert_eq!(occasions.note(at(second), None, "", false), None);
            let again = occasions.note(at(second + 5), failed, "no such file", false);
            assert_eq!(again, Some((Occasion::BootFailed, SERIES_EVERY)));
        }
        let series = occasions.due(Occasion::BootFailed).unwrap();
        assert_eq!((series.count, series.name.as_deref()), (3, Some("x.1")));
        // Another error is another Event.
        assert_eq!(occasions.note(at(30), failed, "fell silent", false), first);
        assert_eq!(occasions.due(Occasion::BootFailed).unwrap().name, None);
        assert_eq!(occasions.note(at(31), stuck, "", false), Some((Occasion::BootStuck, Duration::ZERO)));
    }

    #[test]
    fn attempt_that_ends_as_the_last_one_is_a_repetition_even_if_nothing_was_seen_between() {
        let mut occasions = Occasions::default();
        let now = Instant::now();
        let failed = Some(Occasion::BootFailed);
        assert!(occasions.note(now, failed, "", true).is_some());
        assert!(occasions.note(now, failed, "", true).is_some());
        assert_eq!(occasions.due(Occasion::BootFailed).unwrap().count, 2);
    }

    #[test]
    fn repetition_after_a_long_time_is_an_event_of_its_own() {
        let mut occasions = Occasions::default();
        let now = Instant::now();
        let failed = Some(Occasion::BootFailed);
        occasions.note(now, failed, "", false);
        occasions.written(Occasion::BootFailed, Some("x.1".to_owned()), 1);
        occasions.note(now, None, "", false);
        assert_eq!(occasions.note(now + SERIES, failed, "", false), Some((Occasion::BootFailed, Duration::ZERO)));
        assert_eq!(occasions.due(Occasion::BootFailed).unwrap().count, 1);
    }

    #[test]
    fn repetition_during_the_write_is_still_due_and_a_deleted_event_is_made_again() {
        let mut occasions = Occasions::default();
        let now = Instant::now();
        let failed = Some(Occasion::BootFailed);
        occasions.note(now, failed, "", true);
        occasions.note(now, failed, "", true);
        occasions.written(Occasion::BootFailed, Some("x.1".to_owned()), 1);
        assert_eq!(occasions.due(Occasion::BootFailed).unwrap().count, 2);
        occasions.is_gone(Occasion::BootFailed);
        let due = occasions.due(Occasion::BootFailed).unwrap();
        assert_eq!((due.count, &due.name), (1, &None));
        occasions.written(Occasion::BootFailed, None, 1);
        assert_eq!(occasions.due(Occasion::BootFailed), None);
    }
}
