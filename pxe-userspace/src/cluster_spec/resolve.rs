//! Makes machines of the documents of all files: resolves references and applies inheritance.
//!
//! A machine of a `machines[]` list may also exist as a `TalosMachine` that the operator made from it. People write the list, and the
//! copy lags behind it (its version deliberately, during a rollout). So the list takes precedence, and the copy only adds its
//! annotations. A copy that differs in a field that cannot lag for long is an error.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::{
    candidate::{Candidate, Origin, Placed, Resolved},
    check,
    documents::{
        AddressSource, Annotated, Annotations, Cluster, Foreign, MachineRef, MachineResource, Object, Resource,
        RoleResource, RoleSource, RoleSpec, ServerSpec,
    },
    finding::Position,
};
use crate::model::inventory::{AddressHashBuilder, Inventory, Machine, Role, Site, Source};

/// Makes machines of the documents.
pub(crate) fn resolve(documents: &[Placed], known: &Inventory) -> Resolved {
    // Most reloads change few machines, so room for the former number avoids growing step by step.
    let mut resolver = Resolver::new(documents, known.machines().len());
    resolver.clusters();
    resolver.talos_machines();
    resolver.unused_roles();
    resolver.unused_annotations();
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
    copies: HashMap<MacAddr, &'d MachineResource, AddressHashBuilder>,
    listed: HashMap<MacAddr, usize, AddressHashBuilder>,
    sites: HashMap<(&'d str, Ipv4Addr), Arc<Site>>,
    servers: Vec<(&'d Placed, &'d Object, &'d ServerSpec)>,
    candidates: Vec<Candidate<'d>>,
    resolved: Resolved,
}

struct UsedRole<'d> {
    document: &'d Placed,
    resource: &'d RoleResource,
    cluster: Option<&'d Cluster>,
}

/// The common properties of a role's machines.
struct Owner<'d> {
    cluster: &'d Cluster,
    label: Arc<str>,
    site: Arc<Site>,
    role: Role,
    spec: &'d RoleSpec,
    /// The role's annotations, if it is a resource of its own.
    annotations: Option<&'d Annotations>,
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
                    self.copies.insert(mac.value, machine);
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
                let (place, object, list, spec, annotations) = match cluster.role(role) {
                    RoleSource::Absent => continue,
                    RoleSource::Inline(spec) => (document, &cluster.object, inline_list(role), spec, None),
                    RoleSource::Reference(name) => {
                        let Some(used) = self.take_role(document, cluster, role, &name.value, name.at) else {
                            continue;
                        };
                        let object = &used.object;
                        let place = self.roles.get(&(role, key(object))).map_or(document, |used| used.document);
                        (place, object, "spec.metalSpec.machines", &used.spec, Some(&used.object.annotations))
                    }
                };
                machines += spec.machines.len();
                let Some(server) = &cluster.server else { continue };
                let site = self.site(server);
                let owner = Owner { cluster, label: label(&cluster.object), site, role, spec, annotations };
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
                        self.candidates.push(Candidate { machine, origin });
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
        document: &Placed,
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
                *used = Some(cluster);
                Some(resource)
            }
            Some(UsedRole { cluster: Some(other), .. }) => {
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
        let copy = self.copies.get(&mac).copied();
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
        Some(machine(owner, &origin, mac, address, copy.map(|copy| &copy.object.annotations)))
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
        for (document, resource) in std::mem::take(&mut self.machines) {
            let MachineResource { object, role, owner, declared, machine_spec } = resource;
            let (namespace, name) = &owner.value;
            let Some((cluster, spec, annotations)) = self.cluster_of(*role, namespace, name) else {
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
            let owner = Owner { cluster, label, site, role: *role, spec, annotations };
            let machine = machine(&owner, &origin, mac.value, address, Some(&object.annotations));
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
            self.candidates.push(Candidate { machine, origin });
        }
    }

    /// Returns the cluster whose control plane or worker pool has this name, by reference or inline. The operator names an inline
    /// role after its cluster.
    fn cluster_of(
        &self,
        role: Role,
        namespace: &str,
        name: &str,
    ) -> Option<(&'d Cluster, &'d RoleSpec, Option<&'d Annotations>)> {
        if let Some(UsedRole { resource, cluster: Some(cluster), .. }) = self.roles.get(&(role, (namespace, name))) {
            return Some((cluster, &resource.spec, Some(&resource.object.annotations)));
        }
        let named = |(_, cluster): &&(&Placed, &'d Cluster)| key(&cluster.object) == (namespace, name);
        match self.clusters.iter().find(named).map(|(_, cluster)| (cluster, cluster.role(role)))? {
            (cluster, RoleSource::Inline(spec)) => Some((cluster, spec, None)),
            _ => None,
        }
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

    /// Warns of annotations for single machines that do not exist.
    fn unused_annotations(&mut self) {
        let of_clusters = self.clusters.iter().map(|(document, cluster)| (*document, &cluster.object));
        let of_roles = self.roles.values().map(|used| (used.document, &used.resource.object));
        let named = of_clusters.chain(of_roles).flat_map(|(document, object)| {
            let Annotations { policy, disk_route } = &object.annotations;
            let policies = policy.by_mac.iter().map(|one| (one.value.0, one.at));
            let disk_routes = disk_route.by_mac.iter().map(|one| (one.value.0, one.at));
            policies.chain(disk_routes).map(move |(mac, at)| (document, object, mac, at))
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            return;
        }
        let known: std::collections::HashSet<_> =
            self.candidates.iter().map(|candidate| candidate.machine.mac).collect();
        for (document, object, mac, at) in named.into_iter().filter(|(_, _, mac, _)| !known.contains(mac)) {
            let message = format!("no served machine has the MAC address {mac}");
            self.warn(document, at, format!("{}metadata.annotations", object.prefix), message);
        }
    }
}

/// Puts a machine together. `own` are the annotations of the machine's own resource.
fn machine(
    owner: &Owner<'_>,
    origin: &Origin<'_>,
    mac: MacAddr,
    address: Ipv4Addr,
    own: Option<&Annotations>,
) -> Machine {
    let Origin { document, declared, machine_spec, .. } = origin;
    let version = declared.version.as_ref().or(owner.spec.version.as_ref());
    let schematic = match &declared.image {
        Some(image) => &image.schematic,
        None => &machine_spec.schematic,
    };
    let (of_role, of_cluster) = (owner.annotations, &owner.cluster.object.annotations);
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
        policy: nearest(mac, own.map(|own| &own.policy), of_role.map(|role| &role.policy), &of_cluster.policy),
        disk_route: nearest(
            mac,
            own.map(|own| &own.disk_route),
            of_role.map(|role| &role.disk_route),
            &of_cluster.disk_route,
        ),
        loaders: None,
        site: Arc::clone(&owner.site),
        source: Source { file: Arc::clone(&document.file), line },
    }
}

/// Returns the annotation that counts for a machine: its own resource's, else one that selects its MAC address, else the role's,
/// else the cluster's.
fn nearest<T: Copy + Default>(
    mac: MacAddr,
    own: Option<&Annotated<T>>,
    of_role: Option<&Annotated<T>>,
    of_cluster: &Annotated<T>,
) -> T {
    own.and_then(|own| own.all)
        .or_else(|| of_role.and_then(|role| role.one(mac)))
        .or_else(|| of_cluster.one(mac))
        .or_else(|| of_role.and_then(|role| role.all))
        .or(of_cluster.all)
        .unwrap_or_default()
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
