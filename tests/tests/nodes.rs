//! Several pxed on one network, which share the machines.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Datapath, Pxed, build,
    cluster::{self, Machine, VERSION},
    suite::{self, DatapathTest},
    topology::INTERFACE,
};
use serde_json::Value;

/// The nodes' addresses. The second is a client's in the lab.
const NODES: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
const MACHINES: u8 = 60;

fn main() -> ExitCode {
    let shared: [DatapathTest; _] =
        [("machines_are_shared_and_survive_a_node", machines_are_shared_and_survive_a_node)];
    let others = [suite::test("mistakes_in_the_list_of_peers_are_named", mistakes_in_the_list_of_peers_are_named)];
    suite::main(others.into_iter().chain(suite::on_datapaths(&[Datapath::Xdp, Datapath::Socket], &shared)).collect())
}

/// Returns machines from `02:70:78:00:00:01` on, as `pxed rehearse --machines` creates them.
fn fleet() -> Vec<Machine> {
    let machine = |number| Machine { mac: format!("02:70:78:00:00:{number:02x}"), ..Machine::number(number) };
    (1..=MACHINES).map(machine).collect()
}

/// Boots the fleet from a client. Returns the summary.
fn boot(network: &Bridged, firmware: &str) -> anyhow::Result<Value> {
    let client = network.clients.last().context("a client")?;
    let mut command = client.command(build::pxed()?.path);
    command.args([
        "rehearse",
        "--interface",
        INTERFACE,
        "--json",
        "--progress",
        "quiet",
        "--hurry",
        "--limit-seconds",
        "60",
    ]);
    command.args(["--machines", &MACHINES.to_string(), "--firmware", firmware]);
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    let summary = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()?.get("summary").cloned());
    let summary = summary.with_context(|| format!("no summary: {}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(summary["booted"] == MACHINES, "not all booted: {summary}");
    Ok(summary)
}

fn machines_are_shared_and_survive_a_node(datapath: Datapath) -> anyhow::Result<()> {
    let network = Bridged::new("10.99.0.1/24", 2)?;
    let other = &network.clients[0];
    other.ip(&["address", "add", "10.99.0.2/24", "dev", INTERFACE])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 50_000)?;
    let spec = cluster::cluster(&fleet());
    let specs = [spec.clone(), spec.replace("address: 10.99.0.1\n", "address: 10.99.0.2\n")];
    let options = [&datapath.arguments()[..], &["--machine-rate", "0", "--peers", NODES[0], NODES[1]]].concat();
    let mut first = Pxed::start(&network.server, &specs[0], artifacts.path(), &options)?;
    let second = Pxed::start(other, &specs[1], artifacts.path(), &options)?;

    // Every first question has one answer.
    let summary = boot(&network, "uefi-x64,bios,http-x64,ipxe")?;
    ensure!(summary["retransmissions"].as_object().is_none_or(|again| !again.contains_key("discover")), "{summary}");
    let counts = |pxed: &Pxed<'_>| -> anyhow::Result<[f64; 4]> {
        let metrics = pxed.metrics()?;
        let silences = |reason| metrics.sum("pxed_dhcp_silences_total", &[&format!("reason=\"{reason}\"")]);
        Ok([
            metrics.sum("pxed_dhcp_replies_total", &["message=\"offer\""]),
            silences("left_to_peer"),
            silences("chose_peer"),
            silences("other_server"),
        ])
    };
    let (one, two) = (counts(&first)?, counts(&second)?);
    let sent = summary["traffic"]["dhcp"]["sent_frames"].as_f64().context("a number")?;
    // Firmware, iPXE and the system that they boot ask once each; one machine in four has iPXE in its ROM.
    let discovers = f64::from(MACHINES) * 11.0 / 4.0;
    ensure!(one[0] + two[0] == discovers, "{one:?} and {two:?} of {discovers}");
    ensure!(one[1] == two[0] && two[1] == one[0], "each is silent where the other answers: {one:?}, {two:?}");
    ensure!(one[0] > discovers / 5.0 && two[0] > discovers / 5.0, "the machines are not shared: {one:?}, {two:?}");
    ensure!(one[2] + two[2] == sent - discovers && one[3] + two[3] == 0.0, "{one:?} and {two:?} of {sent}");

    // Each knows which machines are the other's, and moves none of them.
    let all: Vec<Value> = serde_json::from_str(&first.admin("/api/v1/machines")?)?;
    let waiting = all.iter().filter(|machine| machine["stage"] == "never-seen").count();
    ensure!(waiting > 0 && waiting < all.len(), "{waiting} of {} wait", all.len());
    let theirs = all.iter().find(|machine| machine["stage"] == "never-seen").context("one")?;
    let explained = first.machine(theirs["mac"].as_str().context("a MAC")?)?;
    let reached = explained["diagnosis"]["reached"].as_str().context("a sentence")?;
    ensure!(reached.contains("chose the offer of the pxed at 10.99.0.2"), "{reached}");
    let nodes: Value = serde_json::from_str(&first.admin("/api/v1/nodes")?)?;
    ensure!(nodes["known_by"] == "by-hand" && nodes["nodes"][1]["name"] == NODES[1], "{nodes}");

    // One dies without a word. Those whom it would answer, and those who ask it, ask again once.
    first.process.signal(Signal::SIGKILL)?;
    first.process.wait(Duration::from_secs(5))?;
    let summary = boot(&network, "uefi-x64")?;
    let again = summary["retransmissions"]["discover"].as_u64().unwrap_or_default();
    ensure!(again > 0 && again <= u64::from(MACHINES), "{again} questions were repeated: {summary}");
    Ok(())
}

fn mistakes_in_the_list_of_peers_are_named() -> anyhow::Result<()> {
    let network = Bridged::new("10.99.0.1/24", 0)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1_000)?;
    let spec = cluster::cluster(&fleet());
    for (peers, message) in [
        (&["10.99.0.2", "10.99.0.2"][..], "--peers 10.99.0.2: it is in the list twice"),
        (&["127.0.0.1"], "--peers 127.0.0.1: this cannot be the address of another host"),
        (&["node-b"], "invalid value 'node-b' for '--peers"),
    ] {
        let options = [&["--peers"], peers].concat();
        let mut pxed = Pxed::launch(&network.server, &spec, artifacts.path(), &options)?;
        let status = pxed.process.wait(Duration::from_secs(10))?;
        ensure!(!status.success(), "{peers:?} was accepted");
        ensure!(pxed.process.output().contains(message), "{}", pxed.process.output());
    }
    // A list with nothing but this host's own address is that of a node alone.
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &["--peers", "10.99.0.1"])?;
    let nodes: Value = serde_json::from_str(&pxed.admin("/api/v1/nodes")?)?;
    ensure!(nodes["nodes"].as_array().map(Vec::len) == Some(1), "{nodes}");
    Ok(())
}
