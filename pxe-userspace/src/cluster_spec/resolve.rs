//! Makes machines of the documents of all files: resolves references and applies inheritance.
//!
//! A machine of a `machines[]` list may also exist as a `TalosMachine` that the operator made from it. People write the list, and the
//! copy lags behind it (its version deliberately, during a rollout). So the list takes precedence, and the copy only adds its
//! annotations. A copy that differs in a field that cannot lag for long is an error.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::{
    candidate::{Candidate, Origin, Resolved},
    check,
    documents::{
        AddressSource, Cluster, Foreign, MachineRef, MachineResource, Object, Resource, RoleResource, RoleSource,
        RoleSpec, ServerSpec,
    },
    finding::Position,
    machine_settings::{Annotated, Applier, OfOneMachine, Sources},
    placed::Placed,
    unused_settings,
};
use crate::model::{
    inventory::{AddressHashBuilder, Inventory, Machine, Role, Site, Source},
    policy::{BootPolicy, DiskRoute},
};

/// Makes machines of the documents.
pub(crate) fn resolve(documents: &[Placed], known: &Inventory) -> Resolved {
    // Most reloads change few machines, so room for the former number avoids growing step by step.
    let mut resolver = Resolver::new(documents, known.machines().len());
    resolver.clusters();
    resolver.talos_machines();
    resolver.unused_roles();
    resolver.settings();
    let Resolver { candidates, mut resolved, servers, .. } = resolver;
    check::machines(candidates, &servers, known, &mut resolved);
    resolved.errors.sort();
    resolved.warnings.sort();
    resolved
}

type Key<'d> = (&'d str, &'d str);

struct Resolver<'d> {
    clusters: Vec<(&'d Placed, &'d Cluster)>,
    roles: HashMap<(Role, Key<'d>), UsedRole<'d>>,
    machines: Vec<(&'d Placed, &'d MachineResource)>,
    foreign: HashMap<(&'d str, Key<'d>), &'d Foreign>,
    /// The `TalosMachine` resources that may be copies of machines in lists, by MAC.
    copies: HashMap<MacAddr, (&'d Placed, &'d MachineResource), AddressHashBuilder>,
    listed: HashMap<MacAddr, usize, AddressHashBuilder>,
    sites: HashMap<(&'d str, Ipv4Addr), Arc<Site>>,
    servers: Vec<(&'d Placed, &'d Object, &'d ServerSpec)>,
    candidates: Vec<Candidate<'d>>,
    resolved: Resolved,
}

struct UsedRole<'d> {
    document: &'d Placed,
    resource: &'d RoleResource,
    cluster: Option<(&'d Placed, &'d Cluster)>,
}

/// The common properties of a role's machines.
struct Owner<'d> {
    label: Arc<str>,
    site: Arc<Site>,
    role: Role,
    spec: &'d RoleSpec,
}

/// The role that a `TalosMachine` belongs to.
struct OwnerOfMachine<'d> {
    cluster: &'d Cluster,
    spec: &'d RoleSpec,
    /// The annotations of its machines, without a machine's own.
    sources: Sources<'d>,
}

impl<'d> Resolver<'d> {
    fn new(documents: &'d [Placed], expected: usize) -> Self {
        let mut new = Self {
            clusters: Vec::new(),
            roles: HashMap::new(),
            machines: Vec::new(),
            foreign: HashMap::new(),
            copies: HashMap::default(),
            listed: HashMap::with_capacity_and_hasher(expected, AddressHashBuilder::default()),
            sites: HashMap::new(),
            servers: Vec::new(),
            candidates: Vec::with_capacity(expected),
            resolved: Resolved::default(),
        };
        let mut seen: HashMap<(&str, Key<'_>), (&Placed, &Object)> = HashMap::new();
        for document in documents {
            let notes = &document.content.notes;
            new.resolved.errors.extend(notes.errors.iter().map(|note| document.noted(note)));
            new.resolved.warnings.extend(notes.warnings.iter().map(|note| document.noted(note)));
            for resource in &document.content.resources {
                let (kind, object) = match resource {
                    Resource::Cluster(cluster) => ("TalosCluster", &cluster.object),
                    Resource::Role(role) => (kind_of(role.role), &role.object),
                    Resource::Machine(machine) => ("TalosMachine", &machine.object),
                    Resource::Foreign(foreign) => {
                        new.foreign.insert((&foreign.kind, (&foreign.namespace, &foreign.name)), foreign);
                        continue;
                    }
                };
                if let Some((first, first_object)) = seen.insert((kind, key(object)), (document, object)) {
                    let message = format!(
                        "{kind} {:?} of namespace {:?} is given twice, first in {}: keep one",
                        object.name,
                        object.namespace,
                        first.place(first_object.at)
                    );
                    let field = format!("{}metadata.name", object.prefix);
                    new.resolved.errors.push(document.finding(object.at, field, message));
                    continue;
                }
                new.add(document, resource);
            }
        }
        new
    }

    fn add(&mut self, document: &'d Placed, resource: &'d Resource) {
        match resource {
            Resource::Cluster(cluster) => {
                if let Some(server) = &cluster.server {
                    self.servers.push((document, &cluster.object, server));
                }
                self.clusters.push((document, cluster));
            }
            Resource::Role(resource) => {
                let used = UsedRole { document, resource, cluster: None };
                self.roles.insert((resource.role, key(&resource.object)), used);
            }
            Resource::Machine(machine) => {
                if let Some(mac) = machine.declared.mac {
                    self.copies.insert(mac.value, (document, machine));
                }
                self.machines.push((document, machine));
            }
            Resource::Foreign(_) => {}
        }
    }

    fn error(&mut self, document: &Placed, at: Position, field: String, message: String) {
        self.resolved.errors.push(document.finding(at, field, message));
    }

    fn warn(&mut self, document: &Placed, at: Position, field: String, message: String) {
        self.resolved.warnings.push(document.finding(at, field, message));
    }

    fn clusters(&mut self) {
        for (document, cluster) in self.clusters.clone() {
            let mut machines = 0;
            for role in [Role::ControlPlane, Role::Worker] {
                let (place, object, list, spec, of_role) = match cluster.role(role) {
                    RoleSource::Absent => continue,
                    RoleSource::Inline(spec) => (document, &cluster.object, inline_list(role), spec, None),
                    RoleSource::Reference(name) => {
                        let Some(used) = self.take_role(document, cluster, role, &name.value, name.at) else {
                            continue;
                        };
                        let object = &used.object;
                        let place = self.roles.get(&(role, key(object))).map_or(document, |used| used.document);
                        (place, object, "spec.metalSpec.machines", &used.spec, Some(annotated(place, object)))
                    }
                };
                machines += spec.machines.len();
                let Some(server) = &cluster.server else { continue };
                let site = self.site(server);
                let sources = Sources { own: None, role: of_role, cluster: annotated(document, &cluster.object) };
                let owner = Owner { label: label(&cluster.object), site, role, spec };
                self.candidates.reserve(spec.machines.len());
                for declared in &spec.machines {
                    let origin = Origin {
                        document: place,
                        object,
                        list: Some(list),
                        declared,
                        machine_spec: &spec.machine_spec,
                    };
                    if let Some(machine) = self.listed_machine(&owner, origin) {
                        self.listed.insert(machine.mac, self.candidates.len());
                        let copy = self.copies.get(&machine.mac);
                        let own = copy.map(|(document, copy)| annotated(document, &copy.object));
                        let sources = Sources { own, ..sources };
                        let of_one = OfOneMachine::default();
                        self.candidates.push(Candidate { machine, origin, sources, of_one });
                    }
                }
            }
            if machines > 0 && !cluster.has_server {
                let field = format!("{}spec.pxeServerSpec", cluster.object.prefix);
                let message = format!(
                    "is missing, so {} not served: write pxeServerSpec with address and interface",
                    machines_are(machines)
                );
                self.warn(document, cluster.object.at, field, message);
            }
        }
    }

    /// Returns the role resource that a cluster refers to, and assigns it to that cluster.
    fn take_role(
        &mut self,
        document: &'d Placed,
        cluster: &'d Cluster,
        role: Role,
        name: &'d str,
        at: Position,
    ) -> Option<&'d RoleResource> {
        let namespace: &'d str = &cluster.object.namespace;
        let key_name = match role {
            Role::ControlPlane => "controlPlaneRef",
            Role::Worker => "workerRef",
        };
        let field = format!("{}spec.{key_name}.name", cluster.object.prefix);
        match self.roles.get_mut(&(role, (namespace, name))) {
            Some(UsedRole { resource, cluster: used @ None, .. }) => {
                *used = Some((document, cluster));
                Some(resource)
            }
            Some(UsedRole { cluster: Some((_, other)), .. }) => {
                let message = format!(
                    "{} {name:?} already belongs to cluster {:?}: a machine belongs to one cluster",
                    kind_of(role),
                    other.object.name
                );
                self.error(document, at, field, message);
                None
            }
            None => {
                let message = self.no_such_role(role, namespace, name);
                self.error(document, at, field, message);
                None
            }
        }
    }

    fn no_such_role(&self, role: Role, namespace: &str, name: &str) -> String {
        const LISTED: usize = 10;
        let kind = kind_of(role);
        let inline = self.clusters.iter().filter(|(_, cluster)| {
            &*cluster.object.namespace == namespace && matches!(cluster.role(role), RoleSource::Inline(_))
        });
        let mut names: Vec<&str> =
            self.roles.keys().filter(|(r, (n, _))| *r == role && *n == namespace).map(|(_, (_, name))| *name).collect();
        names.extend(inline.map(|(_, cluster)| &*cluster.object.name));
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return format!(
                "there is no {kind} {name:?} in namespace {namespace:?}, and no other {kind}: add its document"
            );
        }
        let more = if names.len() > LISTED { ", …" } else { "" };
        names.truncate(LISTED);
        format!("there is no {kind} {name:?} in namespace {namespace:?}, only {}{more}", names.join(", "))
    }

    fn site(&mut self, server: &'d ServerSpec) -> Arc<Site> {
        let (interface, address) = (&server.interface, server.address.value);
        let site = self.sites.entry((interface, address));
        Arc::clone(site.or_insert_with(|| Arc::new(Site { interface: Arc::clone(interface), address })))
    }

    fn listed_machine(&mut self, owner: &Owner<'d>, origin: Origin<'d>) -> Option<Machine> {
        let mac = origin.declared.mac?.value;
        let copy = self.copies.get(&mac).map(|(_, copy)| *copy);
        let address = match &origin.declared.address.as_ref()?.value {
            AddressSource::Address(address) => *address,
            AddressSource::Reference(reference) => match self.referenced_address(reference, origin.object, copy) {
                Ok(address) => address,
                Err(message) => {
                    self.error(origin.document, origin.address_at(), origin.address_field(), message);
                    return None;
                }
            },
        };
        Some(machine(owner, &origin, mac, address))
    }

    /// Returns the address that a `machineRef` refers to. It is taken from the object itself if that is in the files, else from the
    /// `TalosMachine` that the operator made when it had resolved the reference.
    fn referenced_address(
        &self,
        reference: &MachineRef,
        object: &Object,
        copy: Option<&MachineResource>,
    ) -> Result<Ipv4Addr, String> {
        let MachineRef { kind, namespace, name, field_path } = reference;
        let namespace = namespace.as_deref().unwrap_or(&object.namespace);
        if let Some(foreign) = self.foreign.get(&(kind.as_str(), (namespace, name.as_str()))) {
            let found = foreign.addresses.iter().find(|(path, _)| path == field_path);
            return found.map(|(_, address)| *address).ok_or_else(|| {
                let known: Vec<_> = foreign.addresses.iter().take(10).map(|(path, _)| path.as_str()).collect();
                format!("{kind} {name:?} has no IPv4 address at {field_path:?}, only at {}", known.join(", "))
            });
        }
        match copy.and_then(|copy| copy.declared.address.as_ref()).map(|address| &address.value) {
            Some(AddressSource::Address(address)) => Ok(*address),
            _ => Err(format!(
                "{kind} {name:?} of namespace {namespace:?} is not in these files: add it as `kubectl get -o yaml` prints \
                 it, or the TalosMachine that the operator made for this machine, or write the address"
            )),
        }
    }

    fn talos_machines(&mut self) {
        for (document, resource) in self.machines.clone() {
            let MachineResource { object, role, owner, declared, machine_spec } = resource;
            let (namespace, name) = &owner.value;
            let Some(OwnerOfMachine { cluster, spec, sources }) = self.cluster_of(*role, namespace, name) else {
                if !self.roles.contains_key(&(*role, (&**namespace, &**name))) {
                    let reference = match role {
                        Role::ControlPlane => "controlPlaneRef",
                        Role::Worker => "workerRef",
                    };
                    let message = self.no_such_role(*role, namespace, name);
                    self.error(document, owner.at, format!("{}spec.{reference}.name", object.prefix), message);
                }
                continue;
            };
            let (Some(mac), Some(address)) = (declared.mac, &declared.address) else { continue };
            let AddressSource::Address(address) = address.value else { continue };
            let Some(server) = &cluster.server else {
                if !cluster.has_server {
                    let message =
                        format!("is not served, because cluster {:?} has no pxeServerSpec", cluster.object.name);
                    self.warn(document, object.at, format!("{}spec.pxeClientSpec", object.prefix), message);
                }
                continue;
            };
            let origin = Origin { document, object, list: None, declared, machine_spec };
            let (label, site) = (label(&cluster.object), self.site(server));
            let owner = Owner { label, site, role: *role, spec };
            let machine = machine(&owner, &origin, mac.value, address);
            let listed = self.listed.get(&mac.value).and_then(|&index| self.candidates.get(index));
            if let Some(listed) = listed.filter(|listed| is_copy(&listed.machine, &machine)) {
                let differs = [
                    ("cpuArchitecture", listed.machine.architecture != machine.architecture),
                    ("kernelCmdlineArgs", listed.machine.kernel_args != machine.kernel_args),
                ];
                let first = listed.origin.document.place(listed.origin.declared.at);
                for (key, _) in differs.into_iter().filter(|(_, differs)| *differs) {
                    let field = format!("{}.pxeClientSpec.{key}", origin.base());
                    let message = format!("differs from the same machine in {first}: make them equal, or remove one");
                    self.error(document, origin.mac_at(), field, message);
                }
                continue;
            }
            let sources = Sources { own: Some(annotated(document, object)), ..sources };
            self.candidates.push(Candidate { machine, origin, sources, of_one: OfOneMachine::default() });
        }
    }

    /// Returns the cluster whose control plane or worker pool has this name, by reference or inline. The operator names an inline
    /// role after its cluster.
    fn cluster_of(&self, role: Role, namespace: &str, name: &str) -> Option<OwnerOfMachine<'d>> {
        if let Some(UsedRole { document, resource, cluster: Some((place, cluster)) }) =
            self.roles.get(&(role, (namespace, name)))
        {
            let of_role = Some(annotated(document, &resource.object));
            let sources = Sources { own: None, role: of_role, cluster: annotated(place, &cluster.object) };
            return Some(OwnerOfMachine { cluster, spec: &resource.spec, sources });
        }
        let named = |(_, cluster): &&(&Placed, &'d Cluster)| key(&cluster.object) == (namespace, name);
        let &(place, cluster) = self.clusters.iter().find(named)?;
        let RoleSource::Inline(spec) = cluster.role(role) else { return None };
        let sources = Sources { own: None, role: None, cluster: annotated(place, &cluster.object) };
        Some(OwnerOfMachine { cluster, spec, sources })
    }

    /// Warns of roles that belong to no cluster, except for the operator's copies of inline roles.
    fn unused_roles(&mut self) {
        let unused =
            self.roles.values().filter(|used| used.cluster.is_none() && !used.resource.spec.machines.is_empty());
        let unused = unused.filter(|UsedRole { resource, .. }| {
            let (namespace, name) = key(&resource.object);
            self.cluster_of(resource.role, namespace, name).is_none()
        });
        let warnings: Vec<_> = unused
            .map(|UsedRole { document, resource, .. }| {
                let object = &resource.object;
                let message = format!(
                    "no TalosCluster of namespace {:?} refers to this {}: its {} not served",
                    object.namespace,
                    kind_of(resource.role),
                    machines_are(resource.spec.machines.len())
                );
                document.finding(object.at, format!("{}metadata.name", object.prefix), message)
            })
            .collect();
        self.resolved.warnings.extend(warnings);
    }

    /// Applies the annotations to all machines, and points out those for single machines that do not exist.
    fn settings(&mut self) {
        let mut applier = Applier::default();
        for Candidate { machine, sources, of_one, .. } in &mut self.candidates {
            *of_one = applier.apply(sources, machine);
        }
        let of_clusters = self.clusters.iter().map(|(document, cluster)| annotated(document, &cluster.object));
        let of_roles = self.roles.values().map(|used| annotated(used.document, &used.resource.object));
        let unused: Vec<_> = of_clusters
            .chain(of_roles)
            .flat_map(|annotated| applier.unused(annotated.annotations).map(move |machine| (annotated, machine)))
            .collect();
        if !unused.is_empty() {
            unused_settings::point_out(&unused, &self.declared(), &self.candidates, &mut self.resolved);
        }
        self.resolved.errors.append(&mut applier.errors);
        self.resolved.warnings.append(&mut applier.warnings);
    }

    /// Returns the machines that each resource declares, also those that are not served.
    fn declared(&self) -> unused_settings::Declared {
        let mut declared = unused_settings::Declared::default();
        for (document, cluster) in &self.clusters {
            for role in [Role::ControlPlane, Role::Worker] {
                if let RoleSource::Inline(spec) = cluster.role(role) {
                    declared.add([annotated(document, &cluster.object)], &spec.machines);
                }
            }
        }
        for UsedRole { document, resource, cluster } in self.roles.values() {
            let of_role = annotated(document, &resource.object);
            let of_cluster = cluster.map(|(document, cluster)| annotated(document, &cluster.object));
            declared.add([of_role].into_iter().chain(of_cluster), &resource.spec.machines);
        }
        for (_, MachineResource { role, owner, declared: machine, .. }) in &self.machines {
            let (namespace, name) = &owner.value;
            if let Some(OwnerOfMachine { sources, .. }) = self.cluster_of(*role, namespace, name) {
                let owners = sources.role.into_iter().chain([sources.cluster]);
                declared.add(owners, std::slice::from_ref(machine));
            }
        }
        declared
    }
}

/// Returns the annotations of a resource.
fn annotated<'d>(document: &'d Placed, object: &'d Object) -> Annotated<'d> {
    Annotated { document, annotations: &object.annotations }
}

/// Puts a machine together, without its annotations.
fn machine(owner: &Owner<'_>, origin: &Origin<'_>, mac: MacAddr, address: Ipv4Addr) -> Machine {
    let Origin { document, declared, machine_spec, .. } = origin;
    let version = declared.version.as_ref().or(owner.spec.version.as_ref());
    let schematic = match &declared.image {
        Some(image) => &image.schematic,
        None => &machine_spec.schematic,
    };
    let line = document.lines_before.saturating_add(declared.at.line);
    Machine {
        mac,
        additional_macs: Arc::default(),
        address,
        cluster: Arc::clone(&owner.label),
        role: owner.role,
        architecture: declared.architecture,
        // It is absent only after an error, and then no inventory is made.
        version: version.map_or_else(|| Arc::from(""), Arc::clone),
        schematic: schematic.clone(),
        kernel_args: Arc::clone(&declared.kernel_args),
        hostname: machine_spec.hostname.as_ref().map(|hostname| Arc::clone(&hostname.value)),
        prefix_length: machine_spec.prefix_length,
        gateway: machine_spec.gateway.map(|gateway| gateway.value),
        dns_servers: Arc::clone(&machine_spec.dns_servers),
        policy: BootPolicy::default(),
        disk_route: DiskRoute::default(),
        loaders: None,
        site: Arc::clone(&owner.site),
        source: Source { file: Arc::clone(&document.file), line },
    }
}

/// Returns `true` if the second machine is the operator's copy of the first.
fn is_copy(listed: &Machine, machine: &Machine) -> bool {
    let identity = |machine: &Machine| (machine.address, Arc::clone(&machine.cluster), machine.role);
    identity(listed) == identity(machine)
}

fn key(object: &Object) -> Key<'_> {
    (&object.namespace, &object.name)
}

/// Returns the name of a cluster, preceded by its namespace if that is not the default.
fn label(object: &Object) -> Arc<str> {
    match &*object.namespace {
        "default" => Arc::clone(&object.name),
        namespace => Arc::from(format!("{namespace}/{}", object.name)),
    }
}

fn machines_are(count: usize) -> String {
    if count == 1 { "1 machine is".to_owned() } else { format!("{count} machines are") }
}

fn kind_of(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "TalosControlPlane",
        Role::Worker => "TalosWorker",
    }
}

fn inline_list(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "spec.controlPlane.metalSpec.machines",
        Role::Worker => "spec.worker.metalSpec.machines",
    }
}
