//! The mistakes in the spec, by the objects and machines that they affect.

use std::{collections::HashMap, path::Path, sync::Arc};

use pxe_common::MacAddr;

use super::index::{Index, label_of};
use crate::{
    cluster_status::cluster::Cluster,
    model::{
        api_object::{ApiKind, ObjectKey},
        finding::{SpecFault, SpecFaults},
        inventory::{Inventory, Machine},
    },
};

/// Returns a sentence about the mistake for which a machine is served as before.
pub(super) fn kept(faults: &SpecFaults, mac: MacAddr) -> Option<String> {
    let (fault, _) = faults.of(mac).filter(|(_, is_kept)| *is_kept)?;
    Some(format!(" It is served as before, because of a mistake in the spec: {}.", fault.finding))
}

/// The mistakes that leave machines out, found by machine or by object.
pub(super) struct LeftOut<'f> {
    by_mac: HashMap<MacAddr, &'f SpecFault>,
    by_place: HashMap<&'f Path, &'f SpecFault>,
}

impl<'f> LeftOut<'f> {
    pub(super) fn new(faults: &'f SpecFaults) -> Self {
        let affected = faults.affected.iter().filter(|affected| !affected.is_kept);
        let by_mac =
            affected.filter_map(|affected| Some((affected.mac?, faults.faults.get(affected.fault)?))).collect();
        let by_place = faults.faults.iter().rev().map(|fault| (&*fault.finding.file, fault)).collect();
        Self { by_mac, by_place }
    }

    /// Returns the mistake that leaves out the machine of an object.
    pub(super) fn of(&self, key: &ObjectKey, claims: Option<MacAddr>) -> Option<&'f SpecFault> {
        let by_place = || self.by_place.get(&*key.place()).copied();
        by_place().or_else(|| self.by_mac.get(&claims?).copied())
    }
}

/// The machines and mistakes of each cluster.
pub(super) struct Clusters<'a> {
    machines: HashMap<&'a str, Vec<&'a Arc<Machine>>>,
    faults: HashMap<ObjectKey, Vec<&'a SpecFault>>,
}

impl<'a> Clusters<'a> {
    pub(super) fn new(inventory: &'a Inventory, faults: &'a SpecFaults, index: &Index) -> Self {
        let mut machines: HashMap<&str, Vec<_>> = HashMap::new();
        for machine in inventory.machines() {
            machines.entry(&machine.cluster).or_default().push(machine);
        }
        let mut by_cluster: HashMap<_, Vec<_>> = HashMap::new();
        for fault in &faults.faults {
            let key = key_of(&fault.finding.file);
            let cluster = key.and_then(|key| index.cluster_of(&key).cloned());
            if let Some(cluster) = cluster {
                by_cluster.entry(cluster).or_default().push(fault);
            }
        }
        Self { machines, faults: by_cluster }
    }

    pub(super) fn of(&self, key: &ObjectKey) -> Cluster<'a> {
        Cluster {
            machines: self.machines.get(&*label_of(key)).cloned().unwrap_or_default(),
            faults: self.faults.get(key).cloned().unwrap_or_default(),
        }
    }
}

/// Returns the object whose place this is: `TalosCluster ns/name`.
fn key_of(place: &Path) -> Option<ObjectKey> {
    let (kind, name) = place.to_str()?.split_once(' ')?;
    let kind = ApiKind::ALL.into_iter().find(|of| of.name() == kind)?;
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectKey { kind, namespace: namespace.into(), name: name.into() })
}
