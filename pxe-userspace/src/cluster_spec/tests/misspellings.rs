//! Misspelt names are pointed out, and names that others read are not.

use super::{
    cluster,
    errors::{ENTRY, findings},
};

#[test]
fn multicast_address_is_a_warning() {
    for (mac, is_placeholder) in
        [("bb:bb:bb:bb:bb:bb", true), ("01:00:5e:00:00:01", true), ("52:54:00:00:00:12", false)]
    {
        let (errors, warnings) = findings(&cluster(&ENTRY.replace("52:54:00:00:00:11", mac)));
        assert_eq!(errors, [""; 0]);
        assert_eq!(warnings.len(), usize::from(is_placeholder), "{warnings:?}");
        assert!(
            warnings.iter().all(|warning| warning.contains(&format!("{mac} is a multicast address"))),
            "{warnings:?}"
        );
    }
}

/// Misspelt keys at every level, each once.
#[test]
fn misspelt_keys_are_warnings_that_name_the_known_ones() {
    let of_role = cluster(ENTRY)
        .replace("    metalSpec:\n", "    metalSpec:\n      machineSpec: {meta: {subnet: 24}, image: x}\n");
    let of_machine = "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosMachine\nmetadata: {name: m}\nspec:\n  endpoint: \
                      10.0.0.12\n  version: v1.13.0\n  controlPlaneRef: {name: lab}\n  pxeClientSpec: {macAddress: \
                      52:54:00:00:00:12, cpuArchitecture: amd64}\n---\n";
    let text = format!("{of_machine}{of_role}");
    assert_eq!(findings(&text), (vec![], vec![]));
    for (from, to, expected) in [
        (
            "pxeServerSpec:",
            "pxeServerspec:",
            "spec.pxeServerspec: is an unknown field and has no effect: did you mean pxeServerSpec?",
        ),
        (
            "  controlPlane:",
            "  controlplane:",
            "spec.controlplane: is an unknown field and has no effect: did you mean controlPlane?",
        ),
        (
            "metalSpec:",
            "metalspec:",
            "spec.controlPlane.metalspec: is an unknown field and has no effect: did you mean metalSpec?",
        ),
        (
            "machines:",
            "machine:",
            "spec.controlPlane.metalSpec.machine: is an unknown field and has no effect: did you mean machines?",
        ),
        (
            "machineSpec:",
            "machine_spec:",
            "spec.controlPlane.metalSpec.machine_spec: is an unknown field and has no effect: did you mean machineSpec?",
        ),
        (
            "{meta:",
            "{metas:",
            "spec.controlPlane.metalSpec.machineSpec.metas: is an unknown field and has no effect: did you mean meta?",
        ),
        ("{subnet:", "{subnets:", "meta.subnets: is an unknown field and has no effect: did you mean subnet?"),
        (", image: x", ", imag: x", "machineSpec.imag: is an unknown field and has no effect: did you mean image?"),
        (
            "        pxeClientSpec:\n",
            "        pxeClientspec:\n",
            "machines[0].pxeClientspec: is an unknown field and has no effect: did you mean pxeClientSpec?",
        ),
        (
            "  pxeClientSpec: {",
            "  PXEClientSpec: {",
            "spec.PXEClientSpec: is an unknown field and has no effect: did you mean pxeClientSpec?",
        ),
        (
            "          cpuArchitecture: amd64\n",
            "          cpuArchitecture: amd64\n          kernelCmdLineArgs: a\n",
            "pxeClientSpec.kernelCmdLineArgs: is an unknown field and has no effect: did you mean kernelCmdlineArgs?",
        ),
        (
            "{name: lab}\nspec",
            "{name: lab, anotations: {a: b}}\nspec",
            "metadata.anotations: is an unknown field and has no effect: did you mean annotations?",
        ),
        (
            "{name: lab}\nspec",
            "{name: lab, labels: {pxed.dev/boot-policy: hold}}\nspec",
            "metadata.labels.pxed.dev/boot-policy: is a label and has no effect",
        ),
        (
            "{name: lab}\nspec",
            "{name: lab, annotations: {pxe.dev/boot-policy: hold}}\nspec",
            "metadata.annotations.pxe.dev/boot-policy: is not an annotation of pxed and has no effect: did you mean pxed.dev/boot-policy?",
        ),
        (
            "{name: lab}\nspec",
            "{name: lab}\nSpec: {}\nspec",
            "Spec: is an unknown field and has no effect: did you mean spec?",
        ),
        (
            "  controlPlaneRef: {name: lab}",
            "  controlPlaneRef: {name: lab, namspace: x}",
            "spec.controlPlaneRef.namspace: is an unknown field and has no effect: did you mean namespace?",
        ),
        (
            "    mode: metal\n",
            "    mode: metal\n    pxeClientSpec: {}\n",
            "spec.controlPlane.pxeClientSpec: has no effect here: it belongs in an entry of metalSpec.machines",
        ),
        (
            "    mode: metal\n",
            "    mode: metal\n    annotations: {}\n",
            "spec.controlPlane.annotations: has no effect here: it belongs in metadata",
        ),
        (
            "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosC",
            "apiversion: talos.alperen.cloud/v1alpha1\nkind: TalosC",
            "apiversion: is an unknown field and has no effect: did you mean apiVersion?",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let (_, warnings) = findings(&text.replacen(from, to, 1));
        let naming: Vec<_> = warnings.iter().filter(|warning| warning.contains(expected)).collect();
        assert_eq!(naming.len(), 1, "wanted {expected}\ngot {warnings:#?}");
    }
}

/// Its machines would be missing without a word from `validate`, and would lose their service while pxed runs.
#[test]
fn misspelt_kind_is_an_error() {
    const HEAD: &str = "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\n";
    let text = cluster(ENTRY);
    for (head, expected) in [
        (
            "apiVersion: talos.alperen.cloud/v1alpha1\nkind: Taloscluster\n",
            "2:7: kind: \"Taloscluster\" is not a known kind of talos.alperen.cloud: did you mean TalosCluster? kinds with",
        ),
        (
            "apiVersion: talos.alperen.cloud/v1beta1\nkind: TalosClutser\n",
            "2:7: kind: \"TalosClutser\" is not a known kind of talos.alperen.cloud: did you mean TalosCluster?",
        ),
        (
            "apiVersion: talos.alperen.clould/v1alpha1\nkind: TalosCluster\n",
            "1:13: apiVersion: \"talos.alperen.clould/v1alpha1\" has no TalosCluster: did you mean talos.alperen.cloud/v1alpha1?",
        ),
        ("apiVersion: v1\nkind: TalosCluster\n", "1:13: apiVersion: \"v1\" has no TalosCluster: did you mean"),
        ("kind: TalosClusters\n", "1:7: kind: \"TalosClusters\" is not a known kind: did you mean TalosCluster?"),
        (
            "apiVersion: talos.alperen.cloud/v1alpha1\nKind: TalosCluster\n",
            "1:1: has no kind; write kind instead of Kind: kinds with machines are TalosCluster,",
        ),
        ("apiVersion: talos.alperen.cloud/v1alpha1\n", "1:1: has no kind: kinds with machines are TalosCluster,"),
    ] {
        assert!(text.starts_with(HEAD));
        let (errors, _) = findings(&text.replacen(HEAD, head, 1));
        assert!(matches!(&errors[..], [error] if error.starts_with(expected)), "wanted {expected}\ngot {errors:#?}");
    }
}

#[test]
fn kind_of_somebody_else_is_no_error() {
    for head in [
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosEtcdBackup\n",
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosMachineSet\n",
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosImage\n",
        "apiVersion: controlplane.cluster.x-k8s.io/v1alpha3\nkind: TalosControlPlane\n",
        "apiVersion: cluster.omni.siderolabs.io/v1\nkind: TalosClusters\n",
        "kind: Cluster\n",
        "Kind: TalosCluster\n",
    ] {
        let (errors, _) = findings(&format!("{}---\n{head}metadata: {{name: x}}\n", cluster(ENTRY)));
        assert_eq!(errors, [""; 0], "{head}");
    }
}

#[test]
fn unknown_annotation_of_pxed_is_an_error() {
    let text = cluster(ENTRY);
    for (name, expected) in [
        (
            "boot-polcy",
            "is not an annotation of pxed: did you mean pxed.dev/boot-policy? known are pxed.dev/boot-policy,",
        ),
        ("boot-polcy.52-54-00-00-00-11", "is not an annotation of pxed: did you mean pxed.dev/boot-policy?"),
        ("BootPolicy", "is not an annotation of pxed: did you mean pxed.dev/boot-policy?"),
        ("machine", "is not an annotation of pxed: did you mean pxed.dev/machines?"),
        ("additional-macs", "is not an annotation of pxed: known are pxed.dev/boot-policy,"),
        ("machines.52-54-00-00-00-11", "is not an annotation of pxed: did you mean pxed.dev/machines?"),
        ("Disk-Route", "is not an annotation of pxed: did you mean pxed.dev/disk-route?"),
        ("vendor", "is not an annotation of pxed: known are pxed.dev/boot-policy,"),
        ("", "is not an annotation of pxed: known are"),
        ("boot-policy.52-54-00-00-00", "\"52-54-00-00-00\" is neither a MAC nor an IP address of a machine"),
        ("boot-policy.10.0.0", "\"10.0.0\" is neither a MAC nor an IP address of a machine"),
        ("boot-policy.10.0.0.256", "\"10.0.0.256\" is neither a MAC nor an IP address of a machine"),
    ] {
        let annotated = format!("{{name: lab, annotations: {{pxed.dev/{name}: hold}}}}");
        let (errors, _) = findings(&text.replace("{name: lab}", &annotated));
        let expected = format!("metadata.annotations.pxed.dev/{name}: {expected}");
        assert!(errors.len() == 1 && errors[0].contains(&expected), "wanted {expected}\ngot {errors:?}");
    }
}

/// Every field of the operator's schema, at least once. None of them is a misspelling.
#[test]
fn fields_that_pxed_does_not_need_are_known() {
    let machine_spec = "{additionalConfig: [{}], airGap: false, allowSchedulingOnControlPlanes: true, configPatches: [{}], image: x, \
                        imageCache: false, installDisk: /dev/sda, registries: {}, wipe: false, meta: {hostname: h, interface: \
                        eth0, subnet: 24, gateway: 10.0.0.254, dnsServers: [10.0.0.253]}}";
    let role = format!(
        "{{clusterDomain: c, cni: {{name: none, flannel: {{}}, urls: []}}, configRef: {{name: a, key: b, optional: true}}, \
         controlPlaneRef: {{name: lab}}, deletionPolicy: x, endpoint: x, kubeVersion: v1.35.0, mode: metal, podCIDR: [], \
         replicas: 1, rolloutStrategy: {{type: x, rollingUpdate: {{maxUnavailable: 1}}}}, serviceCIDR: [], storageClassName: x, \
         version: v1.13.0, metalSpec: {{machineSpec: {machine_spec}, machines: [MACHINES]}}}}"
    );
    let reference =
        "{apiVersion: v1, fieldPath: a, kind: b, name: lab, namespace: default, resourceVersion: '1', uid: x}";
    let metadata = "annotations: {other.dev/boot-policy-of-mine: x}, creationTimestamp: x, finalizers: [], generateName: x, generation: \
                    1, labels: {a: b}, managedFields: [], ownerReferences: [], resourceVersion: '1', uid: x";
    let client = |number: u8| {
        format!(
            "pxeClientSpec: {{macAddress: '52:54:00:00:00:{number}', cpuArchitecture: amd64, kernelCmdlineArgs: a}}"
        )
    };
    let machine = |number: u8| {
        format!(
            "{{address: 10.0.0.{number}, version: v1.13.0, image: x, configPatches: [{{}}], additionalConfig: [{{}}], {}}}",
            client(number)
        )
    };
    let inline = |machines: &str| role.replace("MACHINES", machines);
    let text = format!(
        "{{apiVersion: talos.alperen.cloud/v1alpha1, kind: TalosCluster, metadata: {{name: lab, {metadata}}}, status: {{}}, spec: \
         {{pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}, controlPlane: {}, worker: {}}}}}\n---\n{{apiVersion: \
         talos.alperen.cloud/v1alpha1, kind: TalosMachine, metadata: {{name: lab-m, {metadata}}}, status: {{}}, spec: {{configRef: \
         {{}}, workerRef: {reference}, deletionPolicy: x, endpoint: 10.0.0.14, machineSpec: {}, version: v1.13.0, {}}}}}\n",
        inline(&machine(11)),
        inline(&format!("{}, {{address: 10.0.0.13, configPatches: []}}", machine(12)))
            .replace("hostname: h", "hostname: i"),
        machine_spec.replace("hostname: h", "hostname: j"),
        client(14)
    );
    assert_eq!(findings(&text), (vec![], vec![]));
}
