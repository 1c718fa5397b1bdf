//! Puts a machine together from its entry in the spec and from what its role gives it.

use std::{net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::{candidate::Origin, documents::RoleSpec, machine_settings::Sources};
use crate::model::{
    inventory::{Machine, Role, Site, Source},
    policy::{BootPolicy, DiskRoute},
};

/// The common properties of a role's machines.
pub(crate) struct Owner<'d> {
    pub(crate) label: Arc<str>,
    pub(crate) site: Arc<Site>,
    pub(crate) role: Role,
    pub(crate) spec: &'d RoleSpec,
    /// The annotations of its machines, without a machine's own.
    pub(crate) sources: Sources<'d>,
}

/// Puts a machine together, without its annotations.
pub(crate) fn machine(owner: &Owner<'_>, origin: &Origin<'_>, mac: MacAddr, address: Ipv4Addr) -> Machine {
    let Origin { document, declared, machine_spec, .. } = origin;
    let version = declared.version.as_ref().or(owner.spec.version.as_ref());
    let schematic = match &declared.image {
        Some(image) => &image.schematic,
        None => &machine_spec.schematic,
    };
    let line = document.lines_before.saturating_add(declared.at.line);
    Machine {
        mac,
        additional_macs: Arc::default(),
        address,
        cluster: Arc::clone(&owner.label),
        role: owner.role,
        architecture: declared.architecture,
        // It is absent only after an error, and then the machine is left out.
        version: version.map_or_else(|| Arc::from(""), Arc::clone),
        schematic: schematic.clone(),
        kernel_args: Arc::clone(&declared.kernel_args),
        hostname: machine_spec.hostname.as_ref().map(|hostname| Arc::clone(&hostname.value)),
        prefix_length: machine_spec.prefix_length,
        gateway: machine_spec.gateway.map(|gateway| gateway.value),
        dns_servers: Arc::clone(&machine_spec.dns_servers),
        policy: BootPolicy::default(),
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::clone(&owner.site),
        source: Source { file: Arc::clone(&document.file), line },
    }
}
