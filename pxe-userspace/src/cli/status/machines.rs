//! The machines of `GET /api/v1/machines`, with what the command line asks about them.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::colour::Tone;
use crate::{cli::shown::Shown, journal::Stage};

/// A machine on its way that has not moved on for this time counts as stuck, if pxed itself does not say so.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// The fields of a machine that are shown.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) mac: Shown,
    #[serde(default)]
    pub(super) additional_macs: Vec<Shown>,
    pub(super) address: Shown,
    pub(super) hostname: Option<Shown>,
    pub(super) cluster: Shown,
    pub(super) role: Shown,
    pub(super) architecture: Shown,
    pub(super) version: Shown,
    pub(super) policy: Shown,
    pub(super) boots_from: Shown,
    pub(super) stage: Shown,
    pub(super) stage_since: Timestamp,
    pub(super) boots: u32,
    pub(super) last_error: Option<Shown>,
    /// Absent from an older pxed.
    pub(super) stuck: Option<bool>,
    /// The transfer that is under way.
    pub(super) progress: Option<Progress>,
}

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Progress {
    pub(super) artifact: Shown,
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

impl Progress {
    /// Returns the share that has arrived, in percent. `None` if the length is unknown.
    pub(super) fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|&total| total > 0)?;
        Some(u64::try_from(u128::from(self.done.min(total)) * 100 / u128::from(total)).unwrap_or(100))
    }
}

/// The state of a machine as far as a person cares first. In the order in which machines are worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Failed,
    Stuck,
    /// On its way.
    Busy,
    /// It has sent nothing yet.
    Unseen,
    /// It runs, from the network or from its disk.
    Good,
}

impl State {
    pub(super) const fn tone(self) -> Tone {
        match self {
            Self::Failed => Tone::Bad,
            Self::Stuck => Tone::Warning,
            Self::Busy => Tone::Busy,
            Self::Unseen => Tone::Faint,
            Self::Good => Tone::Good,
        }
    }
}

impl Machine {
    /// Returns the stage, unless a later pxed has more of them.
    pub(super) fn known_stage(&self) -> Option<Stage> {
        self.stage.parse().ok()
    }

    /// Returns the state of the machine.
    pub(super) fn state(&self, now: Timestamp) -> State {
        let stuck = || self.stuck.unwrap_or_else(|| now.duration_since(self.stage_since) > STUCK_AFTER);
        match self.known_stage() {
            Some(Stage::Failed) => State::Failed,
            Some(Stage::NeverSeen) => State::Unseen,
            Some(Stage::Running) if self.stuck == Some(true) => State::Stuck,
            Some(Stage::Running | Stage::Up | Stage::OnDisk | Stage::SentToDisk) => State::Good,
            Some(_) | None if stuck() => State::Stuck,
            Some(_) | None => State::Busy,
        }
    }

    /// Returns the hardware addresses of all its network cards.
    pub(super) fn all_macs(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.mac).chain(self.additional_macs.iter().map(|mac| &**mac))
    }

    /// Returns the names by which people know it: MAC address, host name and IP address.
    pub(super) fn title(&self) -> String {
        match &self.hostname {
            Some(name) => format!("{} ({name}, {})", self.mac, self.address),
            None => format!("{} ({})", self.mac, self.address),
        }
    }
}

/// A machine and the JSON that it was read from.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    pub(super) machine: Machine,
    pub(super) json: &'a str,
}

/// Reads a list of machines.
pub(super) fn read(json: &str) -> anyhow::Result<Vec<Listed<'_>>> {
    let listed = |json: &'_ RawValue| -> serde_json::Result<Machine> { serde_json::from_str(json.get()) };
    let machines: Vec<&RawValue> = serde_json::from_str(json).context("the answer is not pxed's")?;
    machines
        .into_iter()
        .map(|json| Ok(Listed { machine: listed(json).context("the answer is not pxed's")?, json: json.get() }))
        .collect()
}
