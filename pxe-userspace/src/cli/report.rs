//! `pxed report`: what is known of one machine, as one file for a bug report.

mod text;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use pxe_common::MacAddr;
use serde_json::Value;

use super::status::{client::AdminClient, place::Place};
use crate::{logging, named_file};
use text::Sources;

/// The arguments of `pxed report`.
///
/// The file is text (Markdown): the machine's place in the spec, its events and its diagnosis, the files that it boots, pxed's health, version, kernel,
/// interfaces and options, and, with --capture, a line for each frame of a capture. Secrets are removed: kernel arguments that are not known to be
/// harmless, tokens, passwords, keys and machine configurations. Read it before you send it. The capture itself holds secrets and is not in it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Machine of the spec by MAC address, host name or address; a stranger by MAC address
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// File to write; - is standard output [default: pxed-report-MAC.md]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Capture of pxed capture, of which each frame is described in a line
    #[arg(long, value_name = "FILE.pcapng")]
    capture: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Writes the report.
///
/// # Errors
///
/// If the admin API cannot be reached, has no such machine, or a file cannot be read or written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { machine, output, capture, place } = args;
    let client = place.client()?;
    let mac = mac_of(&client, &machine)?;
    let capture = capture.map(|path| read(&path)).transpose()?;
    let sources = Sources {
        machine: get(&client, &format!("/api/v1/machines/{mac}")),
        visitor: get(&client, &format!("/api/v1/visitors/{mac}")),
        strangers: get(&client, "/api/v1/strangers"),
        stages: get(&client, "/api/v1/stages"),
        health: get(&client, "/api/v1/health"),
        setup: get(&client, "/api/v1/setup"),
        images: get(&client, "/api/v1/images"),
        nodes: get(&client, "/api/v1/nodes"),
        spec_errors: get(&client, "/api/v1/spec/errors"),
        mac,
        now: jiff::Timestamp::now(),
        capture,
    };
    let spec = text::spec_file(&sources).and_then(|path| read(&path).ok());
    let configuration = text::configuration_file(&sources).and_then(|path| read(&path).ok());
    let report = text::report(&sources, spec.as_deref(), configuration.as_deref());
    let output = output.unwrap_or_else(|| format!("pxed-report-{}.md", mac.to_string().replace(':', "-")).into());
    if output.as_os_str() == "-" {
        // Nobody reads the rest of a closed pipe.
        return match io::stdout().write_all(report.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&output);
    options.and_then(|mut file| file.write_all(report.as_bytes())).with_context(|| output.display().to_string())?;
    logging::say(&format!("pxed: {} written; read it before you send it", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// Returns the MAC address of a machine that is named in any way.
fn mac_of(client: &AdminClient, text: &str) -> anyhow::Result<MacAddr> {
    if let Ok(mac) = text.parse() {
        return Ok(mac);
    }
    let machines: Vec<Value> =
        serde_json::from_str(&client.get("/api/v1/machines", &[])?).context("the answer is not pxed's")?;
    let is_address = text.parse::<Ipv4Addr>().is_ok();
    let field = if is_address { "address" } else { "hostname" };
    let named =
        machines.iter().filter(|machine| machine[field].as_str().is_some_and(|it| it.eq_ignore_ascii_case(text)));
    let macs: Vec<_> = named.filter_map(|machine| machine["mac"].as_str()).collect();
    match macs[..] {
        [mac] => mac.parse().context("the answer is not pxed's"),
        [] => bail!("{text} is neither a MAC address nor the host name or address of a machine of the spec"),
        _ => bail!("several machines have the host name {text}: name one of {}", macs.join(", ")),
    }
}

/// Returns an answer of the API, or the reason why there is none.
fn get(client: &AdminClient, path: &str) -> Result<Value, String> {
    let text = client.get(path, &[]).map_err(|error| format!("{error:#}"))?;
    serde_json::from_str(&text).map_err(|error| format!("the answer is not pxed's: {error}"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(named_file::read(path).with_context(|| path.display().to_string())?.0)
}

#[cfg(test)]
mod tests;
