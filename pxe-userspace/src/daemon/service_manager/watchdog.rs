//! Decides when a keep-alive is sent to the service manager: only when everything has given a sign of life since the last one.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

/// The shortest time that leaves room for a busy machine: three looks.
pub(super) const SHORTEST: Duration = Duration::from_secs(6);

/// Returns the time after which the service manager ends the process without a keep-alive, from WATCHDOG_USEC and WATCHDOG_PID
/// (sd_watchdog_enabled(3)); `None` if there is no watchdog, if it watches another process, or if the variables make no sense.
pub(super) fn timeout(microseconds: Option<OsString>, watched: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |variable: &OsString| variable.to_str()?.trim().parse::<u64>().ok();
    if watched.is_some_and(|watched| number(&watched) != Some(own.into())) {
        return None;
    }
    let microseconds = microseconds.filter(|text| !text.is_empty())?;
    let timeout = number(&microseconds).filter(|&number| number > 0).map(Duration::from_micros);
    if timeout.is_none() {
        tracing::warn!("no keep-alive is sent: WATCHDOG_USEC={}: not a number of microseconds", microseconds.display());
    }
    timeout
}

/// The signs of life since the last keep-alive.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    timeout: Duration,
    /// The last keep-alive, or the start.
    sent: Instant,
    /// Set if a look has come back since then, and has found no worker stuck.
    has_looked: bool,
    /// Set if the silence has been reported.
    is_silent: bool,
}

/// A change in what a person should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Signs of life are overdue.
    Begins {
        /// The time that is left.
        end_in: Duration,
    },
    /// They have come.
    Ends,
}

impl Watchdog {
    /// Creates it for a service manager that waits this long.
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, sent: now, has_looked: false, is_silent: false }
    }

    /// Notes that a look has come back.
    pub(super) fn looked(&mut self) {
        self.has_looked = true;
    }

    /// Returns `true` if a keep-alive has to be sent. Only the main loop asks, which proves that it is alive.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.has_looked && now.saturating_duration_since(self.sent) >= self.timeout / 4
    }

    /// Notes that a keep-alive was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
        self.has_looked = false;
    }

    /// Returns the change since the last call, if there is one to report.
    pub(super) fn silence(&mut self, now: Instant) -> Option<Silence> {
        let silent_for = now.saturating_duration_since(self.sent);
        let is_silent = silent_for >= self.timeout / 2;
        let was_silent = std::mem::replace(&mut self.is_silent, is_silent);
        match (was_silent, is_silent) {
            (false, true) => Some(Silence::Begins { end_in: self.timeout.saturating_sub(silent_for) }),
            (true, false) => Some(Silence::Ends),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn timeout_is_read_from_the_variables() {
        let text = |text: &str| Some(OsString::from(text));
        for (microseconds, watched, expected) in [
            (None, None, None),
            (text("30000000"), None, Some(TIMEOUT)),
            (text("30000000"), text("17"), Some(TIMEOUT)),
            (text("30000000"), text("18"), None),
            (text("30000000"), text(""), None),
            (text("30000000"), text("seventeen"), None),
            (text(""), None, None),
            (text("0"), None, None),
            (text("-1"), text("17"), None),
            (text("30s"), text("17"), None),
            (text("99999999999999999999999"), text("17"), None),
            (text("18446744073709551615"), text("17"), Some(Duration::from_micros(u64::MAX))),
        ] {
            assert_eq!(timeout(microseconds.clone(), watched.clone(), 17), expected, "{microseconds:?} {watched:?}");
        }
    }

    #[test]
    fn keep_alives_come_in_time_while_everything_is_alive() {
        for timeout in [SHORTEST, TIMEOUT] {
            let begun = Instant::now();
            let mut watchdog = Watchdog::new(timeout, begun);
            let mut last = begun;
            for second in 0..300 {
                let now = begun + Duration::from_secs(second);
                if second % 2 == 0 {
                    watchdog.looked();
                }
                if watchdog.is_due(now) {
                    watchdog.sent(now);
                    last = now;
                }
                assert!(now - last < timeout / 2 + Duration::from_secs(1), "{timeout:?}, at {second} s");
                assert_eq!(watchdog.silence(now), None);
            }
        }
    }

    #[test]
    fn nothing_is_sent_once_a_look_hangs_and_the_log_says_so_once() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(TIMEOUT, begun);
        watchdog.looked();
        let later = |seconds| begun + Duration::from_secs(seconds);
        assert!(!watchdog.is_due(later(7)));
        assert!(watchdog.is_due(later(8)));
        watchdog.sent(later(8));
        assert!((8..200).all(|second| !watchdog.is_due(later(second))));
        let said: Vec<_> = (8..200).filter_map(|second| Some((second, watchdog.silence(later(second))?))).collect();
        assert_eq!(said, [(23, Silence::Begins { end_in: Duration::from_secs(15) })]);
        watchdog.looked();
        assert!(watchdog.is_due(later(201)));
        watchdog.sent(later(201));
        assert_eq!(watchdog.silence(later(201)), Some(Silence::Ends));
    }
}
