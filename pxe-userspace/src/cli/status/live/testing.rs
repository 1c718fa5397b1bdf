//! Machines for the tests of the live view.

use jiff::Timestamp;

use crate::cli::status::machines::Machine;

/// Returns a machine at this stage since then.
pub(super) fn machine(number: u32, stage: &str, since: Timestamp) -> Machine {
    let [_, _, high, low] = number.to_be_bytes();
    let json = serde_json::json!({
        "mac": format!("52:54:00:00:{high:02x}:{low:02x}"), "address": format!("10.0.{high}.{low}"),
        "cluster": if number.is_multiple_of(3) { "prod" } else { "lab" }, "role": "worker", "architecture": "amd64",
        "version": "v1.13.0", "policy": "auto", "boots_from": "network", "stage": stage, "stage_since": since.to_string(),
        "boots": 1, "last_error": (stage == "failed").then_some("kernel failed: \u{1b}[2J timed out"),
        "hostname": (number.is_multiple_of(2)).then(|| format!("n{number}")),
    });
    serde_json::from_value(json).unwrap()
}
