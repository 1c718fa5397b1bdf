//! Mistakes are reported with their line and field, all of them at once.

use super::{Files, cluster};

/// Returns the findings on one file, as `line:column: field: message`.
pub(super) fn findings(text: &str) -> (Vec<String>, Vec<String>) {
    let files = Files::new(&[("x", "")]);
    files.write("c.yaml", text);
    let strip = |findings: &[_]| -> Vec<String> {
        files.relative(findings).into_iter().map(|line| line.replace("c.yaml:", "")).collect()
    };
    match files.load() {
        Ok(loaded) => (Vec::new(), strip(&loaded.warnings)),
        Err(errors) => (strip(&errors.errors), strip(&errors.warnings)),
    }
}

fn errors(text: &str) -> Vec<String> {
    findings(text).0
}

pub(super) const ENTRY: &str = "      - address: 10.0.0.11
        pxeClientSpec:
          macAddress: 52:54:00:00:00:11
          cpuArchitecture: amd64
";

#[test]
fn wrong_values_are_reported_with_their_place() {
    const MACHINE: &str = "spec.controlPlane.metalSpec.machines[0]";
    // The text to replace in ENTRY, its replacement, and the place, field and beginning of the message.
    let cases = [
        ("10.0.0.11", "10.0.0.256", "11:18", "address", "\"10.0.0.256\" is not an IPv4 address"),
        ("10.0.0.11", "0.0.0.0", "11:18", "address", "0.0.0.0 does not name a host"),
        ("10.0.0.11", "255.255.255.255", "11:18", "address", "255.255.255.255 is a broadcast or reserved address"),
        ("10.0.0.11", "224.0.0.1", "11:18", "address", "224.0.0.1 is a multicast address"),
        ("10.0.0.11", "127.0.0.1", "11:18", "address", "127.0.0.1 is a loopback address"),
        ("10.0.0.11", "10.0.0.1", "11:18", "address", "10.0.0.1 is the address of a pxeServerSpec"),
        ("10.0.0.11", "10.0.0.11/24", "11:18", "address", "\"10.0.0.11/24\" has a prefix length: write 10.0.0.11 here"),
        ("10.0.0.11", "[10.0.0.11]", "11:9", "address", "is a list, but must be text"),
        ("address: 10.0.0.11", "version: v1.13.0", "11:9", "address", "is missing: write the address"),
        (
            "address: 10.0.0.11",
            "address: 10.0.0.11\n        machineRef: {kind: A, name: b}",
            "12:9",
            "machineRef",
            "conflicts with address",
        ),
        (
            "address: 10.0.0.11",
            "address: 10.0.0.11\n        version: 1.13",
            "12:18",
            "version",
            "\"1.13\" is not a Talos version",
        ),
        (
            "52:54:00:00:00:11",
            "52:54:00:00:00",
            "13:23",
            "pxeClientSpec.macAddress",
            "\"52:54:00:00:00\" is not a MAC address",
        ),
        (
            "52:54:00:00:00:11",
            "00:00:00:00:00:00",
            "13:23",
            "pxeClientSpec.macAddress",
            "00:00:00:00:00:00 is the zero address",
        ),
        (
            "52:54:00:00:00:11",
            "ff:ff:ff:ff:ff:ff",
            "13:23",
            "pxeClientSpec.macAddress",
            "ff:ff:ff:ff:ff:ff is the broadcast address",
        ),
        ("macAddress: 52:54:00:00:00:11", "macAddress:", "13:11", "pxeClientSpec.macAddress", "is missing"),
        ("amd64", "x86_64", "14:28", "pxeClientSpec.cpuArchitecture", "is \"x86_64\": write amd64"),
        ("amd64", "riscv64", "14:28", "pxeClientSpec.cpuArchitecture", "is \"riscv64\": write amd64 or arm64"),
        (
            "amd64",
            "amd64\n          kernelCmdlineArgs: {a: b}",
            "15:11",
            "pxeClientSpec.kernelCmdlineArgs",
            "is a mapping, but must be text",
        ),
        (
            "amd64",
            "amd64\n          kernelCmdlineArgs: |\n            a=b",
            "16:13",
            "pxeClientSpec.kernelCmdlineArgs",
            "has a line break",
        ),
        (
            "amd64",
            "amd64\n          kernelCmdlineArgs: \"a\\0\"",
            "15:30",
            "pxeClientSpec.kernelCmdlineArgs",
            "has the control character U+0000",
        ),
        (
            "amd64",
            "amd64\n          cpuArchitecture: arm64",
            "15:11",
            "pxeClientSpec.cpuArchitecture",
            "is given twice, first in line 14",
        ),
    ];
    for (from, to, place, field, message) in cases {
        let text = cluster(&ENTRY.replace(from, to));
        check(&text, &format!("{place}: {MACHINE}.{field}: {message}"));
    }
}

/// Checks that there is exactly one error, with this beginning.
fn check(text: &str, expected: &str) {
    let errors = errors(text);
    assert!(
        errors.len() == 1 && errors[0].starts_with(expected),
        "wanted {expected}\ngot    {}\nfor\n{text}",
        errors.join("\n       ")
    );
}

#[test]
fn wrong_roles_and_servers_are_reported_with_their_place() {
    let text = cluster(ENTRY);
    let cases = [
        (
            "{address: 10.0.0.1, i",
            "{address: 999.999.999.999, i",
            "5:28: spec.pxeServerSpec.address: \"999.999.999.999\" is not",
        ),
        (
            "{address: 10.0.0.1, i",
            "{i",
            "5:3: spec.pxeServerSpec.address: is missing: write the address of this server",
        ),
        (
            "interface: eth1",
            "interface: a/b",
            "5:49: spec.pxeServerSpec.interface: \"a/b\" is not a Linux interface name",
        ),
        ("eth1", "provisioning-net-0", "5:49: spec.pxeServerSpec.interface: \"provisioning-net-0\" is not a Linux"),
        ("mode: metal", "mode: metall", "8:11: spec.controlPlane.mode: is \"metall\": write metal, container or cloud"),
        ("    mode: metal\n", "", "6:3: spec.controlPlane.mode: is missing: write metal"),
        ("v1.13.0", "1.13.0", "7:14: spec.controlPlane.version: \"1.13.0\" is not a Talos version"),
        ("v1.13.0", "v1.13.0-", "7:14: spec.controlPlane.version: \"v1.13.0-\" is not a Talos version"),
        ("{name: lab}", "{}", "3:1: metadata.name: is missing: every resource has a name"),
        (
            "apiVersion: talos.alperen.cloud/v1alpha1\n",
            "",
            "1:1: apiVersion: is missing: write talos.alperen.cloud/v1alpha1",
        ),
        (
            "{name: lab}",
            "{name: lab, annotations: {pxed.dev/boot-policy: never}}",
            "3:59: metadata.annotations.pxed.dev/boot-policy: \"never\" is not a boot policy",
        ),
        (
            "{name: lab}",
            "{name: lab, annotations: {pxed.dev/disk-route: reboot}}",
            "3:58: metadata.annotations.pxed.dev/disk-route: \"reboot\" is not a disk route: write auto, exit, sanboot or \
             not-found",
        ),
        (
            "  controlPlane:",
            "  controlPlaneRef: {name: a}\n  controlPlane:",
            "6:3: spec.controlPlaneRef: conflicts with controlPlane: keep one",
        ),
        ("spec:", "kind: TalosWorker\nspec:", "4:1: kind: is given twice, first in line 2: keep one"),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        check(&text.replacen(from, to, 1), expected);
    }
}

#[test]
fn syntax_errors_are_reported_for_each_document() {
    let text = format!("a: [1\n---\n{}---\nkind: TalosCluster\n\tx: 1\n", cluster(ENTRY));
    let errors = errors(&text);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains(": not YAML: "), "{errors:?}");
    assert!(errors[1].starts_with("18:") && errors[1].contains("indent with spaces, not with tabs"), "{errors:?}");
}

#[test]
fn machines_as_bare_strings_are_each_an_error() {
    let text = "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata:
  name: sample
spec:
  version: v1.13.0
  mode: metal
  metalSpec:
    machines:
    - \"10.0.153.58\"
    - \"10.0.153.59\"";
    let message = "is not a mapping: write `- address: 10.0.0.11` instead of a bare address";
    assert_eq!(
        errors(text),
        [
            format!("10:7: spec.metalSpec.machines[0]: {message}"),
            format!("11:7: spec.metalSpec.machines[1]: {message}"),
        ]
    );
}

#[test]
fn spec_without_a_cluster_is_an_error() {
    for text in ["", "# nothing\n", "kind: ConfigMap\n", "null\n---\n"] {
        let (errors, _) = findings(text);
        assert!(errors.len() == 1 && errors[0].ends_with("has no TalosCluster: is it the right path?"), "{errors:?}");
    }
}

/// A running pxed takes a file that becomes empty for a mistake; `validate` must not pass over it.
#[test]
fn empty_file_is_a_warning() {
    let files = Files::new(&[("a.yaml", &cluster(ENTRY)), ("b.yaml", ""), ("c.yaml", "# no machines yet\n")]);
    let loaded = files.load().unwrap();
    assert_eq!(files.relative(&loaded.warnings), ["b.yaml: is empty"]);
    assert_eq!(loaded.inventory.machines().len(), 1);
}

#[test]
fn duplicates_name_both_places() {
    let text = cluster(&ENTRY.repeat(2));
    assert!(
        matches!(&errors(&text)[..], [address, mac]
        if address.starts_with("15:18: spec.controlPlane.metalSpec.machines[1].address: 10.0.0.11 is already used by the machine in ")
            && address.contains(" in 11: give")
            && mac.starts_with("17:23: spec.controlPlane.metalSpec.machines[1].pxeClientSpec.macAddress: 52:54:00:00:00:11 is already used by ")
            && mac.contains(" in 13: give")),
        "{:?}",
        errors(&text)
    );
    check(
        &format!("{}---\n{}", cluster(ENTRY), cluster("      - {}\n")),
        "16:1: metadata.name: TalosCluster \"lab\" of namespace \"default\" is given twice",
    );
}

#[test]
fn dangling_reference_lists_the_existing_names() {
    let cluster = "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {name: lab, namespace: racks}
spec:
  pxeServerSpec: {address: 10.0.0.1, interface: eth1}
  workerRef: {name: worker}
";
    let worker = |name: &str, namespace: &str| {
        format!(
            "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  version: v1.13.0
  mode: metal
  metalSpec: {{machines: [{{address: 10.0.0.2}}]}}
"
        )
    };
    let place = "6:21: spec.workerRef.name: there is no TalosWorker \"worker\" in namespace \"racks\"";
    check(
        &format!("{cluster}{}", worker("worker", "default")),
        &format!("{place}, and no other TalosWorker: add its document"),
    );
    let others = worker("blue", "racks") + &worker("amber", "racks");
    check(&format!("{cluster}{others}"), &format!("{place}, only amber, blue"));
    let second = cluster.replace("lab", "second").replace("10.0.0.1", "10.0.0.9");
    let twice = format!("{cluster}---\n{second}{}", worker("worker", "racks"));
    check(&twice, "13:21: spec.workerRef.name: TalosWorker \"worker\" already belongs to cluster \"lab\"");
}

#[test]
fn errors_come_all_at_once_in_the_order_of_files_and_lines() {
    let bad = cluster(&ENTRY.replace("10.0.0.11", "10.0.0").replace("amd64", "sparc"));
    let files = Files::new(&[("a.yaml", &bad), ("b.yaml", &bad.replace("name: lab", "name: b")), ("c.yml", "a: [")]);
    let Err(errors) = files.load() else { panic!("loaded") };
    let places: Vec<String> = files
        .relative(&errors.errors)
        .iter()
        .map(|line| line.split(": ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(places, ["a.yaml:11:18", "a.yaml:14:28", "b.yaml:11:18", "b.yaml:14:28", "c.yml:2:1"]);
}

#[test]
fn unreadable_files_are_errors() {
    let files = Files::new(&[]);
    files.write("latin1.yaml", b"a: b\nname: caf\xe9\n");
    let missing = files.path("missing.yaml");
    let fifo = files.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let Err(errors) = super::super::load(&[files.path("latin1.yaml"), missing, fifo]) else { panic!("loaded") };
    let mut lines = files.relative(&errors.errors);
    lines.sort();
    assert_eq!(
        lines,
        [
            "fifo: is not a regular file: write the spec to one, which is read again when it changes",
            "latin1.yaml:2:10: is not UTF-8 from here on: save the file as UTF-8",
            "missing.yaml: cannot be read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn likely_mistakes_are_warnings() {
    let long = format!("amd64\n          kernelCmdlineArgs: {}", "a".repeat(1801));
    let cases = [
        (
            ENTRY.replace("amd64", "amd64\n          kernelCmdLineArgs: a"),
            "15:11: spec.controlPlane.metalSpec.machines[0].pxeClientSpec.kernelCmdLineArgs: is an unknown field",
        ),
        (
            ENTRY.replace("amd64", &long),
            "15:30: spec.controlPlane.metalSpec.machines[0].pxeClientSpec.kernelCmdlineArgs: is 1801 bytes long",
        ),
    ];
    for (machine, expected) in cases {
        let (errors, warnings) = findings(&cluster(&machine));
        assert_eq!(errors, [""; 0]);
        assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
    }
    let text = cluster(ENTRY);
    let cases = [
        (
            "  pxeServerSpec: {address: 10.0.0.1, interface: eth1}\n",
            "",
            "1:1: spec.pxeServerSpec: is missing, so 1 machine is not served",
        ),
        ("mode: metal", "mode: container", "10:7: spec.controlPlane.metalSpec.machines: are not booted"),
        ("    version: v1.13.0\n", "", "6:3: spec.controlPlane.version: is missing: v1.13.0 is assumed"),
        ("v1alpha1", "v1beta1", "1:13: apiVersion: talos.alperen.cloud/v1beta1 is not known and is read as"),
        (
            "{name: lab}",
            "{name: lab, annotations: {pxed.dev/disk-route.52-54-00-00-00-13: exit}}",
            "3:37: metadata.annotations.pxed.dev/disk-route.52-54-00-00-00-13: no served machine has the MAC address \
             52:54:00:00:00:13",
        ),
        (
            "{name: lab}",
            "{name: lab, annotations: {pxed.dev/boot-policy.52-54-00-00-00-12: hold}}",
            "3:37: metadata.annotations.pxed.dev/boot-policy.52-54-00-00-00-12: no served machine has the MAC address \
             52:54:00:00:00:12",
        ),
        (
            "{name: lab}",
            "{name: lab, annotations: {pxed.dev/boot-policy.10.0.0.99: hold}}",
            "3:37: metadata.annotations.pxed.dev/boot-policy.10.0.0.99: no served machine has the address 10.0.0.99",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        let (errors, warnings) = findings(&text.replacen(from, to, 1));
        assert_eq!(errors, [""; 0]);
        assert!(warnings.iter().any(|warning| warning.starts_with(expected)), "wanted {expected}\ngot {warnings:?}");
    }
}

#[test]
fn addresses_must_be_those_of_hosts_in_their_network() {
    let with_meta = |address: &str, meta: &str| {
        cluster(&ENTRY.replace("10.0.0.11", address))
            .replace("    metalSpec:\n", &format!("    metalSpec:\n      machineSpec: {{meta: {{{meta}}}}}\n"))
    };
    check(
        &with_meta("10.0.0.255", "subnet: 24"),
        "12:18: spec.controlPlane.metalSpec.machines[0].address: 10.0.0.255 is the broadcast address of its /24 network",
    );
    check(
        &with_meta("10.0.4.0", "subnet: 22"),
        "12:18: spec.controlPlane.metalSpec.machines[0].address: 10.0.4.0 is the network address of its /22 network",
    );
    check(
        &with_meta("10.0.4.4", "subnet: 33"),
        "10:36: spec.controlPlane.metalSpec.machineSpec.meta.subnet: \"33\" is not a prefix length",
    );
    check(
        &with_meta("10.0.4.4", "gateway: fe80"),
        "10:37: spec.controlPlane.metalSpec.machineSpec.meta.gateway: \"fe80\" is not an IPv4 address",
    );
    check(
        &with_meta("10.0.4.4", "hostname: a_b"),
        "10:38: spec.controlPlane.metalSpec.machineSpec.meta.hostname: \"a_b\" is not a host name",
    );
    let (errors, warnings) = findings(&with_meta("10.0.5.4", "subnet: 24, gateway: 10.0.4.1, dnsServers: ['fd00::1']"));
    assert_eq!(errors, [""; 0]);
    assert!(
        warnings[0].starts_with(
            "10:49: spec.controlPlane.metalSpec.machineSpec.meta.gateway: 10.0.4.1 is not in the network 10.0.5.4/24"
        ),
        "{warnings:?}"
    );
    assert!(
        warnings[1]
            .starts_with("10:72: spec.controlPlane.metalSpec.machineSpec.meta.dnsServers[0]: is an IPv6 address"),
        "{warnings:?}"
    );
}
