//! A machine as the dashboard's stream writes it: arrays, since a fleet has ten thousand of them.

use std::{
    hash::{DefaultHasher, Hasher as _},
    time::SystemTime,
};

use serde::Serialize;

use crate::journal::{MachineRecord, Stage, Step};

/// A stage with what the page needs to know of it.
#[derive(Debug, Serialize)]
pub(super) struct StageJson {
    name: &'static str,
    /// The step of the boot that people see first.
    step: Step,
}

/// Returns all stages. Rows have the index of theirs.
pub(super) fn stages() -> Vec<StageJson> {
    let of = |stage: Stage| StageJson { name: stage.name(), step: stage.step() };
    Stage::ALL.into_iter().map(of).collect()
}

/// Returns the milliseconds since the Unix epoch.
pub(super) fn millis(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// Writes what the spec says of a machine: its MAC addresses, address, host name, cluster, role, architecture and version.
pub(super) fn write_machine(text: &mut Vec<u8>, record: &MachineRecord) {
    let machine = &record.machine;
    let macs: Vec<_> = machine.macs().map(|mac| mac.to_string()).collect();
    let row = (
        macs,
        machine.address,
        machine.hostname.as_deref(),
        &*machine.cluster,
        machine.role,
        machine.architecture,
        &*machine.version,
    );
    // The values are text and numbers, and the buffer takes whatever is written: it cannot fail.
    let _ = serde_json::to_writer(text, &row);
}

/// Writes what changes of a machine: the index of its stage, the time since when, its boots, policy, next boot and last error, and the
/// time at which it is stuck. Returns the hash of that.
pub(super) fn write_state(text: &mut Vec<u8>, record: &MachineRecord, now: SystemTime) -> u64 {
    let begin = text.len();
    let index = Stage::ALL.iter().position(|stage| *stage == record.stage).unwrap_or_default();
    let row = (
        index,
        millis(record.stage_since),
        record.boots,
        record.policy,
        record.boots_from,
        record.last_error.as_ref().map(|(_, error)| &**error),
        record.stuck_at(now).map(millis),
    );
    let _ = serde_json::to_writer(&mut *text, &row);
    let mut hasher = DefaultHasher::new();
    hasher.write(&text[begin..]);
    hasher.finish()
}
