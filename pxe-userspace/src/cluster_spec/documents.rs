//! The resources of talos-operator (`talos.alperen.cloud/v1alpha1`), as far as booting needs them: typed, each value with its place,
//! and each document by itself.

use std::{net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::{
    finding::{ErrorIndex, Notes, Position},
    settings::Annotations,
};
use crate::model::{architecture::Architecture, inventory::Role};

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
}

/// The content of one document. It depends on the document's text only, and not on its place in a file.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) resources: Vec<Resource>,
    pub(crate) notes: Notes,
    /// The first error that belongs to no resource: the document may have resources that nobody can tell.
    pub(crate) fault: Option<ErrorIndex>,
}

/// One resource.
#[derive(Debug)]
pub(crate) enum Resource {
    Cluster(Cluster),
    Role(RoleResource),
    Machine(MachineResource),
    Foreign(Foreign),
    Unreadable(Unreadable),
}

/// The kind, namespace and name of a resource.
pub(crate) type Key<'d> = (&'d str, &'d str, &'d str);

impl Resource {
    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Self::Cluster(Cluster { object, .. }) => ("TalosCluster", &object.namespace, &object.name),
            Self::Role(RoleResource { object, role, .. }) => (kind_of(*role), &object.namespace, &object.name),
            Self::Machine(MachineResource { object, .. }) => ("TalosMachine", &object.namespace, &object.name),
            Self::Foreign(Foreign { kind, namespace, name, .. }) => (kind, namespace, name),
            Self::Unreadable(Unreadable { kind, object, .. }) => (kind, &object.namespace, &object.name),
        }
    }

    /// Returns its common parts, except for a foreign one.
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Cluster(Cluster { object, .. })
            | Self::Role(RoleResource { object, .. })
            | Self::Machine(MachineResource { object, .. })
            | Self::Unreadable(Unreadable { object, .. }) => Some(object),
            Self::Foreign(_) => None,
        }
    }

    /// Returns the machines that are written in it.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Declared> {
        let (lists, one): ([&[Declared]; 2], _) = match self {
            Self::Cluster(Cluster { control_plane, worker, .. }) => {
                ([control_plane, worker].map(RoleSource::machines), None)
            }
            Self::Role(RoleResource { spec, .. }) => ([&spec.machines, &[]], None),
            Self::Machine(MachineResource { declared, .. }) => ([&[], &[]], Some(declared)),
            Self::Foreign(_) | Self::Unreadable(_) => ([&[], &[]], None),
        };
        lists.into_iter().flatten().chain(one)
    }

    /// Returns its first error that does not belong to one of its machines or inline roles.
    pub(crate) fn fault(&self) -> Option<ErrorIndex> {
        match self {
            Self::Cluster(Cluster { object, .. }) | Self::Machine(MachineResource { object, .. }) => object.fault,
            Self::Role(RoleResource { object, spec, .. }) => object.fault.or(spec.fault),
            Self::Foreign(_) => None,
            Self::Unreadable(Unreadable { object, .. }) => object.fault,
        }
    }
}

/// Returns the kind of the resource that specifies a role.
pub(crate) const fn kind_of(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "TalosControlPlane",
        Role::Worker => "TalosWorker",
    }
}

/// A resource with a name and errors that leave nothing to serve.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) kind: &'static str,
    pub(crate) object: Object,
    /// The MAC address of a `TalosMachine`.
    pub(crate) mac: Option<MacAddr>,
}

/// The common parts of all resources.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) at: Position,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// The part of a field path before `spec`: empty, or `items[3].` in a List.
    pub(crate) prefix: Arc<str>,
    pub(crate) annotations: Annotations,
    /// Its first error that does not belong to one of its machines or roles.
    pub(crate) fault: Option<ErrorIndex>,
}

impl Object {
    /// Returns `true` for an object of the API, which has no lines.
    pub(crate) fn is_of_api(&self) -> bool {
        self.at == Position::default()
    }
}

/// `TalosCluster`.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) object: Object,
    /// `None` if there is none, or if it has mistakes, which are noted.
    pub(crate) server: Option<ServerSpec>,
    pub(crate) has_server: bool,
    pub(crate) control_plane: RoleSource,
    pub(crate) worker: RoleSource,
}

impl Cluster {
    pub(crate) fn role(&self, role: Role) -> &RoleSource {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Worker => &self.worker,
        }
    }
}

/// `pxeServerSpec`.
#[derive(Debug)]
pub(crate) struct ServerSpec {
    pub(crate) address: Located<Ipv4Addr>,
    pub(crate) interface: Arc<str>,
}

/// The way in which a cluster specifies a role.
#[derive(Debug)]
pub(crate) enum RoleSource {
    Absent,
    Inline(RoleSpec),
    Reference(Located<Arc<str>>),
}

impl RoleSource {
    fn machines(&self) -> &[Declared] {
        match self {
            Self::Inline(spec) => &spec.machines,
            Self::Absent | Self::Reference(_) => &[],
        }
    }
}

/// `TalosControlPlane` or `TalosWorker` as a resource of its own.
#[derive(Debug)]
pub(crate) struct RoleResource {
    pub(crate) object: Object,
    pub(crate) role: Role,
    pub(crate) spec: RoleSpec,
}

/// The spec of a role, with the machines that have a `pxeClientSpec`. It is empty unless the mode is metal.
#[derive(Debug, Default)]
pub(crate) struct RoleSpec {
    /// Its first error that does not belong to one of its machines.
    pub(crate) fault: Option<ErrorIndex>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) machines: Vec<Declared>,
    pub(crate) machine_spec: MachineSpec,
}

/// `machineSpec`.
#[derive(Clone, Debug, Default)]
pub(crate) struct MachineSpec {
    pub(crate) schematic: Option<Arc<str>>,
    pub(crate) hostname: Option<Located<Arc<str>>>,
    pub(crate) prefix_length: Option<u8>,
    pub(crate) gateway: Option<Located<Ipv4Addr>>,
    pub(crate) dns_servers: Arc<[Ipv4Addr]>,
}

/// An entry of `machines[]` with a `pxeClientSpec`, or the machine of a `TalosMachine`. Values with mistakes are absent and noted;
/// the others still take part in the search for duplicates.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) at: Position,
    /// Its first error.
    pub(crate) fault: Option<ErrorIndex>,
    /// Its index in `machines[]`.
    pub(crate) index: u32,
    pub(crate) mac: Option<Located<MacAddr>>,
    pub(crate) address: Option<Located<AddressSource>>,
    pub(crate) architecture: Architecture,
    pub(crate) version: Option<Arc<str>>,
    /// The machine's own `image`, which replaces the role's even if it has no schematic.
    pub(crate) image: Option<Image>,
    pub(crate) kernel_args: Arc<str>,
}

/// An `image`, as far as booting needs it.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) schematic: Option<Arc<str>>,
}

/// `address` or `machineRef`.
#[derive(Clone, Debug)]
pub(crate) enum AddressSource {
    Address(Ipv4Addr),
    Reference(Box<MachineRef>),
}

/// `machineRef`: a reference to the address in another Kubernetes object.
#[derive(Clone, Debug)]
pub(crate) struct MachineRef {
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// Without the leading dot.
    pub(crate) field_path: String,
}

/// `TalosMachine` with a `pxeClientSpec`.
#[derive(Debug)]
pub(crate) struct MachineResource {
    pub(crate) object: Object,
    pub(crate) role: Role,
    /// The namespace and name in `controlPlaneRef` or `workerRef`.
    pub(crate) owner: Located<(Arc<str>, Arc<str>)>,
    pub(crate) declared: Declared,
    pub(crate) machine_spec: MachineSpec,
}

/// Any other object. Only its IPv4 addresses matter, because a `machineRef` may refer to one.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) kind: String,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: String,
    /// Field path and address.
    pub(crate) addresses: Vec<(String, Ipv4Addr)>,
}
