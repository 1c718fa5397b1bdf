//! The lines of the log that one machine may cause.

use std::time::SystemTime;

/// The number of lines that a machine may log at once, and per second after that.
const BURST: u8 = 64;
const REFILL_PER_SECOND: u64 = 2;

/// The token bucket of one machine.
#[derive(Debug)]
pub(super) struct LogBudget {
    tokens: u8,
    /// In seconds since 1970.
    refilled: u32,
    suppressed: u32,
}

/// The decision whether an event is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logging {
    /// It is logged. `suppressed` events before it were not.
    Line { suppressed: u32 },
    /// The machine sends too many events.
    Suppressed,
}

impl Default for LogBudget {
    fn default() -> Self {
        Self { tokens: BURST, refilled: 0, suppressed: 0 }
    }
}

impl LogBudget {
    /// Takes a token from the bucket of the machine, so that one machine cannot fill the log.
    pub(super) fn take(&mut self, at: SystemTime) -> Logging {
        let now = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        // The clock may have been set back. Nothing is earned for that, and nothing is waited for either.
        self.refilled = self.refilled.min(now);
        let earned = u64::from(now - self.refilled) * REFILL_PER_SECOND;
        if earned > 0 {
            let tokens = u64::from(self.tokens) + earned;
            self.tokens = u8::try_from(tokens).map_or(BURST, |tokens| tokens.min(BURST));
            self.refilled = now;
        }
        match self.tokens.checked_sub(1) {
            Some(tokens) => {
                self.tokens = tokens;
                Logging::Line { suppressed: std::mem::take(&mut self.suppressed) }
            }
            None => {
                self.suppressed = self.suppressed.saturating_add(1);
                Logging::Suppressed
            }
        }
    }
}
