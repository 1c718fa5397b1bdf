//! The API as its description says it is: schemathesis makes requests of the description that pxed serves, valid and invalid ones, and compares
//! the answers with it.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    python, suite,
};

/// The time that schemathesis has for its requests, in seconds.
const SECONDS: &str = "15";

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn main() -> ExitCode {
    suite::main(vec![suite::test("answers_of_the_api_are_as_described", answers)])
}

/// Those of a reader without a token, and those of somebody who may change things.
fn answers() -> anyhow::Result<()> {
    let schemathesis = python::interpreter()?.with_file_name("schemathesis");
    let bridged = Bridged::new(SERVER_ADDRESS, 1)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1_000)?;
    let machines: Vec<_> = (1..=5).map(Machine::number).collect();
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), TOKEN)?;
    let token = token.path().to_str().context("a path")?;
    let pxed = Pxed::start(&bridged.server, &cluster::cluster(&machines), artifacts.path(), &["--admin-token", token])?;
    let output = tempfile::tempdir()?;
    for authorization in [None, Some(format!("Authorization: Bearer {TOKEN}"))] {
        let run = bridged.server.enter(|| {
            let mut command = Command::new(&schemathesis);
            command.current_dir(output.path()).args(["run", "http://127.0.0.1:8001/api/v1/openapi.json"]);
            command.args(["--checks", "all", "--max-time", SECONDS, "--no-shrink", "--seed", "1", "--warnings", "off"]);
            command.args(["--max-response-time", "5", "--request-timeout", "10", "--suppress-health-check", "all"]);
            if let Some(authorization) = &authorization {
                command.args(["--header", authorization, "--header", "Content-Type: application/json"]);
            }
            command.output()
        })??;
        let told = String::from_utf8_lossy(&run.stdout);
        ensure!(run.status.success(), "{authorization:?}: {told}{}", String::from_utf8_lossy(&run.stderr));
    }
    pxed.eventually("an answer", Duration::from_secs(5), |pxed| Ok(pxed.admin("/healthz")? == "ok\n"))
}
