//! `pxed rehearse` as the load generator: a fleet on the client's interface, and its report.

use std::process::Command;

use anyhow::{Context, bail};
use pxe_lab::{Namespace, build};
use serde_json::Value;

use super::lab::{FIRST_MAC, INTERFACE};

/// Boots this number of machines against any server that answers, and returns the summary.
///
/// # Errors
///
/// Fails if rehearse cannot run. Failed machines are in the summary.
pub(crate) fn boot(client: &Namespace, machines: u32, arguments: &[&str]) -> anyhow::Result<Value> {
    report(command(client, machines)?.args(["--progress", "quiet"]).args(arguments), "summary")
}

/// Lets this number of machines take turns with DHCP exchanges, and returns the summary.
///
/// # Errors
///
/// Fails like [`boot`].
pub(crate) fn load(client: &Namespace, machines: u32, arguments: &[&str]) -> anyhow::Result<Value> {
    report(command(client, machines)?.args(arguments), "load")
}

fn command(client: &Namespace, machines: u32) -> anyhow::Result<Command> {
    let mac = FIRST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let mut command = client.command(build::pxed()?.path);
    command.args(["rehearse", "--json", "--interface", INTERFACE]);
    command.args(["--first-mac", &mac, "--machines", &machines.to_string()]);
    Ok(command)
}

fn report(command: &mut Command, kind: &str) -> anyhow::Result<Value> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let Some(found) = value.get_mut(kind) {
            return Ok(found.take());
        }
    }
    bail!("pxed rehearse: no {kind}: {}", String::from_utf8_lossy(&output.stderr))
}

/// Returns a number of a report by its path of keys, or `None` if it is absent.
pub(crate) fn figure(report: &Value, path: &[&str]) -> Option<f64> {
    path.iter().try_fold(report, |value, key| value.get(key))?.as_f64()
}
