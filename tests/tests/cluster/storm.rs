//! A node that is killed while two hundred machines boot.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Process,
    cluster::{Machine, VERSION, cluster},
    kubernetes::Operator,
};

use crate::fleet::{Fleet, SOON, answers, boots, knows, meet, repeated_questions, sees, values};

const FLEET: u8 = 200;
/// The machines that boot before the storm, while both nodes live.
const EARLY: u8 = 20;

/// No boot fails, each machine boots once, and the machine that is held stays held. Before that each first question has one answer.
pub(crate) fn one_node_is_killed() -> anyhow::Result<()> {
    let machine = |number: u8| Machine {
        mac: format!("52:54:00:99:00:{number:02x}"),
        // Up to .253: others have .254, .53 and what is below.
        address: format!("10.99.0.{}", 53 + u16::from(number)),
        ..Machine::number(1)
    };
    let mut machines: Vec<_> = (1..=FLEET).map(machine).collect();
    let held = machines.pop().context("a machine to hold")?;
    // From .3 on.
    let early = |number: u8| Machine { address: format!("10.99.0.{}", number - FLEET + 2), ..machine(number) };
    let early: Vec<_> = (FLEET + 1..=FLEET + EARLY).map(early).collect();
    let all: Vec<_> = machines.iter().chain([&held]).chain(&early).cloned().collect();
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
    meet(&nodes)?;
    fleet.shares(&nodes, &early)?;

    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), cluster(&machines))?;
    let spec = file.path().to_string_lossy().into_owned();
    let way = [
        "--arrival",
        "ramp",
        "--over-seconds",
        "10",
        "--limit-seconds",
        "120",
        "--progress",
        "done",
        "--cluster",
        &spec,
    ];
    let mut rehearsal = Process::spawn("rehearse", &mut fleet.rehearsal(&way)?)?;
    // In the middle: a tenth of the machines has its kernel, and most are still off.
    let mut counts = [boots(&nodes[0])?, boots(&nodes[1])?];
    nodes[0].eventually("some machines have booted", SOON, |_| {
        counts = [boots(&nodes[0])?, boots(&nodes[1])?];
        let booted = |machine: &&Machine| counts.iter().any(|count| count[&machine.mac] != 0);
        Ok(machines.iter().filter(booted).count() >= 20)
    })?;
    nodes[0].process.signal(Signal::SIGKILL)?;
    rehearsal.wait(Duration::from_secs(150))?;
    let output = rehearsal.output();

    let summary = values(&output, "summary").pop().context("no summary")?;
    // A transfer from the dead node breaks off with it: the script follows the other node, or the firmware boots again.
    let done = values(&output, "done");
    let failed: Vec<_> = done.iter().filter(|machine| machine["outcome"] != "booted").collect();
    ensure!(done.len() == machines.len() && failed.is_empty(), "{failed:?}: {summary}");
    // One kernel each, from whichever node: none began again after it had booted.
    ensure!(summary["milestones"]["booted"]["count"] == machines.len(), "{summary}");
    // Those of the dead node asked again, and did so once.
    let repeated = repeated_questions(&summary);
    ensure!(repeated > 0 && repeated <= machines.len() as u64, "{repeated} questions were repeated: {summary}");
    // The journal is a moment behind the last boot.
    nodes[1].eventually("each machine has booted once", SOON, |pxed| {
        let now = boots(pxed)?;
        let of = |machine: &Machine| (counts[0][&machine.mac], now[&machine.mac]);
        if let Some(twice) = machines.iter().find(|machine| of(machine).0 + of(machine).1 > 1) {
            anyhow::bail!("{} has booted twice: {:?}: {}", twice.mac, of(twice), pxed.machine(&twice.mac)?);
        }
        // What the dead node gave after the last look at it is lost with it.
        Ok(machines.iter().filter(|machine| of(machine).1 == 1).count() >= machines.len() / 2)
    })?;
    let done = fleet.boot(&held, "10")?;
    ensure!(done["outcome"] != "booted" && boots(&nodes[1])?[&held.mac] == 0, "the held machine: {done}");

    // Once its Lease has ended, the machines of the dead node have their answer at once.
    sees(&nodes[1], &[], SOON)?;
    let late = answers(&nodes[1])?;
    let again = fleet.boot_all(&early)?;
    ensure!(repeated_questions(&again) == 0, "questions were repeated: {again}");
    ensure!(answers(&nodes[1])?.left == late.left, "the only node leaves questions to a dead one");
    fleet.nothing_is_forbidden()?;
    println!("the storm: {summary}");
    Ok(())
}
