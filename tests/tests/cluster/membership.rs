//! The nodes of a cluster know of each other by their Leases.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{Machine, VERSION, cluster},
    kubernetes::ApiServer,
    topology::INTERFACE,
};

use crate::fleet::sees;

/// The time until a node that ended in order is gone for the others, and until one that was killed is.
const AT_ONCE: Duration = Duration::from_secs(8);
const WITHIN_ITS_LEASE: Duration = Duration::from_secs(25);

/// Two nodes see each other; one ends in order, one is killed; the API server goes away, and a node starts without it; Leases with
/// garbage, and deleted ones.
pub(crate) fn membership() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    api.define_resources()?;
    let account = api.pxed_account("pxed")?;
    api.apply(&cluster(&[Machine::number(1), Machine::number(2)]))?;
    let network = Bridged::new("10.99.0.1/24", 1)?;
    let other = &network.clients[0];
    other.ip(&["address", "add", "10.99.0.2/24", "dev", INTERFACE])?;
    api.connect(&network.server)?;
    api.connect(other)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1_000)?;
    let mut first = Pxed::start_in_cluster(&network.server, &account, artifacts.path(), &["--node-name", "a"])?;
    let mut second = Pxed::start_in_cluster(other, &account, artifacts.path(), &["--node-name", "b"])?;
    sees(&first, &["b"], AT_ONCE)?;
    sees(&second, &["a"], AT_ONCE)?;

    // Ended in order.
    second.process.signal(Signal::SIGTERM)?;
    second.process.wait(Duration::from_secs(10))?;
    sees(&first, &[], AT_ONCE)?;
    ensure!(api.kubectl(&["-n", "pxed", "get", "lease", "pxed-b"]).is_err(), "the Lease is still there");
    second.start_again(artifacts.path(), &["--node-name", "b"])?;
    sees(&first, &["b"], AT_ONCE)?;

    // Killed.
    second.process.signal(Signal::SIGKILL)?;
    second.process.wait(Duration::from_secs(5))?;
    sees(&first, &[], WITHIN_ITS_LEASE)?;
    second.start_again(artifacts.path(), &["--node-name", "b"])?;
    sees(&first, &["b"], AT_ONCE)?;

    // Deleted by hand, and another one with garbage.
    api.kubectl(&["-n", "pxed", "delete", "lease", "pxed-b"])?;
    api.apply(
        &serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "pxed-z", "namespace": "pxed", "labels": {"app.kubernetes.io/name": "pxed"},
                "annotations": {"pxed.dev/node": "{]"}},
            "spec": {"holderIdentity": "z", "leaseDurationSeconds": 2_000_000_000},
        })
        .to_string(),
    )?;
    first.process.wait_for_line("the annotation pxed.dev/node of the Lease pxed-z cannot be read", AT_ONCE)?;
    sees(&first, &["b"], AT_ONCE)?;

    // Without the API server the nodes stay as they were, also for one that starts then.
    api.stop()?;
    first.process.wait_for_line("the nodes stay as they were last known", WITHIN_ITS_LEASE)?;
    sees(&first, &["b"], AT_ONCE)?;
    first.process.signal(Signal::SIGKILL)?;
    first.process.wait(Duration::from_secs(5))?;
    first.start_again(artifacts.path(), &["--node-name", "a"])?;
    sees(&first, &["b"], AT_ONCE)?;
    api.start_again()?;
    sees(&first, &["b"], WITHIN_ITS_LEASE)?;

    // Two with one name.
    second.process.signal(Signal::SIGTERM)?;
    second.process.wait(Duration::from_secs(10))?;
    second.start_again(artifacts.path(), &["--node-name", "a"])?;
    first.process.wait_for_line("another pxed uses the name of this node, a", WITHIN_ITS_LEASE)?;
    Ok(())
}
