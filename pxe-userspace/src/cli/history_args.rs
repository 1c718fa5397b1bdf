//! The options about the history on disk.

use std::time::Duration;

use serde::Deserialize;

use crate::model::history_limits::HistoryLimits;

const DAY: Duration = Duration::from_secs(86_400);
const MEBIBYTES: u32 = 64;
const DAYS: u32 = 30;

/// The options about the history on disk.
#[derive(Clone, Copy, Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct HistoryArgs {
    /// Size in MiB of the history of boot events below the state directory, from which pxed knows after a restart what machines did; 0 keeps
    /// none [default: 64]
    #[arg(long, env = "PXED_HISTORY_SIZE", value_name = "MEBIBYTES")]
    history_size: Option<u32>,
    /// Days after which the history forgets events; 0 sets no limit [default: 30]
    #[arg(long, env = "PXED_HISTORY_DAYS", value_name = "DAYS")]
    history_days: Option<u32>,
}

impl HistoryArgs {
    /// Returns the limits in force, given those of the `--config` file; `None` if no history is kept.
    pub(super) fn over(self, file: Self) -> Option<HistoryLimits> {
        let mebibytes = self.history_size.or(file.history_size).unwrap_or(MEBIBYTES);
        let age = match self.history_days.or(file.history_days).unwrap_or(DAYS) {
            0 => Duration::MAX,
            days => DAY.saturating_mul(days),
        };
        (mebibytes > 0).then(|| HistoryLimits { bytes: u64::from(mebibytes) << 20, age })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_keeps_no_history_or_every_day() {
        let limits = |size, days| {
            let file = HistoryArgs { history_size: Some(7), history_days: None };
            HistoryArgs { history_size: size, history_days: days }.over(file)
        };
        assert_eq!(limits(None, None), Some(HistoryLimits { bytes: 7 << 20, age: DAY * 30 }));
        assert_eq!(limits(Some(1), Some(0)), Some(HistoryLimits { bytes: 1 << 20, age: Duration::MAX }));
        assert_eq!(limits(Some(0), Some(1)), None);
    }
}
