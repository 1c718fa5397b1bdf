//! Two installations of pxed in one cluster, each with a namespace of its own.

use anyhow::ensure;
use pxe_lab::{
    Artifacts,
    cluster::{Machine, VERSION, cluster},
};

use crate::fleet::{Fleet, answers, boots, knows, living};

/// Each serves the machines of its own namespace, and neither sees the other's Leases.
pub(crate) fn two() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2)];
    let fleet = Fleet::new(24, Artifacts::stand_ins(&[VERSION], 50_000)?)?;
    let accounts = [fleet.account.clone(), fleet.api.pxed_account("pxed-b")?];
    for (number, namespace) in ["site-a", "site-b"].into_iter().enumerate() {
        fleet.api.kubectl(&["create", "namespace", namespace])?;
        let spec = cluster(&machines[number..=number]);
        fleet.api.apply(&spec.replacen("  name: lab\n", &format!("  name: lab\n  namespace: {namespace}\n"), 1))?;
    }
    let start = |number: usize, namespace: &str| fleet.pxed_as(number, &accounts[number], &["--namespace", namespace]);
    let nodes = [start(0, "site-a")?, start(1, "site-b")?];
    for (node, machine) in nodes.iter().zip(&machines) {
        knows(node, machine)?;
    }
    ensure!(nodes[0].machine(&machines[1].mac).is_err(), "the first one serves the second one's machine");
    for machine in &machines {
        fleet.boots(machine)?;
    }
    for (number, node) in nodes.iter().enumerate() {
        ensure!(living(node)?.is_empty(), "node {number} sees {:?}", living(node)?);
        ensure!(answers(node)?.left == 0.0, "node {number} left a question to the other installation");
        let count = boots(node)?;
        ensure!(
            count.len() == 1 && count[&machines[number].mac] == 1,
            "{count:?}: {}",
            node.machine(&machines[number].mac)?
        );
    }
    fleet.nothing_is_forbidden()
}
