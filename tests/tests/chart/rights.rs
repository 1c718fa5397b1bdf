//! What the chart lets pxed do in the cluster.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::helm::{self, Rendered, strings};

/// Every right in the namespaces of the clusters, as `verb resource.group`.
const ON_RESOURCES: &[&str] = &[
    "get talosclusters.talos.alperen.cloud",
    "list talosclusters.talos.alperen.cloud",
    "watch talosclusters.talos.alperen.cloud",
    "get taloscontrolplanes.talos.alperen.cloud",
    "list taloscontrolplanes.talos.alperen.cloud",
    "watch taloscontrolplanes.talos.alperen.cloud",
    "get talosworkers.talos.alperen.cloud",
    "list talosworkers.talos.alperen.cloud",
    "watch talosworkers.talos.alperen.cloud",
    "get talosmachines.talos.alperen.cloud",
    "list talosmachines.talos.alperen.cloud",
    "watch talosmachines.talos.alperen.cloud",
    "patch talosmachines.talos.alperen.cloud",
    "patch talosmachines/status.talos.alperen.cloud",
    "patch talosclusters/status.talos.alperen.cloud",
    "create events.events.k8s.io",
    "patch events.events.k8s.io",
];

/// Every right in pxed's own namespace.
const ON_LEASES: &[&str] = &[
    "get leases.coordination.k8s.io",
    "list leases.coordination.k8s.io",
    "watch leases.coordination.k8s.io",
    "create leases.coordination.k8s.io",
    "patch leases.coordination.k8s.io",
    "delete leases.coordination.k8s.io",
];

/// Returns the single rights of a role's rules.
fn rights(rules: &Value) -> anyhow::Result<BTreeSet<String>> {
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().context("no rules")? {
        let fields: BTreeSet<_> = rule.as_object().context("a rule")?.keys().map(String::as_str).collect();
        ensure!(fields == BTreeSet::from(["apiGroups", "resources", "verbs"]), "{rule}");
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    let right = format!("{verb} {resource}.{group}");
                    ensure!(rights.insert(right.clone()), "{right} is given twice");
                }
            }
        }
    }
    Ok(rights)
}

fn listed(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&right| right.to_owned()).collect()
}

/// Returns where each role holds and what it lets do, by its binding to the service account of the pods.
fn granted(rendered: &Rendered) -> anyhow::Result<Vec<(Option<String>, BTreeSet<String>)>> {
    let account = &rendered.pod()?["spec"]["serviceAccountName"];
    let mut granted = Vec::new();
    for kind in ["Role", "ClusterRole"] {
        let bindings = rendered.all(&format!("{kind}Binding"));
        for role in rendered.all(kind) {
            let (name, namespace) = (&role["metadata"]["name"], role["metadata"]["namespace"].as_str());
            let of_role = |binding: &&&Value| {
                binding["roleRef"] == json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
                    && binding["metadata"]["namespace"].as_str() == namespace
            };
            let binding = bindings.iter().find(of_role).with_context(|| format!("{name} is bound to nobody"))?;
            let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": "boot"}]);
            ensure!(binding["subjects"] == subjects, "{binding}");
            granted.push((namespace.map(str::to_owned), rights(&role["rules"])?));
        }
        ensure!(bindings.len() == rendered.all(kind).len(), "a binding without its role: {bindings:?}");
    }
    Ok(granted)
}

pub(crate) fn are_the_list_and_no_more() -> anyhow::Result<()> {
    let file = helm::file("files/rbac.json")?;
    ensure!(rights(&file["resources"])? == listed(ON_RESOURCES), "{file}");
    ensure!(rights(&file["leases"])? == listed(ON_LEASES), "{file}");
    ensure!(file.as_object().is_some_and(|file| file.len() == 2), "{file}");
    Ok(())
}

pub(crate) fn hold_where_they_should() -> anyhow::Result<()> {
    let boot = || Some("boot".to_owned());
    let everywhere = granted(&helm::with(json!({}))?)?;
    ensure!(everywhere == [(boot(), listed(ON_LEASES)), (None, listed(ON_RESOURCES))], "{everywhere:?}");
    // The namespace of pxed itself may be one of them.
    let named = helm::with(json!({"namespaces": ["metal", "boot", "metal"]}))?;
    let mut granted = granted(&named)?;
    granted.sort_by_key(|(namespace, rights)| (namespace.clone(), rights.len()));
    let expected =
        [(boot(), listed(ON_LEASES)), (boot(), listed(ON_RESOURCES)), (Some("metal".to_owned()), listed(ON_RESOURCES))];
    ensure!(granted == expected, "{granted:?}");
    let without = helm::with(json!({"rbac": {"create": false}}))?;
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        ensure!(without.all(kind).is_empty(), "{kind}");
    }
    Ok(())
}
