//! The machines of valid specs.

use std::{net::Ipv4Addr, sync::Arc};

use super::{Files, cluster};
use crate::model::{
    architecture::Architecture,
    inventory::{Machine, Role},
    policy::{BootPolicy, DiskRoute},
};

/// Returns the machines of one file, in the order of the spec, and the warnings.
fn load(text: &str) -> (Vec<Arc<Machine>>, Vec<String>) {
    let files = Files::new(&[("c.yaml", text)]);
    let loaded = files.load().unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    (loaded.inventory.machines().to_vec(), files.relative(&loaded.warnings))
}

fn machines(text: &str) -> Vec<Arc<Machine>> {
    load(text).0
}

fn entry(number: u8, more: &str) -> String {
    format!(
        "      - address: 10.0.0.{number}
        pxeClientSpec:
          macAddress: 52:54:00:00:00:{number}
          cpuArchitecture: amd64
{more}"
    )
}

const SCHEMATIC: &str = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

#[test]
fn machine_inherits_from_its_role() {
    let own = format!("        version: v1.14.0-rc.1\n        image: ghcr.io/siderolabs/installer:v1.14.0\n{}", "");
    let text = cluster(&format!("{}{}      - address: 10.0.0.13\n", entry(11, ""), entry(12, &own))).replace(
        "    metalSpec:\n",
        &format!(
            "    metalSpec:
      machineSpec:
        image: factory.talos.dev/installer/{SCHEMATIC}:v1.13.0
        meta: {{subnet: 24, gateway: 10.0.0.254, dnsServers: [9.9.9.9, 1.1.1.1]}}
"
        ),
    );
    let machines = machines(&text);
    // The third has no pxeClientSpec.
    let [first, second] = &machines[..] else { panic!("{machines:?}") };
    assert_eq!((&*first.cluster, first.role, first.architecture), ("lab", Role::ControlPlane, Architecture::Amd64));
    assert_eq!((first.mac.to_string().as_str(), first.address), ("52:54:00:00:00:11", Ipv4Addr::new(10, 0, 0, 11)));
    assert_eq!((&*first.version, first.schematic.as_deref()), ("v1.13.0", Some(SCHEMATIC)));
    assert_eq!((first.prefix_length, first.gateway), (Some(24), Some(Ipv4Addr::new(10, 0, 0, 254))));
    assert_eq!(&*first.dns_servers, [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)]);
    assert_eq!((&*first.site.interface, first.site.address), ("eth1", Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!((first.source.line, first.policy, first.hostname.as_deref()), (14, BootPolicy::Auto, None));
    assert_eq!((&*second.version, second.schematic.as_deref()), ("v1.14.0-rc.1", None));
}

#[test]
fn kernel_arguments_are_unchanged() {
    let arguments = "talos.config.inline=AB+/cd== a='b \"c\"'  <&>  ${mac} ü";
    for quoted in
        [arguments.to_owned(), format!("'{}'", arguments.replace('\'', "''")), format!(">-\n            {arguments}")]
    {
        let text = cluster(&entry(11, &format!("          kernelCmdlineArgs: {quoted}\n")));
        assert_eq!(&*machines(&text)[0].kernel_args, arguments, "{text}");
    }
}

#[test]
fn mac_address_survives_without_quotes_in_every_spelling() {
    for spelling in ["12:34:56:12:34:56", "123456123456", "1234.5612.3456", "12-34-56-12-34-56", "!!str 123456123456"] {
        let text = cluster(&entry(11, "").replace("52:54:00:00:00:11", spelling));
        assert_eq!(machines(&text)[0].mac.to_string(), "12:34:56:12:34:56", "{spelling}");
    }
}

#[test]
fn equivalent_encodings_and_forms_give_the_same_machines() {
    let text = cluster(&entry(11, ""));
    let expected = machines(&text);
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", text.replace('\n', "\n  "));
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
	{"apiVersion": "talos.alperen.cloud/v1alpha1", "kind": "TalosCluster", "metadata": {"name": "lab", "annotations": null},
	"spec": {"pxeServerSpec": {"address": "10.0.0.1", "interface": "eth1"}, "worker": null, "controlPlane": {
	"version": "v1.13.0", "mode": "metal", "metalSpec": {"machines": [{"address": "10.0.0.11",
	"pxeClientSpec": {"macAddress": "52:54:00:00:00:11", "cpuArchitecture": "amd64"}}]}}}}]}"#;
    for same in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        format!("%YAML 1.2\n---\n{text}...\n"),
        list,
        json.to_owned(),
    ] {
        let machines = machines(&same);
        assert!(machines.len() == 1 && machines[0].is_served_like(&expected[0]), "{same}\n{machines:?}");
    }
}

#[test]
fn other_documents_are_skipped() {
    let (machines, warnings) = load(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata: {{a: b, a: c}}\n---\n---\n# nothing\n---\n{}---
apiVersion: controlplane.cluster.x-k8s.io/v1alpha3
kind: TalosControlPlane
metadata: {{name: not-ours}}
spec: {{version: 3}}
---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosClusterAddon
metadata: {{name: cilium}}
spec: []
",
        cluster(&entry(11, "        unknown: 1\n")).replace("unknown: 1", "configPatches: [{}]")
    ));
    assert_eq!((machines.len(), warnings.len()), (1, 0), "{warnings:?}");
}

#[test]
fn anchors_aliases_and_merge_keys_are_followed() {
    let second = "      - {address: 10.0.0.12, pxeClientSpec: {<<: *client, macAddress: 52:54:00:00:00:12}}\n";
    let text = cluster(&(entry(11, "").replace("pxeClientSpec:", "pxeClientSpec: &client") + second));
    let machines = machines(&text);
    assert_eq!(machines.len(), 2);
    assert_eq!(machines[1].mac.to_string(), "52:54:00:00:00:12");
}

/// Returns a cluster `blue` of namespace `racks` with a reference to its role, which has one worker in a list.
fn by_reference(worker: &str, more: &str) -> String {
    format!(
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {{name: blue, namespace: racks, annotations: {{pxed.dev/boot-policy: always}}}}
spec:
  pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}
  workerRef: {{name: workers}}
---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata: {{name: workers, namespace: racks{worker}}}
spec:
  version: v1.13.0
  mode: metal
  metalSpec:
    machines:
    - address: 10.0.0.11
      pxeClientSpec: {{macAddress: 52:54:00:00:00:11, cpuArchitecture: arm64}}
{more}"
    )
}

fn talos_machine(number: u8, version: &str, annotations: &str) -> String {
    format!(
        "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosMachine
metadata: {{name: workers-10.0.0.{number}, namespace: racks, annotations: {{{annotations}}}}}
spec:
  endpoint: 10.0.0.{number}
  version: {version}
  workerRef: {{kind: TalosWorker, name: workers, namespace: racks}}
  machineSpec: {{meta: {{hostname: m{number}}}}}
  pxeClientSpec: {{macAddress: 52:54:00:00:00:{number}, cpuArchitecture: arm64}}
"
    )
}

#[test]
fn references_are_resolved_within_the_namespace() {
    let machines = machines(&by_reference("", ""));
    assert_eq!((&*machines[0].cluster, machines[0].role, machines.len()), ("racks/blue", Role::Worker, 1));
}

#[test]
fn talos_machine_is_a_machine_of_the_cluster_of_its_role() {
    let machines = machines(&by_reference("", &talos_machine(12, "v1.12.0", "")));
    let machine = &machines[1];
    assert_eq!(
        (&*machine.cluster, &*machine.version, machine.address),
        ("racks/blue", "v1.12.0", Ipv4Addr::new(10, 0, 0, 12))
    );
    assert_eq!((machine.hostname.as_deref(), machine.policy), (Some("m12"), BootPolicy::Always));
}

#[test]
fn copy_of_a_listed_machine_is_the_same_machine() {
    let copy = talos_machine(11, "v1.12.0", "pxed.dev/boot-policy: hold");
    let (machines, warnings) = load(&by_reference("", &copy));
    assert_eq!((machines.len(), warnings.len()), (1, 0), "{warnings:?}");
    assert_eq!(
        (&*machines[0].version, machines[0].policy, &machines[0].hostname),
        ("v1.13.0", BootPolicy::Hold, &None)
    );

    let files = Files::new(&[("c.yaml", &by_reference("", &copy.replace("arm64", "amd64")))]);
    let Err(errors) = files.load() else { panic!("loaded") };
    let lines = files.relative(&errors.errors);
    assert!(
        lines.len() == 1 && lines[0].contains("spec.pxeClientSpec.cpuArchitecture: differs from the same machine in"),
        "{lines:?}"
    );
}

#[test]
fn copies_of_an_inline_role_add_no_machines() {
    let role = "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosControlPlane
metadata: {name: lab}
spec:
  version: v1.13.0
  mode: metal
  metalSpec:
    machines: [{address: 10.0.0.11, pxeClientSpec: {macAddress: '52:54:00:00:00:11', cpuArchitecture: amd64}}]
";
    let machine = "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosMachine
metadata: {name: lab-10.0.0.11}
spec:
  endpoint: 10.0.0.11
  version: v1.13.0
  controlPlaneRef: {name: lab}
  pxeClientSpec: {macAddress: '52:54:00:00:00:11', cpuArchitecture: amd64}
";
    let (machines, warnings) = load(&format!("{}{role}{machine}", cluster(&entry(11, ""))));
    assert_eq!((machines.len(), warnings.len()), (1, 0), "{warnings:?}");
}

#[test]
fn nearest_boot_policy_counts() {
    let of_role = ", annotations: {pxed.dev/boot-policy: once}";
    let of_machine = ", annotations: {pxed.dev/boot-policy: once, pxed.dev/boot-policy.52-54-00-00-00-11: auto}";
    let held = talos_machine(11, "v1.13.0", "pxed.dev/boot-policy: hold");
    for (role, copy, expected) in [
        ("", "", BootPolicy::Always),
        (of_role, "", BootPolicy::Once),
        (of_machine, "", BootPolicy::Auto),
        (of_machine, held.as_str(), BootPolicy::Hold),
    ] {
        assert_eq!(machines(&by_reference(role, copy))[0].policy, expected);
    }
}

#[test]
fn nearest_disk_route_counts() {
    let cluster_wide = |text: &str| text.replace("boot-policy: always", "disk-route: exit");
    let of_role = ", annotations: {pxed.dev/disk-route: sanboot}";
    let of_machine = ", annotations: {pxed.dev/disk-route: sanboot, pxed.dev/disk-route.52-54-00-00-00-11: not-found}";
    let own = talos_machine(11, "v1.13.0", "pxed.dev/disk-route: auto");
    assert_eq!(machines(&by_reference("", ""))[0].disk_route, DiskRoute::Auto);
    for (role, copy, expected) in [
        ("", "", DiskRoute::Exit),
        (of_role, "", DiskRoute::Sanboot),
        (of_machine, "", DiskRoute::NotFound),
        (of_machine, own.as_str(), DiskRoute::Auto),
    ] {
        assert_eq!(machines(&cluster_wide(&by_reference(role, copy)))[0].disk_route, expected);
    }
}

#[test]
fn host_name_is_given_to_one_machine_or_to_none() {
    let named =
        |text: &str| text.replace("    metalSpec:\n", "    metalSpec:\n      machineSpec: {meta: {hostname: alone}}\n");
    let machines = machines(&named(&cluster(&entry(11, ""))));
    assert_eq!(machines[0].hostname.as_deref(), Some("alone"));
    let (machines, warnings) = load(&named(&cluster(&(entry(11, "") + &entry(12, "")))));
    assert!(machines.iter().all(|machine| machine.hostname.is_none()));
    assert_eq!(
        warnings,
        [
            "c.yaml:10:38: spec.controlPlane.metalSpec.machineSpec.meta.hostname: \"alone\" would be the name of 2 machines: \
         DHCP gives it to none of them"
        ]
    );
}

#[test]
fn machine_ref_finds_its_address() {
    let reference =
        "      - machineRef: {apiVersion: metal3.io/v1alpha1, kind: BareMetalHost, name: node, fieldPath: 'PATH'}
        pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}
";
    let host = "---
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: node}
status: {nics: [{name: eno1}, {name: eno2, ip: 10.0.0.11}]}
";
    let copy = "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosMachine
metadata: {name: lab-10.0.0.11}
spec:
  endpoint: 10.0.0.11
  version: v1.13.0
  controlPlaneRef: {name: lab}
  pxeClientSpec: {macAddress: '52:54:00:00:00:11', cpuArchitecture: amd64}
";
    let good = cluster(&reference.replace("PATH", ".status.nics[1].ip"));
    for text in [format!("{good}{host}"), format!("{good}{copy}")] {
        let machines = machines(&text);
        assert_eq!((machines.len(), machines[0].address), (1, Ipv4Addr::new(10, 0, 0, 11)));
    }
    let bad = cluster(&reference.replace("PATH", "status.ip"));
    for (text, expected) in [
        (format!("{bad}{host}"), "has no IPv4 address at \"status.ip\", only at status.nics[1].ip"),
        (good, "BareMetalHost \"node\" of namespace \"default\" is not in these files"),
    ] {
        let Err(errors) = Files::new(&[("c.yaml", &text)]).load() else { panic!("loaded") };
        assert!(errors.errors.len() == 1 && errors.to_string().contains(expected), "{errors}");
    }
}

#[test]
fn directories_are_read_sorted_and_flat_and_each_file_once() {
    let named = |name: &str, number| cluster(&entry(number, "")).replace("name: lab", &format!("name: {name}"));
    let files = Files::new(&[
        ("b.yml", &named("b", 12)),
        ("a.yaml", &named("a", 11)),
        (".hidden.yaml", "a: ["),
        ("notes.txt", "a: ["),
    ]);
    std::fs::create_dir(files.path("sub.yaml")).unwrap();
    let directory = files.directory.path().to_owned();
    let loaded = super::super::load(&[directory, files.path("a.yaml")]).unwrap();
    let clusters: Vec<_> = loaded.inventory.machines().iter().map(|machine| &*machine.cluster).collect();
    assert_eq!((clusters, loaded.warnings.len()), (vec!["a", "b"], 0));
}
