//! Machines between documents and inventory, each with its places in the files.

use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::{
    documents::{AddressSource, Declared, MachineSpec, Object},
    faults::{FaultId, Faults},
    finding::{Finding, Position},
    machine_settings::{OfOneMachine, Sources},
    placed::Placed,
};
use crate::model::inventory::{Machine, Role};

/// The machines and findings of all documents.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) faults: Faults,
    pub(crate) warnings: Vec<Finding>,
    /// Set if there is any cluster, even one with errors.
    pub(crate) has_cluster: bool,
}

/// A machine that has not been compared with the others yet, and its place in the files.
#[derive(Debug)]
pub(crate) struct Candidate<'d> {
    pub(crate) machine: Machine,
    pub(crate) origin: Origin<'d>,
    /// The annotations that can apply to it.
    pub(crate) sources: Sources<'d>,
    /// Its settings that no other machine can have.
    pub(crate) of_one: OfOneMachine<'d>,
    /// Its first error. With one it is not served.
    pub(crate) fault: Option<FaultId>,
}

/// A machine with errors of which too little can be read to compare it with others.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) fault: FaultId,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) address: Option<Ipv4Addr>,
    /// The cluster and role that it belongs to, if known.
    pub(crate) owner: Option<(Arc<str>, Role)>,
}

/// Machines of the last good spec that stay, whether or not the spec mentions them.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) fault: FaultId,
    pub(crate) cluster: Arc<str>,
    pub(crate) role: Role,
    /// Only these; `None` for all of the role.
    pub(crate) only: Option<Arc<HashSet<MacAddr>>>,
}

/// The places of a machine in the files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'d> {
    pub(crate) document: &'d Placed,
    pub(crate) object: &'d Object,
    /// The field path of the `machines[]` that has it; `None` for a `TalosMachine`.
    pub(crate) list: Option<&'static str>,
    pub(crate) declared: &'d Declared,
    pub(crate) machine_spec: &'d MachineSpec,
}

impl Origin<'_> {
    pub(crate) fn base(&self) -> String {
        let prefix = &self.object.prefix;
        match self.list {
            Some(list) => format!("{prefix}{list}[{}]", self.declared.index),
            None => format!("{prefix}spec"),
        }
    }

    pub(crate) fn mac_field(&self) -> String {
        format!("{}.pxeClientSpec.macAddress", self.base())
    }

    pub(crate) fn address_field(&self) -> String {
        let key = match (self.list, self.declared.address.as_ref().map(|address| &address.value)) {
            (None, _) => "endpoint",
            (Some(_), Some(AddressSource::Reference(_))) => "machineRef",
            (Some(_), _) => "address",
        };
        format!("{}.{key}", self.base())
    }

    /// Returns the field path of `machineSpec.meta`.
    pub(crate) fn meta_field(&self) -> String {
        let prefix = &self.object.prefix;
        match self.list.and_then(|list| list.strip_suffix("machines")) {
            Some(metal_spec) => format!("{prefix}{metal_spec}machineSpec.meta"),
            None => format!("{prefix}spec.machineSpec.meta"),
        }
    }

    pub(crate) fn mac_at(&self) -> Position {
        self.declared.mac.map_or(self.declared.at, |mac| mac.at)
    }

    pub(crate) fn address_at(&self) -> Position {
        self.declared.address.as_ref().map_or(self.declared.at, |address| address.at)
    }
}
