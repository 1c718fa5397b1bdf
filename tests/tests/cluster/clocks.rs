//! Nodes whose clocks differ.

use std::time::{Duration, Instant};

use anyhow::ensure;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use pxe_lab::{
    Artifacts, Pxed,
    cluster::{Machine, SERVER, VERSION, cluster},
    suite,
};
use serde_json::{Value, json};

use crate::fleet::{Fleet, SOON, answers, knows, nodes_as_seen, repeated_questions, sees};

/// The peers: their names, their server addresses, and the seconds by which their clocks differ.
const PEERS: [(&str, &str, i64); 3] =
    [("behind", "10.99.0.3", -60), ("ahead", "10.99.0.4", 60), ("far", "10.99.0.5", 3600)];
/// The time for which a Lease counts.
const LEASE: Duration = Duration::from_secs(15);

/// Peers live while they renew their Leases, whatever time they write there, and die by this node's clock alone.
pub(crate) fn differ() -> anyhow::Result<()> {
    let machines: Vec<_> = (1..=20).map(Machine::number).collect();
    let fleet = Fleet::new(24, Artifacts::stand_ins(&[VERSION], 50_000)?)?;
    fleet.api.apply(&cluster(&machines))?;
    let pxed = fleet.pxed(0)?;
    knows(&pxed, &machines[0])?;
    let names = || {
        let mut names = PEERS.map(|(name, ..)| name);
        names.sort_unstable();
        names
    };
    renew(&fleet)?;
    sees(&pxed, &names(), SOON)?;
    // They own machines, and the node leaves those to them.
    let shares = owned(&pxed)?;
    ensure!(shares.iter().all(|count| *count > 0) && shares.iter().sum::<u64>() == 20, "{shares:?}");
    let begin = Instant::now();
    suite::eventually("they renew for longer than a Lease counts", 4 * LEASE, || {
        renew(&fleet)?;
        let now = nodes_as_seen(&pxed)?;
        ensure!(owned(&pxed)? == shares, "after {:?}: {now}", begin.elapsed());
        Ok(begin.elapsed() > LEASE + Duration::from_secs(5))
    })?;
    let summary = fleet.boot_all(&machines)?;
    let asked_again = 3.0 * (shares[1..].iter().sum::<u64>()) as f64;
    let left = answers(&pxed)?.left;
    ensure!(
        left > 0.0 && left <= asked_again && repeated_questions(&summary) > 0,
        "{left} of {asked_again}: {summary}"
    );

    renew(&fleet)?;
    let end = Instant::now();
    sees(&pxed, &[], 3 * LEASE)?;
    let lasted = end.elapsed();
    // It looks every two seconds.
    ensure!(lasted + Duration::from_secs(3) > LEASE, "they were dead after {lasted:?}");
    println!("peers with other clocks were dead {lasted:?} after their last renewal");
    ensure!(owned(&pxed)?[0] == 20, "{}", nodes_as_seen(&pxed)?);
    let summary = fleet.boot_all(&machines)?;
    ensure!(repeated_questions(&summary) == 0 && answers(&pxed)?.left == left, "{summary}");
    fleet.nothing_is_forbidden()
}

/// Returns the numbers of machines that the nodes own, this node's first.
fn owned(pxed: &Pxed<'_>) -> anyhow::Result<Vec<u64>> {
    let nodes = nodes_as_seen(pxed)?;
    Ok(nodes["nodes"].as_array().into_iter().flatten().filter_map(|node| node["machines"].as_u64()).collect())
}

/// Renews the Leases of all peers, each with the time of its own clock.
fn renew(fleet: &Fleet) -> anyhow::Result<()> {
    fleet.api.with_client(|client| async move {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let leases: Api<DynamicObject> = Api::namespaced_with(client, "pxed", &ApiResource::from_gvk(&kind));
        let now = jiff::Timestamp::now();
        for (name, address, differs) in PEERS {
            let said: Value = json!({"instance": name, "sites": {SERVER: address}});
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {
                    "name": format!("pxed-{name}"),
                    "labels": {"app.kubernetes.io/name": "pxed"}, "annotations": {"pxed.dev/node": said.to_string()},
                },
                "spec": {
                    "holderIdentity": name, "leaseDurationSeconds": LEASE.as_secs(),
                    "renewTime": format!("{:.6}", now + jiff::SignedDuration::from_secs(differs)),
                },
            });
            let parameters = PatchParams::apply("peer").force();
            leases.patch(&format!("pxed-{name}"), &parameters, &Patch::Apply(&lease)).await?;
        }
        Ok(())
    })
}
