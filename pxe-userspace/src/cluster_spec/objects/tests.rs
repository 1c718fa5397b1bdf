#![expect(clippy::needless_pass_by_value, reason = "literals of JSON are passed as they are")]

use std::{cell::RefCell, fmt::Write as _};

use serde_json::{Value, json};

use super::*;
use crate::model::api_object::{ApiKind, ObjectKey};

/// Makes an object, as the API gives it.
fn object(kind: ApiKind, namespace: &str, name: &str, annotations: Value, spec: Value) -> ApiObject {
    let text = json!({
        "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": kind.name(),
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations}, "spec": spec,
    });
    let key = ObjectKey { kind, namespace: namespace.into(), name: name.into() };
    ApiObject { key, uid: "u".into(), created: "2026-01-01T00:00:00Z".into(), text: text.to_string().into() }
}

fn machines(number: std::ops::Range<u8>) -> Value {
    let machine = |n: u8| {
        json!({
            "address": format!("10.0.0.{n}"),
            "pxeClientSpec": {"macAddress": format!("52:54:00:00:00:{n:02x}"), "cpuArchitecture": "amd64"},
        })
    };
    number.map(machine).collect()
}

/// Returns a role with what the API server fills in.
fn role(machines: Value) -> Value {
    json!({
        "version": "v1.13.0", "kubeVersion": "v1.35.0", "mode": "metal", "deletionPolicy": "reset", "replicas": 1,
        "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "metalSpec": {
            "machines": machines,
            "machineSpec": {"airGap": false, "allowSchedulingOnControlPlanes": false, "imageCache": false, "wipe": false},
        },
    })
}

fn cluster(namespace: &str, name: &str, machines: Value) -> ApiObject {
    let spec = json!({
        "pxeServerSpec": {"address": "10.0.0.1", "interface": "eth1"}, "controlPlane": role(machines),
    });
    object(ApiKind::TalosCluster, namespace, name, json!({}), spec)
}

/// Returns the `TalosMachine` that the operator derives.
fn derived(namespace: &str, owner: &str, number: u8, annotations: Value) -> ApiObject {
    let address = format!("10.0.0.{number}");
    let spec = json!({
        "endpoint": address, "version": "v1.13.0", "deletionPolicy": "reset",
        "configRef": {"key": "", "name": ""}, "controlPlaneRef": {"name": owner, "namespace": namespace, "kind": "TalosControlPlane"},
        "machineSpec": {"airGap": false, "allowSchedulingOnControlPlanes": false, "imageCache": false, "wipe": false},
        "pxeClientSpec": {"macAddress": format!("52:54:00:00:00:{number:02x}"), "cpuArchitecture": "amd64"},
    });
    object(ApiKind::TalosMachine, namespace, &format!("{owner}-{address}"), annotations, spec)
}

/// A spec in the API, and what became of it.
struct Rig {
    spec: Objects,
    inventory: SharedInventory,
    faults: SharedSpecFaults,
}

impl Rig {
    fn new(is_strict: bool) -> Self {
        let (inventory, faults) = (SharedInventory::default(), SharedSpecFaults::default());
        let spec = Objects::new(Loader::new(), Arc::clone(&inventory), Arc::clone(&faults), is_strict);
        Self { spec, inventory, faults }
    }

    /// Puts the objects in force. Returns the last bytes of the machines' addresses, and all errors.
    fn load(&mut self, objects: &[ApiObject]) -> (Vec<u8>, String) {
        self.spec.reload(objects, |_, _| {});
        let mut errors = String::new();
        self.faults.load().faults.iter().for_each(|fault| _ = writeln!(errors, "{fault}"));
        let mut numbers: Vec<_> = self.inventory.load().machines().iter().map(|m| m.address.octets()[3]).collect();
        numbers.sort_unstable();
        (numbers, errors)
    }
}

#[test]
fn object_is_named_in_place_of_file_and_line() {
    let mut rig = Rig::new(false);
    let mut list = machines(10..13);
    list[1]["address"] = json!("10.0.0.999");
    let (served, errors) = rig.load(&[cluster("ns", "c", list)]);
    assert_eq!(served, [10, 12]);
    let field = "TalosCluster ns/c: spec.controlPlane.metalSpec.machines[1].address: ";
    assert!(errors.starts_with(field) && errors.lines().count() == 1, "{errors}");
    let source = rig.inventory.load().machines()[0].source.to_string();
    assert_eq!(source, "TalosCluster ns/c");
}

#[test]
fn what_the_operator_derives_counts_once_and_is_no_mistake() {
    let mut rig = Rig::new(true);
    let derived_role = object(ApiKind::TalosControlPlane, "ns", "c", json!({}), role(machines(10..12)));
    let hold = json!({"pxed.dev/boot-policy": "hold"});
    let objects = [
        cluster("ns", "c", machines(10..12)),
        derived_role,
        derived("ns", "c", 10, json!({})),
        derived("ns", "c", 11, hold),
    ];
    let (served, errors) = rig.load(&objects);
    assert_eq!((served, &*errors), (vec![10, 11], ""));
    let policies: Vec<_> = rig.inventory.load().machines().iter().map(|m| format!("{:?}", m.policy)).collect();
    assert_eq!(policies, ["Auto", "Hold"]);
}

#[test]
fn roles_by_reference_and_other_namespaces_are_kept_apart() {
    let mut rig = Rig::new(false);
    let spec =
        json!({"pxeServerSpec": {"address": "10.0.0.1", "interface": "eth1"}, "controlPlaneRef": {"name": "cp"}});
    let by_reference = |namespace| object(ApiKind::TalosCluster, namespace, "c", json!({}), spec.clone());
    let role_of = |namespace, list| object(ApiKind::TalosControlPlane, namespace, "cp", json!({}), role(list));
    let objects = [
        by_reference("a"),
        role_of("a", machines(10..12)),
        by_reference("b"),
        role_of("b", machines(20..22)),
        // It belongs to the pool that its reference names.
        derived("b", "cp", 30, json!({})),
    ];
    assert_eq!(rig.load(&objects), (vec![10, 11, 20, 21, 30], String::new()));
}

#[test]
fn duplicates_across_namespaces_cost_the_later_one_alone() {
    let mut rig = Rig::new(false);
    let mut copy = cluster("b", "copy", machines(10..13));
    copy.created = "2026-02-01T00:00:00Z".into();
    let first = cluster("z", "first", machines(10..11));
    let (served, errors) = rig.load(&[copy.clone(), first.clone()]);
    assert_eq!(served, [10, 11, 12]);
    assert!(
        errors.contains("TalosCluster b/copy: ")
            && errors.contains("is already used by the machine in TalosCluster z/first: "),
        "{errors}"
    );
    assert!(!errors.contains("first:0"), "{errors}");
    let of_first =
        rig.inventory.load().machines().iter().find(|m| m.address.octets()[3] == 10).unwrap().cluster.to_string();
    assert!(of_first.contains("first"), "{of_first}");
    // The other order decides alike.
    let mut other = Rig::new(false);
    assert_eq!(other.load(&[first, copy]), (served, errors));
}

#[test]
fn deleted_objects_are_gone_at_once_even_the_last() {
    let mut rig = Rig::new(false);
    let [a, b] = [cluster("ns", "a", machines(10..12)), cluster("ns", "b", machines(20..22))];
    assert_eq!(rig.load(&[a.clone(), b.clone()]).0, [10, 11, 20, 21]);
    assert_eq!(rig.load(&[b]), (vec![20, 21], String::new()));
    assert_eq!(rig.load(&[]), (vec![], String::new()));
    assert!(!rig.faults.load().is_awaited);
    assert_eq!(rig.load(&[a]).0, [10, 11]);
}

#[test]
fn object_with_a_mistake_stays_in_its_last_good_version() {
    let mut rig = Rig::new(false);
    let other = cluster("ns", "other", machines(20..21));
    rig.load(&[cluster("ns", "c", machines(10..12)), other.clone()]);
    let mut spec: Value = serde_json::from_str(&cluster("ns", "c", machines(11..13)).text).unwrap();
    spec["spec"]["pxeServerSpec"]["address"] = json!("10.0.0.256");
    let broken = ApiObject { text: spec.to_string().into(), ..cluster("ns", "c", json!([])) };
    let (served, errors) = rig.load(&[broken, other.clone()]);
    assert_eq!(served, [10, 11, 20]);
    assert!(
        errors.contains("TalosCluster ns/c: spec.pxeServerSpec.address: ") && errors.contains("kept 2 machines"),
        "{errors}"
    );
    assert_eq!(rig.load(&[cluster("ns", "c", machines(11..13)), other]), (vec![11, 12, 20], String::new()));
}

#[test]
fn strict_spec_with_any_error_stays_as_it_was() {
    let mut rig = Rig::new(true);
    rig.load(&[cluster("ns", "c", machines(10..12))]);
    let mut list = machines(10..14);
    list[3]["pxeClientSpec"]["macAddress"] = json!("nonsense");
    assert_eq!(rig.load(&[cluster("ns", "c", list)]).0, [10, 11]);
}

#[test]
fn objects_of_any_shape_cost_only_themselves() {
    let good = || cluster("ns", "good", machines(10..11));
    let odd = [
        json!(7),
        json!([]),
        Value::Null,
        json!({"controlPlane": 7}),
        json!({"controlPlane": {"metalSpec": {"machines": {}}}}),
        json!({"pxeServerSpec": [], "worker": "x"}),
        json!({"controlPlane": role(json!([1, null, {}, {"pxeClientSpec": 5}]))}),
        json!({"pxeClientSpec": {}}),
        json!({"pxeClientSpec": {"macAddress": 5}, "controlPlaneRef": 5, "endpoint": []}),
    ];
    for kind in ApiKind::ALL {
        for spec in &odd {
            for annotations in [json!({}), json!(5), json!({"pxed.dev/machines": "{", "pxed.dev/boot-policy": 7})] {
                let mut rig = Rig::new(false);
                let (served, errors) = rig.load(&[object(kind, "a", "odd", annotations, spec.clone()), good()]);
                assert_eq!(served, [10], "{kind} {spec}: {errors}");
                assert!(errors.lines().all(|line| line.starts_with(&format!("{kind} a/odd: "))), "{errors}");
            }
        }
    }
}

#[test]
fn address_in_an_object_that_nobody_reads_comes_from_the_operator() {
    let mut list = machines(10..11);
    list[0] = json!({
        "machineRef": {"kind": "Server", "name": "s", "fieldPath": "status.ip"}, "pxeClientSpec": list[0]["pxeClientSpec"],
    });
    let mut rig = Rig::new(false);
    let (served, errors) = rig.load(&[cluster("ns", "c", list.clone())]);
    assert!(served.is_empty() && errors.contains("once the operator has made its TalosMachine"), "{errors}");
    assert_eq!(rig.load(&[cluster("ns", "c", list), derived("ns", "c", 10, json!({}))]), (vec![10], String::new()));
}

#[test]
fn change_is_told_once_and_touches_nothing_else() {
    let mut rig = Rig::new(false);
    let told = RefCell::new(0);
    let count = |_: &Inventory, _: &Inventory| *told.borrow_mut() += 1;
    let objects = [cluster("ns", "a", machines(10..12)), cluster("ns", "b", machines(20..22))];
    assert!(rig.spec.reload(&objects, count));
    let before = rig.inventory.load_full();
    assert!(!rig.spec.reload(&objects, count));
    assert!(rig.spec.reload(&[objects[0].clone(), cluster("ns", "b", machines(20..23))], count));
    assert_eq!(*told.borrow(), 2);
    let after = rig.inventory.load_full();
    assert!(before.machines().iter().all(|machine| after.machines().iter().any(|other| Arc::ptr_eq(machine, other))));
}

/// Prints how long a change takes with 10,000 machines; run in a release build.
#[test]
#[ignore = "a measurement"]
fn measure_ten_thousand_machines() {
    let spec_of = |count: u32, changed: u32| -> Value {
        (0..count)
            .map(|n| {
                let [_, a, b, c] = n.to_be_bytes();
                json!({
                    "address": format!("10.{}.{b}.{c}", a + 1),
                    "pxeClientSpec": {
                        "macAddress": format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"), "cpuArchitecture": "amd64",
                        "kernelCmdlineArgs": if n == changed { "console=ttyS1" } else { "console=ttyS0" },
                    },
                })
            })
            .collect()
    };
    for derived in [false, true] {
        let objects = |changed: u32| {
            let mut objects = vec![cluster("ns", "c", spec_of(10_000, if derived { 0 } else { changed }))];
            if derived {
                for n in 0..10_000_u32 {
                    let [_, a, b, c] = n.to_be_bytes();
                    let address = format!("10.{}.{b}.{c}", a + 1);
                    let spec = json!({
                        "endpoint": address, "version": "v1.13.0", "controlPlaneRef": {"name": "c", "namespace": "ns"},
                        "pxeClientSpec": {
                            "macAddress": format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"), "cpuArchitecture": "amd64",
                            "kernelCmdlineArgs": if n == 0 { "console=ttyS1" } else { "console=ttyS0" },
                        },
                    });
                    let policy = if n == changed { "hold" } else { "auto" };
                    let annotations = json!({"pxed.dev/boot-policy": policy});
                    objects.push(object(ApiKind::TalosMachine, "ns", &format!("m{n}"), annotations, spec));
                }
            }
            objects
        };
        let mut rig = Rig::new(false);
        let begun = Instant::now();
        let (served, errors) = rig.load(&objects(0));
        assert_eq!((served.len(), &*errors), (10_000, ""));
        eprintln!("TalosMachines {derived}: first {:?}", begun.elapsed());
        for changed in 1..6 {
            let objects = objects(changed);
            let begun = Instant::now();
            rig.spec.reload(&objects, |_, _| eprintln!("  change in force after {:?}", begun.elapsed()));
        }
    }
}
