//! Metrics, alerts and traces as those who read them understand them: promtool, and a collector of traces.

use std::{
    io::Write as _,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Pxed, build,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    requires, suite,
};

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("metrics_are_without_objection_in_either_format", metrics),
        suite::test("alerts_fire_when_they_should", alerts),
    ])
}

/// Those of a running pxed, in both formats.
fn metrics() -> anyhow::Result<()> {
    requires::tools(&["promtool", "curl"])?;
    let bridged = Bridged::new(SERVER_ADDRESS, 1)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1_000)?;
    let spec = cluster::cluster(&[Machine::number(1)]);
    let _pxed = Pxed::start(&bridged.server, &spec, artifacts.path(), &["--otlp-endpoint", "http://127.0.0.1:9"])?;
    let url = "http://127.0.0.1:8001/metrics";
    let get = |accept: &str| bridged.server.run("curl", &["--silent", "--include", "--header", accept, url]);
    let open = get("Accept: application/openmetrics-text; version=1.0.0")?;
    ensure!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    ensure!(open.trim_end().ends_with("# EOF"), "{open}");
    let plain = get("Accept: text/plain;version=0.0.4")?;
    ensure!(plain.contains("content-type: text/plain; version=0.0.4") && !plain.contains("# EOF"), "{plain}");
    let (_, text) = plain.split_once("\r\n\r\n").context("a body")?;
    for name in ["pxed_build_info{", "process_cpu_seconds_total ", "pxed_spec_valid{spec=\"cluster\"} 1"] {
        ensure!(text.contains(name), "{name} is not in {text}");
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn()?;
    promtool.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let told = promtool.wait_with_output()?;
    let objections = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    ensure!(told.status.success() && objections.trim().is_empty(), "{objections}");
    Ok(())
}

fn alerts() -> anyhow::Result<()> {
    requires::tools(&["promtool"])?;
    let directory = build::workspace().join("deploy/monitoring");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let told = Command::new("promtool").args(arguments).current_dir(&directory).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        ensure!(told.status.success(), "{arguments:?}: {text}");
    }
    Ok(())
}
