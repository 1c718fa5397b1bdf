//! The API server is gone, cut off, or will not have us. Machines boot on.

use std::time::Duration;

use anyhow::ensure;
use pxe_lab::{
    Artifacts,
    cluster::{Machine, VERSION, cluster},
};

use crate::fleet::{Fleet, SOON, answers, knows, living, meet, nodes_as_seen, repeated_questions, sees};

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

/// Of two nodes, one does not reach the server. It serves on with the nodes as they were, and the other one answers its machines, too.
pub(crate) fn partition_of_one_of_two() -> anyhow::Result<()> {
    let machines: Vec<_> = (1..=60).map(Machine::number).collect();
    let (before, meanwhile, after) = (&machines[..20], &machines[20..40], &machines[40..]);
    let fleet = fleet(&machines)?;
    let nodes = [fleet.pxed(0)?, fleet.pxed(1)?];
    for node in &nodes {
        knows(node, &machines[0])?;
    }
    meet(&nodes)?;
    fleet.shares(&nodes, before)?;
    let owned = |node: usize| anyhow::Ok(nodes_as_seen(&nodes[node])?["nodes"][0]["machines"].clone());
    let share = owned(1)?;

    fleet.api.partition(fleet.node(1))?;
    sees(&nodes[0], &[], SOON)?;
    ensure!(owned(0)? == machines.len(), "the node owns {} machines", owned(0)?);
    nodes[1].eventually("the other one says that it does not reach the server", SOON, |node| {
        Ok(nodes_as_seen(node)?["trouble"].is_string())
    })?;
    ensure!(living(&nodes[1])? == ["node-0"] && owned(1)? == share, "{}", nodes_as_seen(&nodes[1])?);
    let (one, two) = (answers(&nodes[0])?, answers(&nodes[1])?);
    let summary = fleet.boot_all(meanwhile)?;
    ensure!(repeated_questions(&summary) == 0, "questions were repeated: {summary}");
    let questions = 3.0 * meanwhile.len() as f64;
    let (one, two) = (answers(&nodes[0])?.since(one), answers(&nodes[1])?.since(two));
    ensure!(one.offers == questions && one.left == 0.0, "the node answers all: {one:?} of {questions}");
    ensure!(two.offers + two.left == questions && two.left > 0.0, "the other one answers its own: {two:?}");

    fleet.api.heal(fleet.node(1))?;
    sees(&nodes[0], &["node-1"], Duration::from_secs(60))?;
    nodes[1].eventually("it reaches the server", Duration::from_secs(60), |node| {
        Ok(nodes_as_seen(node)?.get("trouble").is_none())
    })?;
    ensure!(living(&nodes[1])? == ["node-0"] && owned(1)? == share, "{}", nodes_as_seen(&nodes[1])?);
    fleet.shares(&nodes, after)?;
    fleet.nothing_is_forbidden()
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
