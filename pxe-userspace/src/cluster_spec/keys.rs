//! The keys of each mapping that is read, those of the operator's schema that pxed does not need included.

use super::misspelling::nearest;

/// The keys of a mapping.
pub(crate) struct Keys {
    known: &'static [&'static str],
    /// Set for mappings that hardly ever get new keys, in which every unknown key is a mistake.
    pub(crate) is_closed: bool,
}

impl Keys {
    const fn open(known: &'static [&'static str]) -> Self {
        Self { known, is_closed: false }
    }

    const fn closed(known: &'static [&'static str]) -> Self {
        Self { known, is_closed: true }
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    pub(crate) fn nearest(&self, key: &str) -> Option<&'static str> {
        nearest(key, self.known.iter().copied())
    }

    pub(crate) fn listed(&self) -> String {
        self.known.join(", ")
    }
}

pub(crate) const RESOURCE: Keys = Keys::open(&["apiVersion", "kind", "metadata", "spec", "status"]);
pub(crate) const METADATA: Keys = Keys::open(&[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
]);
pub(crate) const CLUSTER: Keys =
    Keys::open(&["controlPlane", "controlPlaneRef", "pxeServerSpec", "worker", "workerRef"]);
pub(crate) const SERVER: Keys = Keys::closed(&["address", "interface"]);
/// A control plane, a worker pool, or either of them inline.
pub(crate) const ROLE: Keys = Keys::open(&[
    "clusterDomain",
    "cni",
    "configRef",
    "controlPlaneRef",
    "deletionPolicy",
    "endpoint",
    "kubeVersion",
    "metalSpec",
    "mode",
    "podCIDR",
    "replicas",
    "rolloutStrategy",
    "serviceCIDR",
    "storageClassName",
    "version",
]);
pub(crate) const METAL: Keys = Keys::open(&["machineSpec", "machines"]);
pub(crate) const MACHINE_SPEC: Keys = Keys::open(&[
    "additionalConfig",
    "airGap",
    "allowSchedulingOnControlPlanes",
    "configPatches",
    "image",
    "imageCache",
    "installDisk",
    "meta",
    "registries",
    "wipe",
]);
pub(crate) const META: Keys = Keys::closed(&["hostname", "interface", "subnet", "gateway", "dnsServers"]);
const MACHINE_KEYS: &[&str] =
    &["address", "version", "image", "pxeClientSpec", "machineRef", "configPatches", "additionalConfig"];
/// An entry of `machines[]` that boots from the network.
pub(crate) const MACHINE: Keys = Keys::closed(MACHINE_KEYS);
/// An entry of `machines[]` that does not.
pub(crate) const OTHER_MACHINE: Keys = Keys::open(MACHINE_KEYS);
pub(crate) const CLIENT: Keys = Keys::closed(&["macAddress", "cpuArchitecture", "kernelCmdlineArgs"]);
pub(crate) const TALOS_MACHINE: Keys = Keys::open(&[
    "configRef",
    "controlPlaneRef",
    "deletionPolicy",
    "endpoint",
    "machineSpec",
    "pxeClientSpec",
    "version",
    "workerRef",
]);
pub(crate) const REFERENCE: Keys =
    Keys::open(&["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"]);

/// Returns the place that a key belongs to, for keys of pxed that mean nothing elsewhere.
pub(crate) fn place_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "pxeServerSpec" => "the spec of the TalosCluster",
        "controlPlane" | "controlPlaneRef" | "worker" | "workerRef" => "the spec of a TalosCluster",
        "metalSpec" => "controlPlane or worker, or the spec of a TalosControlPlane or TalosWorker",
        "machines" | "machineSpec" => "metalSpec",
        "pxeClientSpec" => "an entry of metalSpec.machines, or the spec of a TalosMachine",
        "macAddress" | "cpuArchitecture" | "kernelCmdlineArgs" => "pxeClientSpec",
        "meta" => "machineSpec",
        "annotations" => "metadata",
        _ => return None,
    })
}
