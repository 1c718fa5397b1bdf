//! Which object of the API stands for which machine, and which cluster it belongs to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pxe_common::MacAddr;
use serde::Deserialize;

use crate::{
    kubernetes::Observed,
    model::{
        api_object::{ApiKind, ObjectKey},
        inventory::Inventory,
    },
};

/// The objects by what they stand for.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The first MAC address of each machine that has a `TalosMachine`.
    machines: HashMap<MacAddr, ObjectKey>,
    by_object: HashMap<ObjectKey, MacAddr>,
    /// The MAC address in each `TalosMachine`, whether the inventory has it or not.
    claimed: HashMap<ObjectKey, MacAddr>,
    /// The `TalosCluster` of each object.
    clusters: HashMap<ObjectKey, ObjectKey>,
    /// The parts that were read of each object, until its text changes.
    read: HashMap<ObjectKey, (Arc<str>, Arc<Links>)>,
}

/// The part of an object that leads to others. A value of another type than expected is as good as none: the spec's reader tells.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Links {
    #[serde(deserialize_with = "lenient")]
    metadata: Metadata,
    #[serde(deserialize_with = "lenient")]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    #[serde(deserialize_with = "lenient")]
    owner_references: Vec<Reference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "lenient")]
    endpoint: String,
    #[serde(deserialize_with = "lenient")]
    pxe_client_spec: Client,
    #[serde(deserialize_with = "lenient")]
    control_plane_ref: Reference,
    #[serde(deserialize_with = "lenient")]
    worker_ref: Reference,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Client {
    #[serde(deserialize_with = "lenient")]
    mac_address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    #[serde(deserialize_with = "lenient")]
    kind: String,
    #[serde(deserialize_with = "lenient")]
    name: String,
}

fn lenient<'de, D: serde::Deserializer<'de>, T: Default + serde::de::DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    // Reads the whole value first, so that one of another type does not end the reading of the rest.
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl Index {
    /// Brings the index in step with the objects and the inventory.
    pub(super) fn update(&mut self, objects: &[Arc<Observed>], inventory: &Inventory) {
        let mut read = HashMap::with_capacity(objects.len());
        for observed in objects {
            let key = &observed.object.key;
            let text = &observed.object.text;
            let known = self.read.remove(key).filter(|(of, _)| Arc::ptr_eq(of, text) || of == text);
            let links =
                known.map_or_else(|| Arc::new(serde_json::from_str(text).unwrap_or_default()), |(_, links)| links);
            read.insert(key.clone(), (Arc::clone(text), links));
        }
        let roles = roles_by_cluster(&read);
        *self = Self { read, ..Self::default() };
        // In the order of names: of two objects with one MAC address in one namespace, the first stands for the machine, unless the
        // inventory names the other.
        for observed in objects {
            let key = &observed.object.key;
            let Some((_, links)) = self.read.get(key) else { continue };
            if let Some(cluster) = cluster_of(key, links, &roles, &self.read) {
                self.clusters.insert(key.clone(), cluster);
            }
            if key.kind != ApiKind::TalosMachine {
                continue;
            }
            let Spec { pxe_client_spec, endpoint, .. } = &links.spec;
            let mac = pxe_client_spec.mac_address.parse::<MacAddr>().ok();
            self.claimed.extend(mac.map(|mac| (key.clone(), mac)));
            // The operator makes the objects of workers without `pxeClientSpec`.
            let by_address = || inventory.by_address(endpoint.parse().ok()?);
            let machine = match mac {
                Some(mac) => inventory.by_mac(mac),
                None if pxe_client_spec.mac_address.is_empty() => by_address(),
                None => None,
            };
            let Some(machine) = machine else { continue };
            let is_its_own = *machine.source.file == *key.place();
            let is_of_its_cluster = namespace_of(&machine.cluster) == &*key.namespace;
            if is_its_own || (is_of_its_cluster && !self.machines.contains_key(&machine.mac)) {
                if let Some(other) = self.machines.insert(machine.mac, key.clone()) {
                    self.by_object.remove(&other);
                }
                self.by_object.insert(key.clone(), machine.mac);
            }
        }
    }

    /// Returns the object of a machine, by the machine's first MAC address.
    pub(super) fn object_of(&self, mac: MacAddr) -> Option<&ObjectKey> {
        self.machines.get(&mac)
    }

    /// Returns the first MAC address of the machine that an object stands for.
    pub(super) fn machine_of(&self, key: &ObjectKey) -> Option<MacAddr> {
        self.by_object.get(key).copied()
    }

    /// Returns the MAC address in a `TalosMachine`, whoever has it.
    pub(super) fn claimed_by(&self, key: &ObjectKey) -> Option<MacAddr> {
        self.claimed.get(key).copied()
    }

    /// Returns the cluster of an object.
    pub(super) fn cluster_of(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        self.clusters.get(key)
    }
}

/// Returns the namespace in the name of a cluster as the inventory has it: `namespace/name`, or `name` in the namespace `default`.
pub(super) fn namespace_of(label: &str) -> &str {
    label.split_once('/').map_or("default", |(namespace, _)| namespace)
}

/// Returns the name of a cluster as the inventory has it.
pub(super) fn label_of(cluster: &ObjectKey) -> String {
    match &*cluster.namespace {
        "default" => cluster.name.to_string(),
        namespace => format!("{namespace}/{}", cluster.name),
    }
}

type Read = HashMap<ObjectKey, (Arc<str>, Arc<Links>)>;

/// Returns the roles that clusters refer to, each with its cluster.
fn roles_by_cluster(read: &Read) -> BTreeMap<ObjectKey, ObjectKey> {
    let mut roles = BTreeMap::new();
    for (key, (_, links)) in read.iter().filter(|(key, _)| key.kind == ApiKind::TalosCluster) {
        let Spec { control_plane_ref, worker_ref, .. } = &links.spec;
        for (kind, reference) in [(ApiKind::TalosControlPlane, control_plane_ref), (ApiKind::TalosWorker, worker_ref)] {
            if !reference.name.is_empty() {
                let role = ObjectKey { kind, namespace: Arc::clone(&key.namespace), name: (*reference.name).into() };
                roles.insert(role, key.clone());
            }
        }
    }
    roles
}

fn cluster_of(
    key: &ObjectKey,
    links: &Links,
    roles: &BTreeMap<ObjectKey, ObjectKey>,
    read: &Read,
) -> Option<ObjectKey> {
    let named = |kind, name: &str| ObjectKey { kind, namespace: Arc::clone(&key.namespace), name: name.into() };
    let owner = |kind: ApiKind| {
        let owner = links.metadata.owner_references.iter().find(|owner| owner.kind == kind.name());
        owner.map(|owner| named(kind, &owner.name))
    };
    match key.kind {
        ApiKind::TalosCluster => Some(key.clone()),
        ApiKind::TalosControlPlane | ApiKind::TalosWorker => {
            roles.get(key).cloned().or_else(|| owner(ApiKind::TalosCluster))
        }
        ApiKind::TalosMachine => {
            let Spec { control_plane_ref, worker_ref, .. } = &links.spec;
            let references =
                [(ApiKind::TalosControlPlane, control_plane_ref), (ApiKind::TalosWorker, worker_ref)].into_iter();
            let named =
                references.filter(|(_, role)| !role.name.is_empty()).map(|(kind, role)| named(kind, &role.name));
            let owned = [ApiKind::TalosControlPlane, ApiKind::TalosWorker].into_iter().filter_map(owner);
            let role = named.chain(owned).next()?;
            let (_, links) = read.get(&role)?;
            cluster_of(&role, links, roles, read)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{api_object::ApiObject, architecture::Architecture, inventory::Machine, testing::machine};

    fn observed(kind: ApiKind, name: &str, text: &serde_json::Value) -> Arc<Observed> {
        let key = key(kind, name);
        let object = ApiObject { key, uid: "u".into(), created: "".into(), text: text.to_string().into() };
        Arc::new(Observed {
            object,
            annotations: BTreeMap::new(),
            conditions: Vec::new(),
            generation: None,
            is_being_deleted: false,
        })
    }

    fn key(kind: ApiKind, name: &str) -> ObjectKey {
        let (namespace, name) = name.split_once('/').unwrap();
        ObjectKey { kind, namespace: namespace.into(), name: name.into() }
    }

    fn inventory() -> Inventory {
        let of = |number, cluster: &str| {
            let machine = machine(number, Architecture::Amd64, "v1.13.0", None);
            Arc::new(Machine { cluster: cluster.into(), ..Machine::clone(&machine) })
        };
        Inventory::new(vec![of(1, "a/metal"), of(2, "solo")])
    }

    fn talos_machine(name: &str, mac: &str, more: &serde_json::Value) -> Arc<Observed> {
        let mut text = json!({ "spec": { "pxeClientSpec": { "macAddress": mac } } });
        for (field, value) in more.as_object().into_iter().flatten() {
            text["spec"][field] = value.clone();
        }
        observed(ApiKind::TalosMachine, name, &text)
    }

    #[test]
    fn machine_is_that_of_its_namespace() {
        let mac = "02:00:00:00:00:01";
        let none = json!({});
        let objects = [
            talos_machine("a/first", mac, &none),
            talos_machine("a/second", mac, &none),
            talos_machine("b/copy", mac, &none),
            talos_machine("default/solo-1", "02-00-00-00-00-02", &none),
            talos_machine("default/unknown", "02:00:00:00:00:99", &none),
            talos_machine("default/broken", "not a MAC", &json!({ "endpoint": "127.0.0.2" })),
        ];
        let mut index = Index::default();
        // Twice, since what was read is kept.
        for _ in 0..2 {
            index.update(&objects, &inventory());
            let object = |number| index.object_of(MacAddr([2, 0, 0, 0, 0, number])).map(ToString::to_string);
            assert_eq!(object(1).as_deref(), Some("TalosMachine a/first"));
            assert_eq!(object(2).as_deref(), Some("TalosMachine default/solo-1"));
            assert_eq!(object(0x99), None);
            assert_eq!(index.machine_of(&key(ApiKind::TalosMachine, "b/copy")), None);
            assert!(index.claimed_by(&key(ApiKind::TalosMachine, "b/copy")).is_some());
            assert_eq!(index.claimed_by(&key(ApiKind::TalosMachine, "default/broken")), None);
        }
    }

    #[test]
    fn machine_of_a_worker_has_an_address_and_no_mac() {
        let worker = |name: &str, endpoint: &str| {
            observed(ApiKind::TalosMachine, name, &json!({ "spec": { "endpoint": endpoint } }))
        };
        let objects = [worker("a/w1", "127.0.0.1"), worker("a/w2", "127.0.0.2"), worker("a/w3", "not an address")];
        let mut index = Index::default();
        index.update(&objects, &inventory());
        let machine = |name| index.machine_of(&key(ApiKind::TalosMachine, name));
        assert_eq!(machine("a/w1"), Some(MacAddr([2, 0, 0, 0, 0, 1])));
        // It is a machine of another namespace.
        assert_eq!((machine("a/w2"), machine("a/w3")), (None, None));
    }

    #[test]
    fn objects_lead_to_their_cluster_by_references_or_owners() {
        let reference = |name: &str| json!({ "name": name });
        let owned =
            |kind: &str, name: &str| json!({ "metadata": { "ownerReferences": [{ "kind": kind, "name": name }] } });
        let objects = [
            observed(ApiKind::TalosCluster, "a/metal", &json!({ "spec": { "workerRef": reference("pool") } })),
            observed(ApiKind::TalosWorker, "a/pool", &json!({})),
            observed(ApiKind::TalosControlPlane, "a/metal-cp", &owned("TalosCluster", "metal")),
            observed(ApiKind::TalosWorker, "a/lonely", &json!({})),
            talos_machine("a/m1", "", &json!({ "workerRef": reference("pool") })),
            talos_machine("a/m2", "", &json!({ "controlPlaneRef": reference("metal-cp"), "workerRef": 7 })),
            talos_machine("a/m3", "", &json!({ "workerRef": reference("lonely") })),
            observed(ApiKind::TalosMachine, "a/m4", &owned("TalosControlPlane", "metal-cp")),
            observed(ApiKind::TalosMachine, "a/m5", &json!([1, 2])),
        ];
        let mut index = Index::default();
        index.update(&objects, &inventory());
        let of = |name| index.cluster_of(&key(ApiKind::TalosMachine, name)).map(ToString::to_string);
        for (name, expected) in [("a/m1", true), ("a/m2", true), ("a/m3", false), ("a/m4", true), ("a/m5", false)] {
            assert_eq!(of(name).as_deref(), expected.then_some("TalosCluster a/metal"), "{name}");
        }
        assert_eq!(label_of(&key(ApiKind::TalosCluster, "a/metal")), "a/metal");
        assert_eq!(label_of(&key(ApiKind::TalosCluster, "default/metal")), "metal");
    }
}
