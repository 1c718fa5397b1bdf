//! A node that is killed while two hundred machines boot.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Process,
    cluster::{Machine, VERSION, cluster},
    kubernetes::Operator,
};

use crate::fleet::{Fleet, SOON, knows, values};

const FLEET: u8 = 200;

/// No boot fails, each machine boots once, and the machine that is held stays held.
pub(crate) fn one_node_is_killed() -> anyhow::Result<()> {
    let machine = |number: u8| Machine {
        mac: format!("52:54:00:99:00:{number:02x}"),
        // Up to .253: others have .254, .53 and what is below.
        address: format!("10.99.0.{}", 53 + u16::from(number)),
        ..Machine::number(1)
    };
    let mut machines: Vec<_> = (1..=FLEET).map(machine).collect();
    let held = machines.pop().context("a machine to hold")?;
    let all: Vec<_> = machines.iter().cloned().chain([held.clone()]).collect();
    let fleet = Fleet::new(24, Artifacts::stand_ins(&[VERSION], 200_000)?)?;
    fleet.api.apply(&cluster(&all))?;
    Operator::new(&fleet.api).reconcile("default", "lab")?;
    let name = format!("lab-{}", held.address);
    fleet.api.kubectl(&["annotate", "talosmachine", &name, "pxed.dev/boot-policy=hold"])?;
    let nodes = [fleet.pxed(0)?, fleet.pxed(1)?];
    for node in &nodes {
        node.eventually("the machine is held", SOON, |pxed| {
            Ok(pxed.machine(&held.mac).is_ok_and(|machine| machine.to_string().contains("hold")))
        })?;
        knows(node, &machines[0])?;
    }

    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), cluster(&machines))?;
    let spec = file.path().to_string_lossy().into_owned();
    let way = ["--arrival", "ramp", "--over-seconds", "10", "--limit-seconds", "120", "--cluster", &spec];
    let mut rehearsal = Process::spawn("rehearse", &mut fleet.rehearsal(&way)?)?;
    // In the middle: a tenth of the machines has its kernel, and most are still off.
    nodes[0].eventually("some machines have booted", SOON, |pxed| {
        let machines = pxed.machines()?;
        let booted = machines.as_array().into_iter().flatten().filter(|machine| machine["boots"] != 0).count();
        Ok(booted >= 20)
    })?;
    nodes[0].process.signal(Signal::SIGKILL)?;
    rehearsal.wait(Duration::from_secs(150))?;
    let output = rehearsal.output();

    let summary = values(&output, "summary").pop().context("no summary")?;
    ensure!(summary["booted"] == machines.len(), "{summary}");
    // One kernel each, from whichever node: none began again after it had booted.
    ensure!(summary["milestones"]["booted"]["count"] == machines.len(), "{summary}");
    let done = fleet.boot(&held, "10")?;
    ensure!(done["outcome"] != "booted" && nodes[1].machine(&held.mac)?["boots"] == 0, "the held machine: {done}");
    println!("the storm: {summary}");
    Ok(())
}
