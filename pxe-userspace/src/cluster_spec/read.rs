//! Reads typed resources from the text of one document, and notes every mistake.

use std::{net::Ipv4Addr, sync::Arc};

use super::{
    annotations::{self, Subject},
    documents::{
        Cluster, Content, Foreign, Located, MachineResource, Object, Resource, RoleResource, RoleSource, ServerSpec,
        Unreadable, kind_of,
    },
    field::Field,
    finding::{ErrorIndex, Note, Notes},
    json_tree, keys,
    misspelling::{nearest, proposal},
    read_role::{self, Interner},
    tree::{self, DuplicateKey, Kind, Node, push_key},
    values,
};
use crate::model::inventory::Role;

const GROUP: &str = "talos.alperen.cloud";
const API_VERSION: &str = "talos.alperen.cloud/v1alpha1";
/// The kinds that say which machines boot, and how.
const KINDS: [&str; 4] = ["TalosCluster", "TalosControlPlane", "TalosWorker", "TalosMachine"];
/// The operator's other kinds, which have nothing to do with booting.
const OTHER_KINDS: [&str; 4] =
    ["TalosClusterAddon", "TalosClusterAddonRelease", "TalosEtcdBackup", "TalosEtcdBackupSchedule"];

/// Reads one document.
pub(crate) fn read(text: &str) -> Content {
    let mut reader = Reader::default();
    match tree::parse(text) {
        Ok(documents) => {
            for document in &documents {
                reader.document(document);
            }
        }
        Err(error) => {
            reader.notes.error(error.at, String::new(), error.message);
            reader.fault = reader.notes.first();
        }
    }
    reader.content()
}

/// Reads an object of the API from its JSON.
pub(crate) fn read_object(text: &str) -> Content {
    let mut reader = Reader::default();
    match json_tree::parse(text) {
        Ok(document) => reader.document(&document),
        Err(error) => {
            reader.notes.error(error.at, String::new(), error.message);
            reader.fault = reader.notes.first();
        }
    }
    reader.content()
}

#[derive(Default)]
struct Reader {
    resources: Vec<Resource>,
    notes: Notes,
    fault: Option<ErrorIndex>,
    interner: Interner,
}

/// Returns the kind with machines that a kind is, or is a misspelling of. A resource with a misspelt kind is a mistake, because its
/// machines would be missing.
fn meant_by(kind: &str) -> Option<&'static str> {
    // A name with a further word is probably a newer kind of the operator, such as TalosMachineSet.
    let is_longer = |known: &str| kind.strip_prefix(known).is_some_and(|more| more.len() > 1);
    nearest(kind, KINDS).filter(|known| !OTHER_KINDS.contains(&kind) && !is_longer(known))
}

fn group_of(api_version: &str) -> Option<&str> {
    api_version.split_once('/').map(|(group, _)| group)
}

/// A reference to another resource.
struct Reference {
    /// The namespace, if the reference has one.
    namespace: Option<Arc<str>>,
    name: Located<Arc<str>>,
}

/// The kind of a resource.
enum Species {
    Cluster,
    Role(Role),
    Machine,
    List,
    Other(String),
}

impl Reader {
    fn content(self) -> Content {
        let Self { mut resources, notes, fault, interner: _ } = self;
        resources.shrink_to_fit();
        Content { resources, notes, fault }
    }

    fn document(&mut self, document: &tree::Document<'_>) {
        let root = Field::root(&document.root);
        if matches!(document.root.kind(), Kind::Null) {
            return;
        }
        if !root.is_mapping() {
            root.warn(&mut self.notes, "is not a Kubernetes resource: skipped");
            return;
        }
        let duplicates = document.duplicates.iter().map(|DuplicateKey { at, first, field }| {
            let message = format!("is given twice, first in line {}: keep one", first.line);
            Note { at: *at, field: field.clone(), message }
        });
        self.notes.duplicates = duplicates.collect();
        self.item(&root, true);
        self.notes.duplicates.clear();
    }

    /// Reads a document, or an item of a list.
    fn item(&mut self, root: &Field<'_>, is_document: bool) {
        let outer = self.notes.begin();
        let before = self.resources.len();
        let own = match self.species(root) {
            Some(Species::List) => {
                if is_document {
                    self.list(root);
                } else {
                    root.warn(&mut self.notes, "is a list within a list: skipped");
                }
                None
            }
            Some(Species::Other(kind)) => {
                // Nobody else minds them.
                let _ = self.notes.take_duplicates(|| root.path());
                self.foreign(root, kind);
                None
            }
            Some(species) => {
                self.resource(root, &species);
                Some(before)
            }
            None => None,
        };
        self.notes.claim_duplicates(|| root.path());
        let Some(fault) = self.notes.end(outer) else { return };
        match own.and_then(|own| self.resources.get_mut(own)) {
            Some(
                Resource::Cluster(Cluster { object, .. })
                | Resource::Role(RoleResource { object, .. })
                | Resource::Machine(MachineResource { object, .. })
                | Resource::Unreadable(Unreadable { object, .. }),
            ) => object.fault = Some(fault),
            Some(Resource::Foreign(_)) | None => _ = self.fault.get_or_insert(fault),
        }
    }

    /// Reads the resources of a list, as `kubectl get -o yaml` prints it.
    fn list(&mut self, list: &Field<'_>) {
        let Some(items) = list.child("items") else { return };
        let Some(items) = items.items(&mut self.notes) else { return };
        for item in items {
            if item.is_mapping() {
                self.item(&item, false);
            } else {
                item.warn(&mut self.notes, "is not a Kubernetes resource: skipped");
            }
        }
    }

    fn species(&mut self, root: &Field<'_>) -> Option<Species> {
        let Some(kind) = root.child_text(&mut self.notes, "kind") else {
            let keys = root.entries(&mut self.notes).unwrap_or_default().iter().map(|entry| &*entry.key);
            let misspelt = nearest("kind", keys).filter(|key| *key != "kind");
            let misspelt = misspelt.map_or_else(String::new, |key| format!("; write kind instead of {key}"));
            let is_ours =
                root.child_text(&mut self.notes, "apiVersion").is_some_and(|version| group_of(version) == Some(GROUP));
            if is_ours {
                let message = format!("has no kind{misspelt}: kinds with machines are {}", KINDS.join(", "));
                root.error(&mut self.notes, message);
            } else {
                let message = format!("has no kind, so it is not a Kubernetes resource: skipped{misspelt}");
                root.warn(&mut self.notes, message);
            }
            return None;
        };
        let known = match kind {
            "TalosCluster" => Species::Cluster,
            "TalosControlPlane" => Species::Role(Role::ControlPlane),
            "TalosWorker" => Species::Role(Role::Worker),
            "TalosMachine" => Species::Machine,
            "List" | "TalosClusterList" | "TalosControlPlaneList" | "TalosWorkerList" | "TalosMachineList" => {
                return Some(Species::List);
            }
            other => Species::Other(other.to_owned()),
        };
        let meant = meant_by(kind);
        let at_kind = root.child("kind").unwrap_or(*root);
        let Some(api_version) = root.child_text(&mut self.notes, "apiVersion") else {
            if !matches!(known, Species::Other(_)) {
                root.missing(&mut self.notes, "apiVersion", &format!("write {API_VERSION}"));
            } else if let Some(meant) = meant {
                at_kind.error(&mut self.notes, format!("{kind:?} is not a known kind: did you mean {meant}?"));
            }
            return Some(known);
        };
        let at_version = root.child("apiVersion").unwrap_or(*root);
        let group = group_of(api_version);
        if group != Some(GROUP) {
            // Cluster API has kinds with the same names in other groups.
            let is_misspelt = group.is_none_or(|group| nearest(group, [GROUP]).is_some());
            if let Some(meant) = meant.filter(|_| is_misspelt) {
                let message = format!("{api_version:?} has no {meant}: did you mean {API_VERSION}?");
                at_version.error(&mut self.notes, message);
                // It must not count as a resource of that name, which would take the place of the last good one.
                return None;
            }
            return Some(Species::Other(kind.to_owned()));
        }
        if api_version != API_VERSION {
            let message = format!("{api_version} is not known and is read as {API_VERSION}");
            at_version.warn(&mut self.notes, message);
        }
        if matches!(known, Species::Other(_)) && !OTHER_KINDS.contains(&kind) {
            let advice = format!("{}kinds with machines are {}", proposal(meant), KINDS.join(", "));
            if meant.is_some() {
                at_kind.error(&mut self.notes, format!("{kind:?} is not a known kind of {GROUP}: {advice}"));
            } else {
                at_kind.warn(&mut self.notes, format!("{kind:?} is not a known kind of {GROUP}: skipped; {advice}"));
            }
        }
        Some(known)
    }

    fn resource(&mut self, root: &Field<'_>, species: &Species) {
        root.check_keys(&mut self.notes, &keys::RESOURCE);
        // Without a name it is nothing.
        let subject = if matches!(species, Species::Machine) { Subject::One } else { Subject::Several };
        let Some(object) = self.object(root, subject) else { return };
        let resource = match species {
            Species::Cluster => Resource::Cluster(self.cluster(root, object)),
            Species::Role(role) => self.role(root, object, *role),
            Species::Machine => match self.machine(root, object) {
                Some(machine) => machine,
                None => return self.foreign(root, "TalosMachine".to_owned()),
            },
            Species::Other(_) | Species::List => return,
        };
        self.resources.push(resource);
    }

    fn object(&mut self, root: &Field<'_>, subject: Subject) -> Option<Object> {
        let metadata = root.required(&mut self.notes, "metadata", "write metadata with a name")?;
        metadata.entries(&mut self.notes)?;
        metadata.check_keys(&mut self.notes, &keys::METADATA);
        let name = metadata.required(&mut self.notes, "name", "every resource has a name")?.text(&mut self.notes)?;
        let name = self.interner.intern(name);
        let namespace = metadata.child_text(&mut self.notes, "namespace").unwrap_or("default");
        let namespace = self.interner.intern(namespace);
        let mut prefix = root.path();
        if !prefix.is_empty() {
            prefix.push('.');
        }
        let annotations = annotations::read(&metadata, subject, &mut self.notes);
        let prefix = self.interner.intern(&prefix);
        Some(Object { at: root.at, namespace, name, prefix, annotations, fault: None })
    }

    fn cluster(&mut self, root: &Field<'_>, object: Object) -> Cluster {
        let mut cluster = Cluster {
            object,
            server: None,
            has_server: false,
            control_plane: RoleSource::Absent,
            worker: RoleSource::Absent,
        };
        if let Some(spec) = root.child("spec")
            && spec.entries(&mut self.notes).is_some()
        {
            spec.check_keys(&mut self.notes, &keys::CLUSTER);
            cluster.control_plane = self.role_source(&spec, Role::ControlPlane, "controlPlane", "controlPlaneRef");
            cluster.worker = self.role_source(&spec, Role::Worker, "worker", "workerRef");
            if let Some(server) = spec.child("pxeServerSpec") {
                cluster.has_server = true;
                cluster.server = self.server(&server);
            }
        }
        cluster
    }

    fn role_source(&mut self, spec: &Field<'_>, role: Role, inline: &str, reference: &str) -> RoleSource {
        match (spec.child(inline), spec.child(reference)) {
            (Some(_), Some(reference_field)) => {
                let message = format!("conflicts with {inline}: keep one of the two");
                reference_field.error(&mut self.notes, message);
                RoleSource::Absent
            }
            (Some(inline), None) => {
                RoleSource::Inline(read_role::role_spec(&inline, role, &mut self.notes, &mut self.interner))
            }
            (None, Some(reference)) => match self.reference(&reference) {
                Some(Reference { namespace: _, name }) => RoleSource::Reference(name),
                None => RoleSource::Absent,
            },
            (None, None) => RoleSource::Absent,
        }
    }

    fn reference(&mut self, reference: &Field<'_>) -> Option<Reference> {
        reference.entries(&mut self.notes)?;
        reference.check_keys(&mut self.notes, &keys::REFERENCE);
        let name_field = reference.required(&mut self.notes, "name", "write the name of the resource")?;
        let name = name_field.text(&mut self.notes)?;
        let namespace = reference.child_text(&mut self.notes, "namespace").filter(|namespace| !namespace.is_empty());
        let namespace = namespace.map(|namespace| self.interner.intern(namespace));
        let name = Located { value: self.interner.intern(name), at: name_field.at };
        Some(Reference { namespace, name })
    }

    fn server(&mut self, field: &Field<'_>) -> Option<ServerSpec> {
        let notes = &mut self.notes;
        field.entries(notes)?;
        field.check_keys(notes, &keys::SERVER);
        let address_field = field.required(notes, "address", "write the address of this server on the interface");
        let address = address_field.and_then(|address| {
            let value = read_role::checked(&address, notes, values::host_address)?;
            Some(Located { value, at: address.at })
        });
        let interface_field =
            field.required(notes, "interface", "write the interface of the boot network, such as eth1");
        let interface = interface_field.and_then(|interface| {
            let text = interface.text(notes)?;
            let name = values::interface(text).map_err(|message| interface.error(notes, message)).ok()?;
            Some(self.interner.intern(name))
        });
        Some(ServerSpec { address: address?, interface: interface? })
    }

    fn role(&mut self, root: &Field<'_>, object: Object, role: Role) -> Resource {
        let Some(spec) = root.required(&mut self.notes, "spec", "write version, mode and metalSpec") else {
            return Resource::Unreadable(Unreadable { kind: kind_of(role), object, mac: None });
        };
        let spec = read_role::role_spec(&spec, role, &mut self.notes, &mut self.interner);
        Resource::Role(RoleResource { object, role, spec })
    }

    /// Reads a `TalosMachine`. Returns `None` for one that does not boot from the network.
    fn machine(&mut self, root: &Field<'_>, object: Object) -> Option<Resource> {
        let spec = root.child("spec")?;
        spec.check_keys(&mut self.notes, &keys::TALOS_MACHINE);
        if spec.entries(&mut self.notes).is_none() {
            return Some(Resource::Unreadable(Unreadable { kind: "TalosMachine", object, mac: None }));
        }
        spec.child("pxeClientSpec")?;
        let owner = match (spec.child("controlPlaneRef"), spec.child("workerRef")) {
            (Some(_), Some(reference)) => {
                reference.error(&mut self.notes, "conflicts with controlPlaneRef: keep one of the two");
                None
            }
            (Some(reference), None) => self.reference(&reference).map(|owner| (Role::ControlPlane, owner)),
            (None, Some(reference)) => self.reference(&reference).map(|owner| (Role::Worker, owner)),
            (None, None) => {
                let advice = "write controlPlaneRef or workerRef, so that the machine belongs to a cluster";
                spec.missing(&mut self.notes, "controlPlaneRef", advice);
                None
            }
        };
        let (declared, machine_spec) = read_role::talos_machine(&spec, &mut self.notes, &mut self.interner);
        let Some((role, Reference { namespace, name })) = owner else {
            let mac = declared.mac.map(|mac| mac.value);
            return Some(Resource::Unreadable(Unreadable { kind: "TalosMachine", object, mac }));
        };
        let namespace = namespace.unwrap_or_else(|| Arc::clone(&object.namespace));
        let owner = Located { value: (namespace, name.value), at: name.at };
        Some(Resource::Machine(MachineResource { object, role, owner, declared, machine_spec }))
    }

    /// Reads another object, of which only the addresses are kept.
    fn foreign(&mut self, root: &Field<'_>, kind: String) {
        let Some(metadata) = root.node.get("metadata") else { return };
        let text = |key| match metadata.value.get(key).map(|entry| entry.value.kind()) {
            Some(Kind::Text(text)) => Some(text),
            _ => None,
        };
        let Some(name) = text("name") else { return };
        let namespace = self.interner.intern(text("namespace").unwrap_or("default"));
        let mut scan = AddressScan { visits: 10_000, addresses: Vec::new() };
        scan.visit(root.node, &mut String::new());
        let addresses = scan.addresses;
        if !addresses.is_empty() {
            self.resources.push(Resource::Foreign(Foreign { kind, namespace, name: name.to_owned(), addresses }));
        }
    }
}

/// Finds the IPv4 addresses in a tree. The number of visits is bounded, because aliases let a small text describe a tree of any
/// size.
struct AddressScan {
    visits: usize,
    addresses: Vec<(String, Ipv4Addr)>,
}

impl AddressScan {
    fn visit(&mut self, node: &Node<'_>, path: &mut String) {
        const KEPT: usize = 256;
        let Some(visits) = self.visits.checked_sub(1) else { return };
        self.visits = visits;
        let length = path.len();
        match node.kind() {
            Kind::Null => {}
            Kind::Text(text) => {
                if let Ok(address) = text.parse()
                    && self.addresses.len() < KEPT
                {
                    self.addresses.push((path.clone(), address));
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    self.visit(item, path);
                    path.truncate(length);
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    push_key(path, &entry.key);
                    self.visit(&entry.value, path);
                    path.truncate(length);
                }
            }
        }
    }
}
