//! The files that machines boot from: their names, where they lie, what is missing.

mod missing;
mod names;
mod store;

pub use missing::{Missing, Problem, Severity, missing};
pub use names::{
    BIOS_LOADER, EFI_ARM64_LOADER, EFI_IA32_LOADER, EFI_X64_LOADER, PLAIN_SCHEMATIC, efi_loader, initramfs_path,
    is_optional, kernel_path, kind_of,
};
pub use store::{OpenArtifact, READ_AHEAD, Refusal, Store, StoreError};

#[cfg(test)]
pub(crate) mod testing {
    //! Machines for tests.

    use std::{net::Ipv4Addr, path::Path, sync::Arc};

    use pxe_common::MacAddr;

    use crate::inventory::{Architecture, BootPolicy, DiskRoute, Machine, Role, Site, Source};

    /// A machine 02:00:00:00:00:`number` at 127.0.0.`number`.
    pub(crate) fn machine(
        number: u8,
        architecture: Architecture,
        version: &str,
        schematic: Option<&str>,
    ) -> Arc<Machine> {
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
}
