//! The API server is gone, cut off, or will not have us. Machines boot on.

use std::time::Duration;

use anyhow::ensure;
use pxe_lab::{
    Artifacts,
    cluster::{Machine, VERSION, cluster},
};

use crate::fleet::{Fleet, SOON, knows};

fn fleet(machines: &[Machine]) -> anyhow::Result<Fleet> {
    let fleet = Fleet::new(24, Artifacts::stand_ins(&[VERSION], 50_000)?)?;
    fleet.api.apply(&cluster(machines))?;
    Ok(fleet)
}

/// Killed, back with the history gone (410 for old watches), and back again.
pub(crate) fn killed() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2), Machine::number(3)];
    let fleet = fleet(&machines[..1])?;
    let pxed = fleet.pxed(0)?;
    knows(&pxed, &machines[0])?;
    fleet.api.kill();
    fleet.boots(&machines[0])?;
    fleet.api.start_again()?;
    fleet.api.apply(&cluster(&machines[..2]))?;
    knows(&pxed, &machines[1])?;
    fleet.api.stop()?;
    fleet.boots(&machines[1])?;
    fleet.api.start_again()?;
    fleet.api.apply(&cluster(&machines[1..]))?;
    knows(&pxed, &machines[2])?;
    pxed.eventually("the machine is gone", SOON, |pxed| Ok(pxed.machine(&machines[0].mac).is_err()))?;
    fleet.boots(&machines[2])
}

/// Packets between the node and the server vanish.
pub(crate) fn partition() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2)];
    let fleet = fleet(&machines[..1])?;
    let pxed = fleet.pxed(0)?;
    knows(&pxed, &machines[0])?;
    fleet.api.partition(fleet.node(0))?;
    fleet.api.apply(&cluster(&machines))?;
    fleet.boots(&machines[0])?;
    ensure!(pxed.machine(&machines[1].mac).is_err(), "the node that is cut off knows the change");
    fleet.api.heal(fleet.node(0))?;
    pxed.eventually("the change is known", Duration::from_secs(120), |pxed| {
        Ok(pxed.machine(&machines[1].mac).is_ok())
    })?;
    fleet.boots(&machines[1])
}

/// A start without the server, from what the last run left on disk; and one whose token has ended.
pub(crate) fn start_without_it() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2)];
    let fleet = fleet(&machines[..1])?;
    let mut pxed = fleet.pxed(0)?;
    knows(&pxed, &machines[0])?;
    pxed.process.signal(nix::sys::signal::Signal::SIGTERM)?;
    pxed.process.wait(SOON)?;
    fleet.api.stop()?;
    pxed.start_again(fleet.artifacts.path(), &[])?;
    fleet.boots(&machines[0])?;

    fleet.api.start_again()?;
    fleet.account.set_token(&fleet.api.token(&fleet.account, Duration::ZERO)?)?;
    fleet.api.apply(&cluster(&machines))?;
    fleet.boots(&machines[0])?;
    fleet.account.set_token(&fleet.api.token(&fleet.account, Duration::from_secs(3600))?)?;
    pxed.eventually("the change is known", Duration::from_secs(120), |pxed| Ok(pxed.machine(&machines[1].mac).is_ok()))
}
