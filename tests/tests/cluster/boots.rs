//! A TalosCluster that kubectl created boots machines, and changes while they boot.

use anyhow::ensure;
use pxe_lab::{
    Artifacts, Firmware, Guest, Process,
    assets::{Architecture, Edition},
    cluster::{Machine, VERSION, cluster},
    guest::PC_KERNEL_ARGS,
    kubernetes::Operator,
    suite,
};

use crate::fleet::{Fleet, SOON, answers, boots, knows, meet};

/// A machine that loads when its object is deleted, and another one that appears.
pub(crate) fn deleted_while_it_loads() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2)];
    let fleet = Fleet::new(24, Artifacts::stand_ins(&[VERSION], 20_000_000)?)?;
    fleet.api.apply(&cluster(&machines))?;
    let pxed = fleet.pxed(0)?;
    knows(&pxed, &machines[0])?;
    let arguments = ["--firmware", "uefi-x64", "--limit-seconds", "10", "--mac", &machines[0].mac];
    let mut rehearsal = Process::spawn("rehearse", &mut fleet.rehearsal(&arguments)?)?;
    pxed.eventually("the machine loads its kernel", SOON, |pxed| {
        Ok(pxed.machine(&machines[0].mac)?.to_string().contains("\"script\""))
    })?;
    fleet.api.apply(&cluster(&machines[1..]))?;
    pxed.eventually("the machine is gone", SOON, |pxed| Ok(pxed.machine(&machines[0].mac).is_err()))?;
    // It ends in the one way or the other, and the next one boots.
    rehearsal.wait(SOON)?;
    let refused = fleet.boot(&machines[0], "5")?;
    ensure!(refused["outcome"] != "booted", "a deleted machine boots: {refused}");
    fleet.boots(&machines[1])
}

/// A simulated machine, then one with real firmware, through two nodes.
pub(crate) fn through_two_nodes() -> anyhow::Result<()> {
    let real = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(2) };
    let machines = [Machine::number(1), real];
    let fleet = Fleet::new(24, Artifacts::lay_out(Edition::Installed, &[(VERSION, Architecture::Amd64)])?)?;
    fleet.api.apply(&cluster(&machines))?;
    let names = Operator::new(&fleet.api).reconcile("default", "lab")?;
    let nodes = [fleet.pxed(0)?, fleet.pxed(1)?];
    for node in &nodes {
        knows(node, &machines[1])?;
    }
    meet(&nodes)?;
    fleet.boots(&machines[0])?;

    let guest = Guest::power_on(&fleet.network, Firmware::UefiX64(Edition::Installed), &machines[1].mac)?;
    let logs = || nodes.each_ref().map(|node| node.process.last_lines()).join("\n");
    let report = guest.report().map_err(|error| error.context(logs()))?;
    ensure!(report.mac == machines[1].mac, "{report:?}");
    ensure!(report.interface == format!("{}/24", machines[1].address), "{report:?}");

    for (machine, name) in machines.iter().zip(&names) {
        let counts = [boots(&nodes[0])?[&machine.mac], boots(&nodes[1])?[&machine.mac]];
        ensure!(counts == [0, 1] || counts == [1, 0], "{} has booted {counts:?} times: {}", machine.mac, logs());
        suite::eventually("the condition is True", SOON, || {
            let object = fleet.api.get("talosmachine", "default", name)?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|condition| condition["type"] == "PxeBooted" && condition["status"] == "True"))
        })?;
    }
    // One node answered each first question, and the other one left it.
    let [one, two] = [answers(&nodes[0])?, answers(&nodes[1])?];
    ensure!(one.left == two.offers && two.left == one.offers, "{one:?}, {two:?}");
    fleet.nothing_is_forbidden()
}
