//! Refused requests in the log, at a bounded rate.

use std::{
    net::SocketAddrV4,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use pxe_common::MacAddr;

/// The time between two lines; refusals in between are counted.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time of the last line, and the number of refusals held back since.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    state: Mutex<Option<(Instant, u64)>>,
}

impl RefusalLog {
    /// Logs a refused request, or counts it for the next line.
    pub(super) fn log(&self, client: SocketAddrV4, machine: Option<MacAddr>, path: &str, reason: &str) {
        let Some(held_back) = self.admit(Instant::now()) else { return };
        let machine = machine.map(tracing::field::display);
        tracing::info!(%client, machine, path = %path.escape_debug(), reason, held_back, "TFTP request refused");
    }

    /// Returns the number of refusals held back, if a line may be written now.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            Some((last, held_back)) if now.saturating_duration_since(*last) < INTERVAL => {
                *held_back += 1;
                None
            }
            state => state.replace((now, 0)).map(|(_, held_back)| held_back).or(Some(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_a_second_counts_the_others() {
        let log = RefusalLog::default();
        let start = Instant::now();
        let admitted: Vec<_> = (0..25).map(|tenth| log.admit(start + Duration::from_millis(100) * tenth)).collect();
        let lines: Vec<_> =
            admitted.into_iter().enumerate().filter_map(|(at, line)| line.map(|line| (at, line))).collect();
        assert_eq!(lines, [(0, 0), (10, 9), (20, 9)]);
    }
}
