//! Settings of single machines in annotations.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc, time::Instant};

use pxe_common::MacAddr;

use super::{super::Loader, Files, errors::findings};
use crate::model::{
    inventory::{Inventory, Machine},
    loader::{LOADER_FILE_LIMIT, LOADER_NAME_LIMIT, LoaderFile},
    policy::{BootPolicy, DiskRoute},
};

/// Returns a cluster with the machines 10.0.0.11 and 10.0.0.12, and these lines of annotations from line 6 on.
fn cluster(annotations: &str) -> String {
    let annotations = annotations.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
    format!(
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata:
  name: lab
  annotations:
{annotations}spec:
  pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}
  worker:
    version: v1.13.0
    mode: metal
    metalSpec:
      machines:
        - address: 10.0.0.11
          pxeClientSpec: {{macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}}
        - address: 10.0.0.12
          pxeClientSpec: {{macAddress: 52:54:00:00:00:12, cpuArchitecture: amd64}}
"
    )
}

/// Returns a `TalosMachine` 10.0.0.`number` of the cluster with these annotations.
fn talos_machine(number: u8, annotations: &str) -> String {
    format!(
        "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosMachine
metadata:
  name: m{number}
  annotations: {{{annotations}}}
spec:
  endpoint: 10.0.0.{number}
  version: v1.13.0
  workerRef: {{name: lab}}
  pxeClientSpec: {{macAddress: 52:54:00:00:00:{number}, cpuArchitecture: amd64}}
"
    )
}

fn load(text: &str) -> Arc<Inventory> {
    let loaded = Files::new(&[("c.yaml", text)]).load().unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.inventory
}

fn machine(inventory: &Inventory, number: u8) -> Arc<Machine> {
    Arc::clone(inventory.by_address(Ipv4Addr::new(10, 0, 0, number)).unwrap())
}

fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, number])
}

/// Returns the name of the loader for each class, with that of firmware that iPXE does not exist for at the end.
fn loaders(machine: &Machine) -> Vec<String> {
    let classes = LoaderFile::ALL.into_iter().map(Some).chain([None]);
    classes.map(|class| machine.loader(class).map_or("none", |loader| loader.name()).to_owned()).collect()
}

const USUAL: [&str; 8] = [
    "undionly.kpxe",
    "ipxe-efi-i386.efi",
    "ipxe-efi-x86_64.efi",
    "ipxe-efi-arm32.efi",
    "ipxe-efi-arm64.efi",
    "ipxe-efi-riscv32.efi",
    "ipxe-efi-riscv64.efi",
    "none",
];

#[test]
fn machine_has_its_settings_however_they_are_written() {
    let settings = "additionalMacAddresses: [52-54-00-00-00-AA, 5254000000ab], bootPolicy: once, hostname: n1, loader: \
                    a/b.efi, diskRoute: exit";
    let kebab = "additional-mac-addresses: '52:54:00:00:00:aa,52:54:00:00:00:ab', boot-policy: once, hostname: n1, loader: \
                 a/b.efi, disk-route: exit";
    let annotations = "pxed.dev/additional-mac-addresses: '52:54:00:00:00:aa, 52:54:00:00:00:ab', pxed.dev/boot-policy: once, \
                       pxed.dev/hostname: n1, pxed.dev/loader: a/b.efi, pxed.dev/disk-route: exit";
    let camel = "pxed.dev/additionalMacAddresses: '[\"52:54:00:00:00:aa\", 52:54:00:00:00:ab]', pxed.dev/bootPolicy: once, \
                 pxed.dev/hostname: n1, pxed.dev/loader: a/b.efi, pxed.dev/diskRoute: exit";
    let separate = annotations.replace(':', ".52-54-00-00-00-11:").replace(", pxed", "\npxed");
    let separate = separate.replace("54.52-54-00-00-00-11:", "54:");
    let separate = separate.replace(".52-54-00-00-00-11:00", ":00").replace(".52-54-00-00-00-11:54", ":54");
    let separate = separate.replace(".52-54-00-00-00-11:aa", ":aa").replace(".52-54-00-00-00-11:ab", ":ab");
    for text in [
        cluster(&format!("pxed.dev/machines: |\n  52:54:00:00:00:11: {{{settings}}}")),
        cluster(&format!("pxed.dev/machines: |\n\n  # Two cards.\n  5254.0000.0011:\n    {{{kebab}}}")),
        cluster(&format!("pxed.dev/machines: '{{10.0.0.11: {{{settings}}}}}'")),
        cluster(&format!("pxed.dev/machines:\n  52-54-00-00-00-11: {{{kebab}}}")),
        cluster(&format!("pxed.dev/machines: |\n  x: &x {{{settings}}}\n  10.0.0.11: *x").replace("  x: &x", "  10.0.0.12: &x"))
            .replace("    pxed.dev", "    other.dev/x: y\n    pxed.dev")
            .replace("10.0.0.12: &x {additionalMacAddresses: [52-54-00-00-00-AA, 5254000000ab], ", "10.0.0.12: &x {")
            .replace("10.0.0.11: *x", "10.0.0.11:\n        <<: *x\n        additionalMacAddresses: [52-54-00-00-00-AA, 5254000000ab]\n        hostname: n1")
            .replace("hostname: n1, ", ""),
        cluster(&separate),
        cluster(&separate.replace(".52-54-00-00-00-11:", ".10.0.0.11:")),
        cluster("other.dev/x: y") + &talos_machine(11, annotations),
        cluster("other.dev/x: y") + &talos_machine(11, camel),
        cluster("other.dev/x: y").replace("52:54:00:00:00:11", "52:54:00:00:00:13").replace("10.0.0.11", "10.0.0.13")
            + &talos_machine(11, annotations),
    ] {
        let inventory = load(&text);
        let machine = machine(&inventory, 11);
        assert_eq!(machine.mac, mac(0x11));
        assert_eq!(*machine.additional_macs, [mac(0xaa), mac(0xab)], "{text}");
        assert_eq!((machine.policy, machine.disk_route), (BootPolicy::Once, DiskRoute::Exit), "{text}");
        assert_eq!(machine.hostname.as_deref(), Some("n1"), "{text}");
        assert_eq!(loaders(&machine)[2], "a/b.efi", "{text}");
        for card in [0x11, 0xaa, 0xab].map(mac) {
            assert_eq!(inventory.by_mac(card).map(|found| found.address), Some(machine.address), "{text}");
        }
    }
}

#[test]
fn role_has_settings_of_its_machines() {
    let text = "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {name: lab, annotations: {pxed.dev/loader: snponly}}
spec:
  pxeServerSpec: {address: 10.0.0.1, interface: eth1}
  workerRef: {name: w}
---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata:
  name: w
  annotations:
    pxed.dev/machines: |
      10.0.0.11: {additionalMacAddresses: [52:54:00:00:00:aa], loader: ipxe}
      10.0.0.13: {hostname: own}
spec:
  version: v1.13.0
  mode: metal
  metalSpec:
    machines:
      - {address: 10.0.0.11, pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}}
      - {address: 10.0.0.12, pxeClientSpec: {macAddress: 52:54:00:00:00:12, cpuArchitecture: amd64}}
"
    .to_owned()
        + &talos_machine(13, "").replace("workerRef: {name: lab}", "workerRef: {name: w}");
    let inventory = load(&text);
    assert_eq!(*machine(&inventory, 11).additional_macs, [mac(0xaa)]);
    assert_eq!(loaders(&machine(&inventory, 11)), USUAL);
    assert!(machine(&inventory, 11).loaders.is_none());
    assert_eq!(loaders(&machine(&inventory, 12))[2], "snponly-x86_64.efi");
    assert_eq!(machine(&inventory, 13).hostname.as_deref(), Some("own"));
}

#[test]
fn loader_is_that_of_the_class_of_firmware() {
    let snponly = [
        "undionly.kpxe",
        "snponly-i386.efi",
        "snponly-x86_64.efi",
        "snponly-arm32.efi",
        "snponly-arm64.efi",
        "snponly-riscv32.efi",
        "snponly-riscv64.efi",
        "none",
    ];
    let with = |changes: &[(usize, &'static str)]| {
        let mut names = USUAL;
        changes.iter().for_each(|&(class, name)| names[class] = name);
        names
    };
    for (loader, expected) in [
        ("ipxe", USUAL),
        ("snponly", snponly),
        ("ipxe.pxe", with(&[(0, "ipxe.pxe")])),
        ("pxelinux.0", with(&[(0, "pxelinux.0")])),
        ("boot.img", ["boot.img"; 8]),
        ("shim/shimx64.efi", with(&[1, 2, 3, 4, 5, 6, 7].map(|class| (class, "shim/shimx64.efi")))),
        ("{uefi-x64: snponly, bios: ipxe.pxe}", with(&[(2, snponly[2]), (0, "ipxe.pxe")])),
        ("'{uefi-x64: snponly, bios: ipxe.pxe}'", with(&[(2, snponly[2]), (0, "ipxe.pxe")])),
        ("{uefi-arm64: ipxe, uefi: snponly}", {
            let mut names = snponly;
            names[4] = USUAL[4];
            names
        }),
        ("{bios: x.efi}", with(&[(0, "x.efi")])),
    ] {
        for text in [
            cluster(&format!(
                "pxed.dev/machines:\n  10.0.0.11: {{loader: {loader}}}\n  10.0.0.12: {{loader: {loader}}}"
            )),
            cluster(&format!("pxed.dev/loader: {loader}")),
        ] {
            let inventory = load(&text);
            let machine = machine(&inventory, 11);
            assert_eq!(loaders(&machine), expected, "{loader}");
            assert_eq!(machine.loaders.is_none(), expected == USUAL, "{loader}");
        }
    }
}

#[test]
fn nearest_annotation_counts_and_a_contradiction_is_a_warning() {
    let text = cluster("pxed.dev/boot-policy: always\npxed.dev/machines: '{10.0.0.11: {bootPolicy: once}}'");
    let inventory = load(&text);
    assert_eq!(machine(&inventory, 11).policy, BootPolicy::Once);
    assert_eq!(machine(&inventory, 12).policy, BootPolicy::Always);

    let same = text.clone() + &talos_machine(11, "pxed.dev/boot-policy: once");
    assert_eq!(machine(&load(&same), 11).policy, BootPolicy::Once);

    let files = Files::new(&[("c.yaml", &(text + &talos_machine(11, "pxed.dev/boot-policy: hold")))]);
    let loaded = files.load().unwrap();
    assert_eq!(machine(&loaded.inventory, 11).policy, BootPolicy::Hold);
    assert_eq!(
        files.relative(&loaded.warnings),
        ["c.yaml:7:24: metadata.annotations.pxed.dev/machines.10.0.0.11.bootPolicy: differs from \
             metadata.annotations.pxed.dev/boot-policy in c.yaml:24, which counts: remove one"]
    );
}

#[test]
fn shared_hostname_is_given_to_no_machine() {
    let text = cluster("pxed.dev/machines: |\n  10.0.0.11: {hostname: n}\n  10.0.0.12: {hostname: n}");
    let files = Files::new(&[("c.yaml", &text)]);
    let loaded = files.load().unwrap();
    assert!(loaded.inventory.machines().iter().all(|machine| machine.hostname.is_none()));
    assert_eq!(
        files.relative(&loaded.warnings),
        [
            "c.yaml:7:29: metadata.annotations.pxed.dev/machines.10.0.0.11.hostname: \"n\" would be the name of 2 machines: DHCP \
          gives it to none of them"
        ]
    );
}

/// Each case: the annotations from line 6 on, and the beginning of the only error.
#[test]
fn mistakes_are_errors_with_their_place() {
    const MACHINES: &str = "metadata.annotations.pxed.dev/machines";
    let long = "x".repeat(LOADER_NAME_LIMIT + 1);
    let many: Vec<String> = (0..33).map(|number| format!("02:00:00:00:00:{number:02x}")).collect();
    let cases: Vec<(String, String)> = [
        ("machines: |\n  10.0.0.13: {}", "7:7: M.10.0.0.13: names no machine of this resource"),
        ("machines: |\n  52:54:00:00:00:13: {}", "7:7: M.52:54:00:00:00:13: names no machine of this resource"),
        ("machines: |\n  lab-1: {}", "7:7: M.lab-1: \"lab-1\" is neither a MAC nor an IP address of a machine"),
        ("machines: |\n  00:00:00:00:00:00: {}", "7:7: M.00:00:00:00:00:00: 00:00:00:00:00:00 is the zero address"),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: [52:54:00:00:00:aa]}\n  52:54:00:00:00:aa: {loader: ipxe}",
            "8:7: M.52:54:00:00:00:aa: is another network card of the machine 52:54:00:00:00:11: write that address",
        ),
        (
            "machines: |\n  10.0.0.11: {}\n  52:54:00:00:00:11: {}",
            "7:7: M.10.0.0.11: is the same machine as M.52:54:00:00:00:11",
        ),
        (
            "machines: |\n  52:54:00:00:00:11: {}\n  5254.0000.0011: {}",
            "8:7: M.5254.0000.0011: is the same machine as M.52:54:00:00:00:11: keep one",
        ),
        ("machines: |\n  10.0.0.11: {}\n  10.0.0.11: {}", "8:7: M.10.0.0.11: is given twice: keep one"),
        (
            "machines: |\n  10.0.0.11:\n    bootPolcy: once",
            "8:9: M.10.0.0.11.bootPolcy: is not a setting of a machine: did you mean bootPolicy? known are bootPolicy, ",
        ),
        ("machines: |\n  10.0.0.11:\n    x: 1", "8:9: M.10.0.0.11.x: is not a setting of a machine: known are bootPolicy, "),
        ("machines: |\n  10.0.0.11: once", "7:18: M.10.0.0.11: is text, but must be a mapping"),
        ("machines: |\n  - 10.0.0.11", "7:7: M: is a list, but must be a mapping"),
        ("machines: [10.0.0.11]", "6:5: M: is a list, but must be a mapping"),
        ("machines: once", "6:24: M: is text, but must be a mapping"),
        ("machines: |\n  10.0.0.11: {\n", "8:"),
        ("machines: |\n  10.0.0.11: {}\n  ---\n  10.0.0.12: {}", "7:7: M: has 2 YAML documents: write one"),
        (
            "machines: |\n  10.0.0.11: {bootPolicy: never}",
            "7:31: M.10.0.0.11.bootPolicy: \"never\" is not a boot policy: write auto, always, once or hold",
        ),
        ("machines: |\n  10.0.0.11: {bootPolicy: [once]}", "7:19: M.10.0.0.11.bootPolicy: is a list, but must be text"),
        (
            "machines: |\n  10.0.0.11: {bootPolicy: once, boot-policy: once}",
            "7:50: M.10.0.0.11.boot-policy: is given twice, also as M.10.0.0.11.bootPolicy",
        ),
        (
            "machines: |\n  10.0.0.11: {hostname: -n}",
            "7:29: M.10.0.0.11.hostname: \"-n\" is not a host name: write letters, digits and hyphens",
        ),
        ("machines: |\n  10.0.0.11: {hostname: ''}", "7:29: M.10.0.0.11.hostname: \"\" is not a host name"),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: [52:54:00:00:00:zz]}",
            "7:44: M.10.0.0.11.additionalMacAddresses[0]: \"52:54:00:00:00:zz\" is not a MAC address",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: [01:00:5e:00:00:01]}",
            "7:44: M.10.0.0.11.additionalMacAddresses[0]: 01:00:5e:00:00:01 is a multicast address",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: [ff:ff:ff:ff:ff:ff]}",
            "7:44: M.10.0.0.11.additionalMacAddresses[0]: ff:ff:ff:ff:ff:ff is the broadcast address",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: [525400000013, 52-54-00-00-00-13]}",
            "7:58: M.10.0.0.11.additionalMacAddresses[1]: 52:54:00:00:00:13 is given twice: keep one",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: {a: b}}",
            "7:19: M.10.0.0.11.additionalMacAddresses: is a mapping, but must be a list",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: 52:54:00:00:00:11}",
            "7:43: M.10.0.0.11.additionalMacAddresses: 52:54:00:00:00:11 is the macAddress of the machine itself",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: 52:54:00:00:00:12}",
            "7:43: M.10.0.0.11.additionalMacAddresses: 52:54:00:00:00:12 is already used by the machine in ",
        ),
        (
            "machines: |\n  10.0.0.11: {additionalMacAddresses: 02:00:00:00:00:01}\n  10.0.0.12: {additionalMacAddresses: 02:00:00:00:00:01}",
            "8:43: M.10.0.0.12.additionalMacAddresses: 02:00:00:00:00:01 is already used by the machine in ",
        ),
        ("machines: |\n  10.0.0.11: {loader: ../x.efi}", "7:27: M.10.0.0.11.loader: leaves the artifacts directory"),
        ("machines: |\n  10.0.0.11: {loader: a/../../x.efi}", "7:27: M.10.0.0.11.loader: leaves the artifacts directory"),
        ("machines: |\n  10.0.0.11: {loader: /srv/x.efi}", "7:27: M.10.0.0.11.loader: is an absolute path"),
        ("machines: |\n  10.0.0.11: {loader: .pxed/manifest.json}", "7:27: M.10.0.0.11.loader: is in .pxed, where pxed keeps"),
        ("machines: |\n  10.0.0.11: {loader: .PXED/x.efi}", "7:27: M.10.0.0.11.loader: is in .pxed"),
        ("machines: |\n  10.0.0.11: {loader: a//x.efi}", "7:27: M.10.0.0.11.loader: has an empty part"),
        ("machines: |\n  10.0.0.11: {loader: a/}", "7:27: M.10.0.0.11.loader: has an empty part"),
        ("machines: |\n  10.0.0.11: {loader: ''}", "7:27: M.10.0.0.11.loader: is empty"),
        ("machines: |\n  10.0.0.11: {loader: 'http://h/x.efi'}", "7:27: M.10.0.0.11.loader: is a URL"),
        ("machines: |\n  10.0.0.11: {loader: \\a\\x.efi}", "7:27: M.10.0.0.11.loader: has a backslash: write a/x.efi instead"),
        ("machines: |\n  10.0.0.11: {loader: a b.efi}", "7:27: M.10.0.0.11.loader: has the character ' '"),
        ("machines: |\n  10.0.0.11: {loader: 50%.efi}", "7:27: M.10.0.0.11.loader: has the character '%'"),
        ("machines: |\n  10.0.0.11: {loader: é.efi}", "7:27: M.10.0.0.11.loader: has the character 'é'"),
        ("machines: |\n  10.0.0.11: {loader: boot-from-disk}", "7:27: M.10.0.0.11.loader: boot-from-disk is never served"),
        ("machines: |\n  10.0.0.11: {loader: snp-only2}", "7:27: M.10.0.0.11.loader: is not a loader: did you mean snponly?"),
        ("machines: |\n  10.0.0.11: {loader: [ipxe]}", "7:19: M.10.0.0.11.loader: is a list, but must be text"),
        (
            "machines: |\n  10.0.0.11: {loader: {uefi-x86: ipxe}}",
            "7:28: M.10.0.0.11.loader.uefi-x86: is not a class of firmware: did you mean uefi-x64? known are bios, uefi-ia32, ",
        ),
        (
            "machines: |\n  10.0.0.11: {loader: {http-x64: ipxe}}",
            "7:28: M.10.0.0.11.loader.http-x64: is not a class of firmware: ",
        ),
        ("machines: |\n  10.0.0.11: {loader: {bios: [x]}}", "7:28: M.10.0.0.11.loader.bios: is a list, but must be text"),
        ("loader: '{bios: /x}'", "6:22: metadata.annotations.pxed.dev/loader.bios: is an absolute path"),
        ("hostname: n", "6:24: metadata.annotations.pxed.dev/hostname: is for one machine, and this resource has any number: write hostname below"),
        (
            "additional-mac-addresses: 02:00:00:00:00:01",
            "6:40: metadata.annotations.pxed.dev/additional-mac-addresses: is for one machine, and this resource",
        ),
        (
            "boot-policy.52-54-00-00-00-11: once\npxed.dev/machines: '{52:54:00:00:00:11: {bootPolicy: once}}'",
            "7:24: M.52:54:00:00:00:11.bootPolicy: is given twice, also as metadata.annotations.pxed.dev/boot-policy.52-54-00-00-00-11",
        ),
        (
            "boot-policy.10.0.0.11: once\npxed.dev/machines: '{10.0.0.11: {bootPolicy: once}}'",
            "7:24: M.10.0.0.11.bootPolicy: is given twice, also as metadata.annotations.pxed.dev/boot-policy.10.0.0.11",
        ),
    ]
    .into_iter()
    .map(|(annotations, expected)| (annotations.to_owned(), expected.to_owned()))
    .chain([
        (
            format!("machines: |\n  10.0.0.11: {{loader: {long}}}"),
            format!("7:27: M.10.0.0.11.loader: is {} bytes long, and a DHCP message has room for {LOADER_NAME_LIMIT}", long.len()),
        ),
        (
            format!("machines: |\n  10.0.0.11: {{loader: a/{}}}", &long[..=LOADER_FILE_LIMIT]),
            format!("7:27: M.10.0.0.11.loader: ends in a file name of {} bytes", LOADER_FILE_LIMIT + 1),
        ),
        (
            format!("machines: |\n  10.0.0.11: {{additionalMacAddresses: [{}]}}", many.join(", ")),
            "7:19: M.10.0.0.11.additionalMacAddresses: has 33 MAC addresses: a machine can have 32 beside its first".to_owned(),
        ),
    ])
    .collect();
    for (annotations, expected) in cases {
        let text = cluster(&format!("pxed.dev/{annotations}"));
        let (errors, _) = findings(&text);
        let expected = expected.replace("M.", &format!("{MACHINES}.")).replace(" M:", &format!(" {MACHINES}:"));
        assert!(
            errors.len() == 1 && errors[0].starts_with(&expected),
            "wanted {expected}\ngot {errors:#?}\nof\n{text}"
        );
    }
}

#[test]
fn mistakes_on_a_talos_machine_are_errors() {
    for (annotations, expected) in [
        ("pxed.dev/machines: ''", "pxed.dev/machines: is for resources with several machines: write each setting"),
        (
            "pxed.dev/boot-policy.52-54-00-00-00-13: hold",
            "pxed.dev/boot-policy.52-54-00-00-00-13: selects a machine of several, and this is one: write pxed.dev/boot-policy",
        ),
        ("pxed.dev/hostname: a_b", "pxed.dev/hostname: \"a_b\" is not a host name"),
        (
            "pxed.dev/additional-mac-addresses: 52:54:00:00:00:12",
            "pxed.dev/additional-mac-addresses: 52:54:00:00:00:12 is already used by the machine in ",
        ),
        (
            "pxed.dev/bootPolicy: once, pxed.dev/boot-policy: once",
            "pxed.dev/boot-policy: is given twice, also as metadata.annotations.pxed.dev/bootPolicy: keep one",
        ),
    ] {
        let (errors, _) = findings(&(cluster("other.dev/x: y") + &talos_machine(13, annotations)));
        let expected = format!(": metadata.annotations.{expected}");
        assert!(errors.len() == 1 && errors[0].contains(&expected), "wanted {expected}\ngot {errors:#?}");
    }
}

/// Each case: the annotations, and the last number in the addresses of the machines that are served in spite of them.
#[test]
fn mistake_in_the_settings_of_a_machine_affects_it_alone() {
    for (annotations, expected) in [
        ("pxed.dev/machines: '{10.0.0.11: {bootPolicy: never}}'", &[12_u8][..]),
        ("pxed.dev/machines: '{10.0.0.11: {loader: /x}, 10.0.0.12: {loader: ipxe}}'", &[12]),
        ("pxed.dev/machines: '{52:54:00:00:00:12: {lodaer: ipxe}}'", &[11]),
        ("pxed.dev/machines: '{10.0.0.12: once}'", &[11]),
        ("pxed.dev/machines: '{10.0.0.12: {}, 52:54:00:00:00:12: {}}'", &[11]),
        ("pxed.dev/machines: '{10.0.0.11: {additionalMacAddresses: [01:00:5e:00:00:01]}}'", &[12]),
        ("pxed.dev/boot-policy.52-54-00-00-00-11: never", &[12]),
        ("pxed.dev/machines: '{10.0.0.11: {additionalMacAddresses: 02:00:00:00:00:01}, 02:00:00:00:00:01: {}}'", &[12]),
        (
            "pxed.dev/machines: '{10.0.0.11: {additionalMacAddresses: 02:00:00:00:00:01}}'\n\
             pxed.dev/boot-policy.02-00-00-00-00-01: hold",
            &[12],
        ),
        // Whose machines these are meant for, nobody knows.
        ("pxed.dev/machines: '{10.0.0.13: {}}'", &[]),
        ("pxed.dev/machines: '{10.0.0.11: {'", &[]),
        ("pxed.dev/loader: /x", &[]),
    ] {
        let files = Files::new(&[("c.yaml", &cluster(annotations))]);
        let loaded = Loader::new().load(&[files.directory.path().to_owned()]);
        let served: Vec<_> = loaded.inventory.machines().iter().map(|machine| machine.address.octets()[3]).collect();
        assert_eq!(served, expected, "{annotations}");
        assert!(!loaded.faults.faults.is_empty(), "{annotations}");
    }
    let machine = talos_machine(13, "pxed.dev/boot-policy: never");
    let files = Files::new(&[("c.yaml", &(cluster("other.dev/x: y") + &machine))]);
    let loaded = Loader::new().load(&[files.directory.path().to_owned()]);
    assert_eq!(loaded.inventory.machines().len(), 2);
}

/// A mistake in a machine is one error, not a second one about its settings.
#[test]
fn settings_of_a_machine_with_mistakes_are_no_further_error() {
    let text = cluster("pxed.dev/machines: '{10.0.0.11: {loader: ipxe}}'");
    for (from, to) in [("52:54:00:00:00:11", "52:54:00"), ("- address: 10.0.0.11", "- address: 10.0.0.256")] {
        let (errors, _) = findings(&text.replacen(from, to, 1));
        assert_eq!(errors.len(), 1, "{errors:#?}");
    }
    let (errors, warnings) = findings(&text.replace("  pxeServerSpec: {address: 10.0.0.1, interface: eth1}\n", ""));
    assert_eq!((errors.len(), warnings.len()), (0, 2), "{errors:#?} {warnings:#?}");
}

#[test]
fn repetitions_by_aliases_cost_little() {
    let begin = Instant::now();
    // Each level repeats the one below ten times.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", vec![below; 10].join(", ")).unwrap();
    }
    let macs: Vec<String> = (0..100_000_u32).map(|number| format!("0200{number:08x}")).collect();
    let keys: Vec<String> = (0..50_000).map(|number| format!("k{number}: v")).collect();
    let machines = |value: &str| {
        (0..10_000_u32)
            .fold(String::new(), |text, number| text + &format!("{}: {value}\n", Ipv4Addr::from(0x0a01_0000 + number)))
    };
    for text in [
        format!("{bomb}10.0.0.11: *a39\n"),
        format!("{bomb}10.0.0.11: {{additionalMacAddresses: *a39}}\n"),
        format!("{bomb}10.0.0.11: {{<<: *a39}}\n"),
        format!(
            "10.0.0.11: {{additionalMacAddresses: &macs [{}]}}\n{}",
            macs.join(", "),
            machines("{additionalMacAddresses: *macs}")
        ),
        format!("10.0.0.11: &keys {{{}}}\n{}", keys.join(", "), machines("*keys")),
        format!("10.0.0.11: &keys {{{}}}\n{}", keys.join(", "), machines("{<<: *keys}")),
        format!("10.0.0.11: {{}}\n10.0.0.12: &list [{}]\n{}", "{}, ".repeat(50_000), machines("{<<: *list}")),
    ] {
        let block = text.lines().fold("pxed.dev/machines: |\n".to_owned(), |block, line| block + "  " + line + "\n");
        let (errors, _) = findings(&cluster(&block));
        // One for each key that names no machine, and a thousand others.
        assert!((1..=11_001).contains(&errors.len()), "{} errors", errors.len());
    }
    let long = "x".repeat(1_000_000);
    for annotation in [
        format!("pxed.dev/machines: '{}'", "[".repeat(1_000_000)),
        format!("pxed.dev/machines: {long}"),
        format!("pxed.dev/machines: {{{long}: {{}}}}"),
        format!("pxed.dev/loader: {long}"),
        format!("pxed.dev/boot-policy: {long}"),
        format!("pxed.dev/hostname.52-54-00-00-00-11: {long}"),
        format!("pxed.dev/additional-mac-addresses.52-54-00-00-00-11: [{long}]"),
        format!("pxed.dev/loader: {{{long}: ipxe}}"),
    ] {
        let (errors, _) = findings(&cluster(&annotation));
        assert_eq!(errors.len(), 1);
    }
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}
