use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::Arc,
};

use pxe_common::MacAddr;

use super::*;
use crate::model::{
    inventory::{Role, Site, Source},
    policy::{BootPolicy, DiskRoute},
    testing::assert_golden,
};
use crate::{
    boot::uki_script::uki_script,
    model::{boot_method::BootMethod, images::BootFiles},
};

/// The server that the machine asks, which is not at the address of its site.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 5, 0, 2), 8000);

fn machine(architecture: Architecture, version: &str) -> Machine {
    Machine {
        mac: MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]),
        additional_macs: Arc::default(),
        address: Ipv4Addr::new(10, 5, 0, 11),
        cluster: "lab".into(),
        role: Role::Worker,
        architecture,
        version: version.into(),
        schematic: None,
        kernel_args: "talos.config.inline=eJwr+SS0/u=A== talos.config=http://10.5.0.2/c?u=${uuid}".into(),
        hostname: Some("node-1".into()),
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
        site: Arc::new(Site { interface: "eth0".into(), address: Ipv4Addr::new(10, 5, 0, 250) }),
        source: Source { file: Arc::from(Path::new("clusters/lab.yaml")), line: 12 },
    }
}

/// Compares a script with the one that is checked in under this name.
fn golden(name: &str, script: &str) {
    assert_golden(&format!("src/boot/script/golden/{name}"), script);
}

/// Uses one version on each side of every release that changed the kernel arguments.
#[test]
fn scripts_match_the_goldens_for_every_release_that_changed_the_arguments() {
    for version in
        ["v1.7.7", "v1.8.0", "v1.9.5", "v1.10.0", "v1.11.0", "v1.12.0", "v1.13.0-beta.0", "v1.13.0", "v1.14.0"]
    {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            let script = script(&machine(architecture, version), SERVER, Tokens::default(), Disposition::Network);
            golden(&format!("{version}-{architecture}.ipxe"), &script.unwrap());
        }
    }
}

#[test]
fn disk_scripts_match_the_goldens() {
    let machine = |disk_route| Machine { disk_route, ..machine(Architecture::Amd64, "v1.13.0") };
    for (name, route) in
        [("disk.ipxe", DiskRoute::Auto), ("disk-exit.ipxe", DiskRoute::Exit), ("disk-sanboot.ipxe", DiskRoute::Sanboot)]
    {
        golden(name, &script(&machine(route), SERVER, Tokens::default(), Disposition::Disk).unwrap());
    }
    // `pxed release` ends no hold of the spec.
    let held = Machine { policy: BootPolicy::Hold, ..machine(DiskRoute::Auto) };
    golden("disk-hold.ipxe", &script(&held, SERVER, Tokens::default(), Disposition::Disk).unwrap());
    assert_eq!(script(&machine(DiskRoute::NotFound), SERVER, Tokens::default(), Disposition::Disk), None);
    assert!(script(&machine(DiskRoute::NotFound), SERVER, Tokens::default(), Disposition::Network).is_some());
}

/// Uses arguments, host names and file names that would be commands if they were not encoded.
#[test]
fn text_of_the_spec_never_becomes_a_command() {
    let machine = Machine {
        kernel_args: "a  b || reboot # c\nshell\n:try".into(),
        hostname: Some("x; shell\nreboot ||".into()),
        cluster: "${cls}\n:start".into(),
        source: Source { file: Arc::from(Path::new("a b\n;${x}.yaml")), line: 1 },
        ..machine(Architecture::Amd64, "v1.13.0")
    };
    golden("hostile.ipxe", &script(&machine, SERVER, Tokens::default(), Disposition::Network).unwrap());
}

/// Every `goto` has its label, and every label is defined once.
#[test]
fn labels_and_jumps_match() {
    let script =
        script(&machine(Architecture::Amd64, "v1.13.0"), SERVER, Tokens::default(), Disposition::Network).unwrap();
    assert_labels(&script);
}

fn assert_labels(script: &str) {
    for word in script.split_whitespace().zip(script.split_whitespace().skip(1)) {
        if let ("goto", label) | ("step", label) = word {
            if label == "${step}" {
                continue;
            }
            assert_eq!(script.matches(&format!("\n:{label}\n")).count(), 1, "label {label} in\n{script}");
        }
    }
}

#[test]
fn scripts_for_unified_kernel_images_match_the_goldens() {
    let kernel = BootFiles::KernelAndInitramfs { kernel: String::new(), initramfs: String::new() };
    for (name, architecture, files) in [
        ("uki-amd64.ipxe", Architecture::Amd64, &kernel),
        ("uki-arm64.ipxe", Architecture::Arm64, &kernel),
        ("uki-factory-amd64.ipxe", Architecture::Amd64, &BootFiles::FactoryUki(String::new())),
        ("uki-secure-boot-amd64.ipxe", Architecture::Amd64, &BootFiles::SecureBootUki(String::new())),
    ] {
        let boot = if name.contains("secure-boot") { BootMethod::FactoryUki } else { BootMethod::Uki };
        let script =
            uki_script(&Machine { boot, ..machine(architecture, "v1.13.0") }, SERVER, Tokens::default(), files);
        golden(name, &script);
        assert_labels(&script);
        // The stub crashes if iPXE has loaded an initramfs, and its own arguments count only if it gets none.
        let uki = &script[script.find("\n:uki\n").unwrap()..script.find("\n:failed\n").unwrap()];
        assert!(
            !uki.contains("initrd")
                && uki.contains(
                    "\nkernel --name @0 --timeout 60000 http://10.5.0.2:8000/boot/52-54-00-ab-cd-ef/talos.efi ||"
                )
        );
        assert!(uki.starts_with("\n:uki\nimgfree ||"), "what a failed attempt has left");
    }
}
