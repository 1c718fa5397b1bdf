//! Reports to the API what happened to machines and clusters, and reads there what other nodes know.
//!
//! ```text
//! journal, objects, nodes, files ─ reporter ─► writes ─ task ─► API server
//!              person ─ decisions ─┘   ▲                  │
//!                                      └── what became of ┘
//! ```

mod decisions;
mod entry;
mod index;
mod mistakes;
mod reporter;
mod task;
mod wait;
mod write;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use pxe_common::MacAddr;
use tokio::task::JoinHandle;

pub(in crate::daemon) use self::reporter::World;
use self::{
    decisions::Decisions,
    task::{StatusMetrics, report},
};
use crate::{
    admin::{ClusterPolicy, Decision},
    journal::{Journal, MachineRecord},
    kubernetes::ApiServer,
    model::policy::BootPolicy,
};

/// The longest time that a release waits until the spec has no annotation any more.
const IN_FORCE: Duration = Duration::from_secs(2);

/// Begins to report. Returns the way for a person's decisions, and the task.
pub(super) fn start(world: World, server: Arc<ApiServer>, registry: &mut Registry) -> (ClusterPolicy, JoinHandle<()>) {
    let metrics = StatusMetrics::default();
    registry.register_collector(Box::new(metrics.clone()));
    let (decisions, receiver) = Decisions::channel();
    let journal = Arc::clone(&world.journal);
    let task = tokio::spawn(report(world, server, receiver, metrics));
    let policy = ClusterPolicy::new(move |mac, decision| carry(decisions.clone(), Arc::clone(&journal), mac, decision));
    (policy, task)
}

/// Carries a decision into the API, and waits until it is in force here.
async fn carry(decisions: Decisions, journal: Arc<Journal>, mac: MacAddr, decision: Decision) -> Vec<String> {
    let mut notes = decisions.carry(mac, decision == Decision::Hold).await;
    if decision == Decision::Release && is_held(&journal, mac) {
        let freed = async {
            let mut look = tokio::time::interval(Duration::from_millis(10));
            while is_held(&journal, mac) {
                look.tick().await;
            }
        };
        if tokio::time::timeout(IN_FORCE, freed).await.is_err() {
            notes.push(
                "it is still held by the spec: see the annotations of its TalosMachine, its role and its cluster"
                    .to_owned(),
            );
        }
    }
    notes
}

fn is_held(journal: &Journal, mac: MacAddr) -> bool {
    let record = journal.machine(mac);
    record.is_some_and(|MachineRecord { machine, .. }| machine.policy == BootPolicy::Hold)
}
