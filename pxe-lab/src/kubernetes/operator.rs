//! What talos-operator does to the objects that pxed shares with it.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Map, Value, json};

use super::{
    crds::{GROUP, VERSION},
    server::ApiServer,
};

/// Returns the objects of one of the operator's kinds (`TalosMachine`) in a namespace.
#[must_use]
pub fn objects(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), &plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The operator. It does nothing by itself, but what a test tells it to do.
#[derive(Debug)]
pub struct Operator<'a> {
    api: &'a ApiServer,
}

/// A TalosMachine as the operator read it, which it writes back later, whatever has changed since.
#[derive(Debug)]
pub struct Read<'a> {
    api: &'a ApiServer,
    object: DynamicObject,
}

impl<'a> Operator<'a> {
    /// Returns the operator of this cluster.
    #[must_use]
    pub fn new(api: &'a ApiServer) -> Self {
        Self { api }
    }

    /// Makes the TalosControlPlane and the TalosWorker of a TalosCluster, and their TalosMachines `<name>-<address>`, with owner
    /// references, or brings them up to date. TalosMachines of addresses that are gone are deleted. Returns the names of the
    /// TalosMachines. As the operator does, it leaves a worker's `pxeClientSpec` out of its TalosMachines.
    ///
    /// # Errors
    ///
    /// Fails with the server's answer.
    pub fn reconcile(&self, namespace: &str, cluster: &str) -> anyhow::Result<Vec<String>> {
        self.api.with_client(|client| async move {
            let owner = objects(&client, "TalosCluster", namespace).get(cluster).await?;
            let mut names = BTreeSet::new();
            for (kind, inline, reference) in
                [("TalosControlPlane", "controlPlane", "controlPlaneRef"), ("TalosWorker", "worker", "workerRef")]
            {
                let spec = &owner.data["spec"];
                let role = if let Some(name) = spec[reference]["name"].as_str() {
                    objects(&client, kind, namespace).get(name).await?
                } else if spec[inline].is_object() {
                    let mut role = new(kind, cluster, &owner, false, &spec[inline])?;
                    if kind == "TalosControlPlane" {
                        // Only when it is created: later changes of the cluster's are not copied.
                        role.metadata.annotations = owner.metadata.annotations.clone();
                    }
                    create_or_update(&client, kind, namespace, role).await?
                } else {
                    continue;
                };
                names.extend(reconcile_machines(&client, namespace, kind, &role).await?);
            }
            delete_others(&client, namespace, cluster, &names).await?;
            Ok(names.into_iter().collect())
        })
    }

    /// Reads a TalosMachine, to write it back later.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn read(&self, namespace: &str, machine: &str) -> anyhow::Result<Read<'a>> {
        let get = |client: Client| async move { Ok(objects(&client, "TalosMachine", namespace).get(machine).await?) };
        Ok(Read { api: self.api, object: self.api.with_client(get)? })
    }

    /// Sets the state of a TalosMachine (`Booting`), and reads it again after each 409, as the operator does in its next round. Returns
    /// the number of those.
    ///
    /// # Errors
    ///
    /// Fails if there is no such machine, or after a hundred answers of 409.
    pub fn set_state(&self, namespace: &str, machine: &str, state: &str) -> anyhow::Result<usize> {
        for conflicts in 0..100 {
            if self.read(namespace, machine)?.put_state(state)? {
                return Ok(conflicts);
            }
        }
        bail!("the state of TalosMachine {namespace}/{machine} could not be written: 409 each time");
    }
}

impl Read<'_> {
    /// Writes the whole status back with this state. Returns `false` if the server answers 409 because the object has changed since.
    ///
    /// # Errors
    ///
    /// Fails with any other answer.
    pub fn put_state(&self, state: &str) -> anyhow::Result<bool> {
        let mut object = self.object.clone();
        let status = object.data.as_object_mut().context("an object without fields")?.entry("status");
        status.or_insert_with(|| json!({}))["state"] = state.into();
        let namespace = object.metadata.namespace.clone().context("an object without a namespace")?;
        let name = object.metadata.name.clone().context("an object without a name")?;
        self.api.with_client(|client| async move {
            let machines = objects(&client, "TalosMachine", &namespace);
            match machines.replace_status(&name, &PostParams::default(), &object).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// Makes the TalosMachines of a role, and returns their names.
async fn reconcile_machines(
    client: &Client,
    namespace: &str,
    kind: &str,
    role: &DynamicObject,
) -> anyhow::Result<Vec<String>> {
    let name = role.metadata.name.as_deref().context("a role without a name")?;
    let spec = &role.data["spec"];
    let (reference, booted) =
        if kind == "TalosControlPlane" { ("controlPlaneRef", true) } else { ("workerRef", false) };
    let mut names = Vec::new();
    for machine in spec["metalSpec"]["machines"].as_array().into_iter().flatten() {
        let Some(address) = machine["address"].as_str() else { continue };
        let mut settings = spec["metalSpec"]["machineSpec"].clone();
        if let (Some(settings), Some(image)) = (settings.as_object_mut(), machine["image"].as_str()) {
            settings.insert("image".to_owned(), image.into());
        }
        let fields = [
            (
                reference,
                json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "name": name, "namespace": namespace}),
            ),
            ("endpoint", address.into()),
            ("version", machine["version"].as_str().map_or_else(|| spec["version"].clone(), Value::from)),
            ("machineSpec", settings),
            ("configRef", spec["configRef"].clone()),
            ("deletionPolicy", spec["deletionPolicy"].clone()),
            ("pxeClientSpec", if booted { machine["pxeClientSpec"].clone() } else { Value::Null }),
        ];
        let spec: Map<_, _> = fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let object = new("TalosMachine", &format!("{name}-{address}"), role, true, &spec.into())?;
        let made = create_or_update(client, "TalosMachine", namespace, object).await?;
        names.extend(made.metadata.name);
    }
    Ok(names)
}

/// Deletes the TalosMachines of the cluster's roles that it does not have any more.
async fn delete_others(
    client: &Client,
    namespace: &str,
    cluster: &str,
    names: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let machines = objects(client, "TalosMachine", namespace);
    for machine in machines.list(&ListParams::default()).await? {
        let owned = machine.metadata.owner_references.iter().flatten().any(|owner| owner.name == cluster);
        let name = machine.metadata.name.unwrap_or_default();
        if owned && !names.contains(&name) {
            machines.delete(&name, &Default::default()).await?;
        }
    }
    Ok(())
}

/// Returns an object that another one owns; `controller`: and manages.
fn new(kind: &str, name: &str, owner: &DynamicObject, controller: bool, spec: &Value) -> anyhow::Result<DynamicObject> {
    let types = owner.types.as_ref().context("an owner without a kind")?;
    let mut reference = json!({
        "apiVersion": types.api_version, "kind": types.kind, "name": owner.metadata.name, "uid": owner.metadata.uid,
    });
    if controller {
        reference["controller"] = true.into();
        reference["blockOwnerDeletion"] = true.into();
    }
    Ok(serde_json::from_value(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
        "metadata": {"name": name, "ownerReferences": [reference]}, "spec": spec,
    }))?)
}

/// Creates the object, or replaces the spec of the one that exists.
async fn create_or_update(
    client: &Client,
    kind: &str,
    namespace: &str,
    object: DynamicObject,
) -> anyhow::Result<DynamicObject> {
    let (api, parameters) = (objects(client, kind, namespace), PostParams::default());
    let name = object.metadata.name.clone().context("an object without a name")?;
    for _ in 0..100 {
        let Some(mut existing) = api.get_opt(&name).await? else {
            return Ok(api.create(&parameters, &object).await?);
        };
        if existing.data["spec"] == object.data["spec"] {
            return Ok(existing);
        }
        existing.data["spec"] = object.data["spec"].clone();
        match api.replace(&name, &parameters, &existing).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return Ok(other?),
        }
    }
    bail!("{kind} {namespace}/{name} could not be written: 409 each time");
}
