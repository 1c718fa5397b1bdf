//! Machines and goldens for tests.

use std::{env, fs, net::Ipv4Addr, path::Path, sync::Arc};

use pxe_common::MacAddr;

use super::{
    architecture::Architecture,
    inventory::{Machine, Role, Site, Source},
    policy::{BootPolicy, DiskRoute},
};

/// Returns a machine 02:00:00:00:00:`number` at 127.0.0.`number`.
pub(crate) fn machine(number: u8, architecture: Architecture, version: &str, schematic: Option<&str>) -> Arc<Machine> {
    Arc::new(Machine {
        mac: MacAddr([2, 0, 0, 0, 0, number]),
        additional_macs: Arc::default(),
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
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::LOCALHOST }),
        source: Source { file: Path::new("test.yaml").into(), line: 1 },
    })
}

/// Compares a text with the file that is checked in at `path`, relative to this crate. `PXED_BLESS=1` rewrites the file.
pub(crate) fn assert_golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("PXED_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let first = (1..).zip(text.lines().zip(expected.lines())).find(|(_, (line, expected))| line != expected);
    if let Some((number, (line, expected))) = first {
        panic!("{path} line {number}: PXED_BLESS=1 replaces\n{expected}\nby\n{line}");
    }
    assert_eq!(text.len(), expected.len(), "{path} ends elsewhere; PXED_BLESS=1 rewrites it");
}
