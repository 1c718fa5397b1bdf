//! `pxed.dev/vlans`.

use std::{net::Ipv4Addr, sync::Arc};

use super::{Files, errors::findings};
use crate::model::inventory::{Inventory, Machine};

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
  workerRef: {{name: rack}}
---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata: {{name: rack}}
spec:
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

fn load(text: &str) -> Arc<Inventory> {
    let loaded = Files::new(&[("c.yaml", text)]).load().unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.inventory
}

fn machine(inventory: &Inventory, number: u8) -> Arc<Machine> {
    Arc::clone(inventory.by_address(Ipv4Addr::new(10, 0, 0, number)).unwrap())
}

/// Returns the errors of a cluster with this value.
fn errors(value: &str) -> Vec<String> {
    findings(&cluster(&format!("pxed.dev/vlans: {value}"))).0
}

#[test]
fn vlans_are_a_list_in_any_form() {
    let forms: [(&str, &[u16]); 13] = [
        ("100", &[100]),
        ("'100'", &[100]),
        ("\"100, 200\"", &[100, 200]),
        ("100,200", &[100, 200]),
        ("200 100", &[100, 200]),
        ("[100, 200]", &[100, 200]),
        ("'[200, 100, 100]'", &[100, 200]),
        ("[\"100\", 200]", &[100, 200]),
        ("[1, 4094]", &[1, 4094]),
        ("|-\n  - 7\n  - 100", &[7, 100]),
        ("[]", &[]),
        ("''", &[]),
        ("null", &[]),
    ];
    for (form, expected) in forms {
        let inventory = load(&cluster(&format!("pxed.dev/vlans: {form}")));
        for number in [11, 12] {
            assert_eq!(*machine(&inventory, number).vlans, *expected, "{form}");
        }
        // The nearest counts, also if it has none.
        if form != "null" {
            let lines = format!("pxed.dev/vlans: 5\npxed.dev/vlans.52-54-00-00-00-11: {form}");
            let inventory = load(&cluster(&lines));
            assert_eq!(
                (&*machine(&inventory, 11).vlans, &*machine(&inventory, 12).vlans),
                (expected, &[5][..]),
                "{form}"
            );
        }
    }
    let in_map = "pxed.dev/machines: |\n  10.0.0.11: {vlans: [7, 100]}";
    assert_eq!(*machine(&load(&cluster(in_map)), 11).vlans, [7, 100]);
    assert!(machine(&load(&cluster("")), 11).vlans.is_empty());
    let of_role = cluster("pxed.dev/vlans: 5")
        .replace("{name: rack}\nspec", "{name: rack, annotations: {pxed.dev/vlans: 100}}\nspec");
    assert_eq!(*machine(&load(&of_role), 11).vlans, [100]);
}

#[test]
fn vlans_that_do_not_exist_are_errors_of_their_object() {
    for wrong in ["0", "4095", "4096", "65636", "-1", "+1", "abc", "100-110", "1.5", "'100, x'", "true", "0x64"] {
        let errors = errors(wrong);
        let [error] = &errors[..] else { panic!("{wrong}: {errors:?}") };
        assert!(error.contains("6:") && error.contains("metadata.annotations.pxed.dev/vlans: "), "{error}");
        assert!(error.contains("VLAN") && (wrong == "0" || error.contains("from 1 to 4094")), "{error}");
    }
    let several = errors("[0, 100, 4095]");
    assert!(several.len() == 2 && several[0].contains("vlans[0]") && several[1].contains("vlans[2]"), "{several:?}");
    let mapping = errors("{100: 200}");
    assert!(mapping.len() == 1 && mapping[0].contains("must be a list"), "{mapping:?}");
    let many = (1..=65).map(|vlan| vlan.to_string()).collect::<Vec<_>>().join(", ");
    let many = errors(&format!("[{many}]"));
    assert!(many.len() == 1 && many[0].contains("at most 64"), "{many:?}");
}
