//! Machines for tests.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use pxe_common::MacAddr;

use super::{
    architecture::Architecture,
    inventory::{Machine, Role, Site, Source},
    policy::{BootPolicy, DiskRoute},
};

/// A machine 02:00:00:00:00:`number` at 127.0.0.`number`.
pub(crate) fn machine(number: u8, architecture: Architecture, version: &str, schematic: Option<&str>) -> Arc<Machine> {
    Arc::new(Machine {
        mac: MacAddr([2, 0, 0, 0, 0, number]),
        address: Ipv4Addr::new(127, 0, 0, number),
        cluster: "test".into(),
        role: Role::Worker,
        architecture,
        version: version.into(),
        schematic: schematic.map(Into::into),
        kernel_args: "".into(),
        hostname: None,
        prefix_length: None,
        gateway: None,
        dns_servers: Arc::new([]),
        policy: BootPolicy::Auto,
        disk_route: DiskRoute::default(),
        site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::LOCALHOST }),
        source: Source { file: Path::new("test.yaml").into(), line: 1 },
    })
}
