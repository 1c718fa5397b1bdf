//! A TalosCluster that kubectl created boots machines, and changes while they boot.

use anyhow::ensure;
use pxe_lab::{
    Artifacts, Process,
    cluster::{Machine, VERSION, cluster},
};

use crate::fleet::{Fleet, SOON, knows};

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
