//! Makes machines of the documents of all files: resolves references and applies inheritance.
//!
//! A machine of a `machines[]` list may also exist as a `TalosMachine` that the operator made from it. People write the list, and the
//! copy lags behind it (its version deliberately, during a rollout). So the list takes precedence, and the copy only adds its
//! annotations. A copy that differs in a field that cannot lag for long is an error.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use super::{
    apply_settings::{self, TalosConfigs},
    assemble::{Owner, machine},
    candidate::{Candidate, Origin, Resolved, Retained, Unread},
    check::{self, Server},
    documents::{
        AddressSource, Cluster, Declared, Foreign, MachineRef, MachineResource, Object, Resource, RoleResource,
        RoleSource, RoleSpec, ServerSpec, Unreadable, kind_of,
    },
    faults::{FaultId, Faults},
    finding::Position,
    machine_settings::{Annotated, OfOneMachine, Sources},
    placed::Placed,
    unique::unique,
    unused_settings,
};
use crate::model::inventory::{AddressHashBuilder, Inventory, Machine, Role, Site};

/// Makes machines of the documents. Resources and machines with errors are left out; machines of the `known` inventory stay in their
/// place.
pub(crate) fn resolve(
    documents: &[Placed],
    in_force: &[Placed],
    faults: Faults,
    known: &Inventory,
    configs: &TalosConfigs,
) -> Resolved {
    // Most reloads change few machines, so room for the former number avoids growing step by step.
    let mut resolver = Resolver::new(documents, in_force, faults, known);
    resolver.clusters();
    resolver.talos_machines();
    resolver.unused_roles();
    resolver.settings(configs);
    let Resolver { candidates, unread, retained, mut resolved, servers, .. } = resolver;
    check::machines(candidates, unread, &retained, &servers, known, &mut resolved);
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
    servers: Vec<Server<'d>>,
    candidates: Vec<Candidate<'d>>,
    unread: Vec<Unread>,
    retained: Vec<Retained>,
    /// Roles of which nothing can be read.
    unreadable: HashMap<(Role, Key<'d>), FaultId>,
    known: &'d Inventory,
    resolved: Resolved,
}

struct UsedRole<'d> {
    document: &'d Placed,
    resource: &'d RoleResource,
    cluster: Option<(&'d Placed, &'d Cluster)>,
}

/// The cluster of a `TalosMachine`, and the role in it.
struct OwningCluster<'d> {
    document: &'d Placed,
    cluster: &'d Cluster,
    spec: &'d RoleSpec,
    /// The annotations of its machines, without a machine's own.
    sources: Sources<'d>,
    /// The error of the role's own resource.
    fault: Option<FaultId>,
}

impl<'d> Resolver<'d> {
    fn new(documents: &'d [Placed], in_force: &[Placed], faults: Faults, known: &'d Inventory) -> Self {
        let expected = known.machines().len();
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
            unread: Vec::new(),
            retained: Vec::new(),
            unreadable: HashMap::new(),
            known,
            resolved: Resolved { faults, ..Resolved::default() },
        };
        let counts = unique(documents, in_force);
        for document in documents {
            for (_, resource) in document.resources() {
                match counts.get(&resource.key()) {
                    Some((first, other)) if !std::ptr::eq(*other, resource) => {
                        new.twice(document, resource, first, other);
                    }
                    _ => new.add(document, resource),
                }
            }
        }
        new
    }

    /// Reports a resource that is given twice, and leaves its machines out.
    fn twice(&mut self, document: &'d Placed, resource: &'d Resource, first: &Placed, other: &Resource) {
        let (Some(object), Some(other)) = (resource.object(), other.object()) else { return };
        let (kind, namespace, name) = resource.key();
        let message = format!(
            "{kind} {name:?} of namespace {namespace:?} is given twice, first in {}: keep one",
            first.place(other.at)
        );
        let fault = self.error(document, object.at, format!("{}metadata.name", object.prefix), message);
        for declared in resource.declared() {
            self.unread.push(unread(fault, declared, None));
        }
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
            Resource::Foreign(foreign) => {
                self.foreign.insert((&foreign.kind, (&foreign.namespace, &foreign.name)), foreign);
            }
            Resource::Unreadable(Unreadable { kind, object, mac }) => {
                let Some(fault) = object.fault.map(|fault| document.fault(fault)) else { return };
                match [Role::ControlPlane, Role::Worker].into_iter().find(|role| kind_of(*role) == *kind) {
                    Some(role) => _ = self.unreadable.insert((role, key(object)), fault),
                    None => self.unread.push(Unread { fault, mac: *mac, address: None, owner: None }),
                }
            }
        }
    }

    fn error(&mut self, document: &Placed, at: Position, field: String, message: String) -> FaultId {
        self.resolved.faults.add(document.finding(at, field, message))
    }

    fn warn(&mut self, document: &Placed, at: Position, field: String, message: String) {
        self.resolved.warnings.push(document.finding(at, field, message));
    }

    fn clusters(&mut self) {
        self.resolved.has_cluster = !self.clusters.is_empty();
        self.assign_roles();
        for (document, cluster) in self.clusters.clone() {
            let of_cluster = cluster.object.fault.map(|fault| document.fault(fault));
            let mut machines = 0;
            for role in [Role::ControlPlane, Role::Worker] {
                let (place, object, list, spec, annotations) = match cluster.role(role) {
                    RoleSource::Absent => continue,
                    RoleSource::Inline(spec) => (document, &cluster.object, inline_list(role), spec, None),
                    RoleSource::Reference(name) => {
                        let Some(used) = self.role_of(document, cluster, role, &name.value, name.at) else {
                            continue;
                        };
                        let object = &used.object;
                        let place = self.roles.get(&(role, key(object))).map_or(document, |used| used.document);
                        (place, object, "spec.metalSpec.machines", &used.spec, Some(annotated(place, object)))
                    }
                };
                machines += spec.machines.len();
                let label = label(&cluster.object);
                let of_role = object.fault.or(spec.fault).map(|fault| place.fault(fault));
                if let Some(fault) = of_cluster.or(of_role) {
                    let (cluster, only) = (Arc::clone(&label), None);
                    self.retained.push(Retained { fault, cluster, role, only });
                }
                let Some(server) = &cluster.server else {
                    // Without a pxeServerSpec they are not meant to be served, with a wrong one they are.
                    if let Some(fault) = of_cluster.filter(|_| cluster.has_server) {
                        let owner = (Arc::clone(&label), role);
                        let all = spec.machines.iter();
                        self.unread.extend(all.map(|declared| unread(fault, declared, Some(owner.clone()))));
                    }
                    continue;
                };
                let site = self.site(server);
                let sources = Sources { own: None, role: annotations, cluster: annotated(document, &cluster.object) };
                let owner = Owner { label, site, role, spec, sources };
                self.candidates.reserve(spec.machines.len());
                for declared in &spec.machines {
                    let origin = Origin {
                        document: place,
                        object,
                        list: Some(list),
                        declared,
                        machine_spec: &spec.machine_spec,
                    };
                    let own = declared.fault.map(|fault| place.fault(fault));
                    self.listed_machine(&owner, origin, own.or(of_role).or(of_cluster));
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

    /// Assigns each role resource to the cluster that refers to it. Of several, the one counts whose machines were served, else the
    /// first.
    fn assign_roles(&mut self) {
        for (document, cluster) in self.clusters.clone() {
            for role in [Role::ControlPlane, Role::Worker] {
                let RoleSource::Reference(name) = cluster.role(role) else { continue };
                let known = self.known;
                let Some(used) = self.roles.get_mut(&(role, (&*cluster.object.namespace, &*name.value))) else {
                    continue;
                };
                let had_it = |cluster: &Cluster| {
                    let label = label(&cluster.object);
                    let macs = used.resource.spec.machines.iter().filter_map(|declared| declared.mac);
                    macs.filter_map(|mac| known.by_mac(mac.value)).any(|known| known.cluster == label)
                };
                let is_better = match used.cluster {
                    None => true,
                    Some((_, other)) => !had_it(other) && had_it(cluster),
                };
                if is_better {
                    used.cluster = Some((document, cluster));
                }
            }
        }
    }

    /// Returns the role resource that a cluster refers to, if that is assigned to it.
    fn role_of(
        &mut self,
        document: &Placed,
        cluster: &'d Cluster,
        role: Role,
        name: &'d str,
        at: Position,
    ) -> Option<&'d RoleResource> {
        let namespace: &'d str = &cluster.object.namespace;
        let label = label(&cluster.object);
        if let Some(fault) = self.unreadable.get(&(role, (namespace, name))) {
            self.retained.push(Retained { fault: *fault, cluster: label, role, only: None });
            return None;
        }
        let message = match self.roles.get(&(role, (namespace, name))) {
            Some(UsedRole { resource, cluster: Some((_, assigned)), .. }) => {
                if std::ptr::eq(*assigned, cluster) {
                    return Some(resource);
                }
                let other = &assigned.object.name;
                format!(
                    "{} {name:?} already belongs to cluster {other:?}: a machine belongs to one cluster",
                    kind_of(role)
                )
            }
            Some(UsedRole { cluster: None, .. }) | None => self.no_such_role(role, namespace, name),
        };
        let key_name = match role {
            Role::ControlPlane => "controlPlaneRef",
            Role::Worker => "workerRef",
        };
        let fault = self.error(document, at, format!("{}spec.{key_name}.name", cluster.object.prefix), message);
        // If the name is wrong, the role is there under another. If the role is gone, so are its machines.
        let unused: HashSet<Key<'d>> = self
            .roles
            .iter()
            .filter(|((other, (of, _)), used)| *other == role && *of == namespace && used.cluster.is_none())
            .map(|((_, key), _)| *key)
            .collect();
        let listed = self.roles.iter().filter(|((other, key), _)| *other == role && unused.contains(key));
        let listed = listed.flat_map(|(_, used)| &used.resource.spec.machines);
        let lone = self.machines.iter().map(|(_, machine)| machine);
        let lone = lone.filter(|machine| unused.contains(&(&*machine.owner.value.0, &*machine.owner.value.1)));
        let declared = listed.chain(lone.map(|machine| &machine.declared));
        let only: HashSet<_> = declared.filter_map(|declared| Some(declared.mac?.value)).collect();
        self.retained.push(Retained { fault, cluster: label, role, only: Some(Arc::new(only)) });
        None
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

    fn listed_machine(&mut self, owner: &Owner<'d>, origin: Origin<'d>, fault: Option<FaultId>) {
        let declared = origin.declared;
        let copy = declared.mac.and_then(|mac| self.copies.get(&mac.value).copied());
        let address = match declared.address.as_ref().map(|address| &address.value) {
            Some(AddressSource::Address(address)) => Ok(Some(*address)),
            Some(AddressSource::Reference(reference)) if fault.is_none() => {
                self.referenced_address(reference, origin.object, copy.map(|(_, copy)| copy)).map(Some)
            }
            Some(AddressSource::Reference(_)) | None => Ok(None),
        };
        let (address, fault) = match address {
            Ok(address) => (address, fault),
            Err(message) => {
                let error = self.error(origin.document, origin.address_at(), origin.address_field(), message);
                (None, Some(fault.unwrap_or(error)))
            }
        };
        match (declared.mac, address, fault) {
            (Some(mac), Some(address), fault) => {
                let machine = machine(owner, &origin, mac.value, address);
                if fault.is_none() {
                    self.listed.insert(machine.mac, self.candidates.len());
                }
                let own = copy.map(|(document, copy)| annotated(document, &copy.object));
                let sources = Sources { own, ..owner.sources };
                self.candidates.push(Candidate { machine, origin, sources, of_one: OfOneMachine::default(), fault });
            }
            (_, _, Some(fault)) => {
                self.unread.push(unread(fault, declared, Some((Arc::clone(&owner.label), owner.role))));
            }
            // Both are required, so that one is missing only with an error.
            (_, _, None) => {}
        }
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
            _ if object.is_of_api() => Err(format!(
                "{kind} {name:?} of namespace {namespace:?} is an object that pxed does not read: the machine is served once the \
                 operator has made its TalosMachine, or write the address"
            )),
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
            let mut fault = object.fault.map(|fault| document.fault(fault));
            let Some(OwningCluster { document: place, cluster, spec, sources, fault: of_role }) =
                self.cluster_of(*role, namespace, name)
            else {
                let role_key = (*role, (&**namespace, &**name));
                let unreadable = self.unreadable.get(&role_key).copied();
                if unreadable.is_none() && !self.roles.contains_key(&role_key) {
                    let reference = match role {
                        Role::ControlPlane => "controlPlaneRef",
                        Role::Worker => "workerRef",
                    };
                    let message = self.no_such_role(*role, namespace, name);
                    let field = format!("{}spec.{reference}.name", object.prefix);
                    let error = self.error(document, owner.at, field, message);
                    fault.get_or_insert(error);
                }
                if let Some(fault) = fault.or(unreadable) {
                    self.unread.push(unread(fault, declared, None));
                }
                continue;
            };
            let of_cluster = cluster.object.fault.map(|fault| place.fault(fault));
            let fault = fault.or(of_role).or(of_cluster);
            let label = label(&cluster.object);
            let address = match declared.address.as_ref().map(|address| &address.value) {
                Some(AddressSource::Address(address)) => Some(*address),
                Some(AddressSource::Reference(_)) | None => None,
            };
            let (Some(mac), Some(address), Some(server)) = (declared.mac, address, &cluster.server) else {
                if let Some(fault) = fault.filter(|_| cluster.has_server) {
                    self.unread.push(unread(fault, declared, Some((label, *role))));
                }
                if !cluster.has_server {
                    let message =
                        format!("is not served, because cluster {:?} has no pxeServerSpec", cluster.object.name);
                    self.warn(document, object.at, format!("{}spec.pxeClientSpec", object.prefix), message);
                }
                continue;
            };
            let origin = Origin { document, object, list: None, declared, machine_spec };
            let site = self.site(server);
            let owner = Owner { label, site, role: *role, spec, sources };
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
                    let _ = self.error(document, origin.mac_at(), field, message);
                }
                continue;
            }
            let sources = Sources { own: Some(annotated(document, object)), ..owner.sources };
            self.candidates.push(Candidate { machine, origin, sources, of_one: OfOneMachine::default(), fault });
        }
    }

    /// Returns the cluster whose control plane or worker pool has this name, by reference or inline. The operator names an inline
    /// role after its cluster.
    fn cluster_of(&self, role: Role, namespace: &str, name: &str) -> Option<OwningCluster<'d>> {
        if let Some(UsedRole { document: place, resource, cluster: Some((document, cluster)) }) =
            self.roles.get(&(role, (namespace, name)))
        {
            let fault = resource.object.fault.map(|fault| place.fault(fault));
            let of_role = Some(annotated(place, &resource.object));
            let sources = Sources { own: None, role: of_role, cluster: annotated(document, &cluster.object) };
            return Some(OwningCluster { document, cluster, spec: &resource.spec, sources, fault });
        }
        let named = |(_, cluster): &&(&Placed, &'d Cluster)| key(&cluster.object) == (namespace, name);
        let &(document, cluster) = self.clusters.iter().find(named)?;
        let RoleSource::Inline(spec) = cluster.role(role) else { return None };
        let sources = Sources { own: None, role: None, cluster: annotated(document, &cluster.object) };
        Some(OwningCluster { document, cluster, spec, sources, fault: None })
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
    fn settings(&mut self, configs: &TalosConfigs) {
        let mut applier = apply_settings::apply(&mut self.candidates, configs, &mut self.resolved);
        let of_clusters = self.clusters.iter().map(|(document, cluster)| annotated(document, &cluster.object));
        let of_roles = self.roles.values().map(|used| annotated(used.document, &used.resource.object));
        let unused: Vec<_> = of_clusters
            .chain(of_roles)
            .flat_map(|annotated| applier.unused(annotated.annotations).map(move |machine| (annotated, machine)))
            .collect();
        if !unused.is_empty() {
            unused_settings::point_out(&unused, &self.declared(), &mut self.candidates, &mut self.resolved);
        }
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
            if let Some(OwningCluster { sources, .. }) = self.cluster_of(*role, namespace, name) {
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

/// Returns what is known of a machine with errors.
fn unread(fault: FaultId, declared: &Declared, owner: Option<(Arc<str>, Role)>) -> Unread {
    let address = match declared.address.as_ref().map(|address| &address.value) {
        Some(AddressSource::Address(address)) => Some(*address),
        Some(AddressSource::Reference(_)) | None => None,
    };
    Unread { fault, mac: declared.mac.map(|mac| mac.value), address, owner }
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

fn inline_list(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "spec.controlPlane.metalSpec.machines",
        Role::Worker => "spec.worker.metalSpec.machines",
    }
}
