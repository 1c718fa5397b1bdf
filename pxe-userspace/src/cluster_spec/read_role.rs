//! Reads the spec of a control plane, a worker pool or one machine: versions, machines, boot parameters.

use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

use super::{
    documents::{AddressSource, Declared, Image, Located, MachineRef, MachineSpec, RoleSpec},
    field::Field,
    finding::Notes,
    keys, values,
};
use crate::model::{architecture::Architecture, inventory::Role};

/// The version that the API server sets for a role without one.
const DEFAULT_VERSION: &str = "v1.13.0";

/// Keeps texts that many machines share, each once.
#[derive(Default)]
pub(crate) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&kept));
        kept
    }
}

/// Parses the value of a text field. Notes the mistake if it is wrong.
pub(crate) fn checked<T>(
    field: &Field<'_>,
    notes: &mut Notes,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    parse(field.text(notes)?).map_err(|message| field.error(notes, message)).ok()
}

/// Reads `TalosControlPlane.spec`, `TalosWorker.spec`, or the same inline in a cluster.
pub(crate) fn role_spec(spec: &Field<'_>, role: Role, notes: &mut Notes, interner: &mut Interner) -> RoleSpec {
    let outer = notes.begin();
    let read = role_spec_of(spec, role, notes, interner);
    // After the machines have taken theirs.
    notes.claim_duplicates(|| spec.path());
    RoleSpec { fault: notes.end(outer), ..read }
}

fn role_spec_of(spec: &Field<'_>, role: Role, notes: &mut Notes, interner: &mut Interner) -> RoleSpec {
    let mut read = RoleSpec::default();
    if spec.entries(notes).is_none() {
        return read;
    }
    spec.check_keys(notes, &keys::ROLE);
    match spec
        .required(notes, "mode", "write metal for machines that boot from the network")
        .map(|m| (m, m.text(notes)))
    {
        Some((_, Some("metal"))) => {}
        Some((_, Some("container" | "cloud"))) => {
            warn_not_metal(spec, notes);
            return read;
        }
        Some((mode, Some(other))) => {
            mode.error(notes, format!("is {other:?}: write metal, container or cloud"));
        }
        // The mistake is noted. Reading on as metal finds the others.
        Some((_, None)) | None => {}
    }
    read.version = match spec.child("version") {
        Some(version) => version_of(&version, notes, interner),
        None => {
            let message = format!("is missing: {DEFAULT_VERSION} is assumed, as by the API server");
            notes.warn(spec.at, format!("{}.version", spec.path()), message);
            Some(interner.intern(DEFAULT_VERSION))
        }
    };
    let Some(metal) = spec.required(notes, "metalSpec", "mode metal needs it, with machines") else { return read };
    if metal.entries(notes).is_none() {
        return read;
    }
    metal.check_keys(notes, &keys::METAL);
    if let Some(machine_spec) = metal.child("machineSpec") {
        read.machine_spec = self::machine_spec(&machine_spec, notes, interner);
    }
    let machines = metal.child("machines");
    let items = machines.as_ref().and_then(|machines| machines.items(notes));
    match items {
        Some(items) if items.len() > 0 => {
            read.machines = items.enumerate().filter_map(|(at, item)| listed(at, &item, notes, interner)).collect();
        }
        None if machines.is_some() => {}
        // The schema allows an empty worker pool, but no empty control plane.
        _ => {
            let path = format!("{}.machines", metal.path());
            match role {
                Role::ControlPlane => notes.error(metal.at, path, "is empty: mode metal needs at least one machine"),
                Role::Worker => notes.warn(metal.at, path, "is empty: no worker is booted"),
            }
        }
    }
    read
}

fn warn_not_metal(spec: &Field<'_>, notes: &mut Notes) {
    let Some(metal) = spec.child("metalSpec") else { return };
    let Some(machines) = metal.child("machines") else { return };
    let Some(mut items) = machines.items(&mut Notes::default()) else { return };
    if items.any(|item| item.child("pxeClientSpec").is_some()) {
        machines.warn(notes, "are not booted from the network, because mode is not metal");
    }
}

/// Reads an entry of `machines[]`. Returns `None` for a machine that pxed does not boot.
fn listed(index: usize, field: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> Option<Declared> {
    let outer = notes.begin();
    notes.claim_duplicates(|| field.path());
    let declared = machine(index, field, notes, interner);
    let fault = notes.end(outer);
    declared.map(|declared| Declared { fault, ..declared })
}

fn machine(index: usize, field: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> Option<Declared> {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if !field.is_mapping() {
        field.error(notes, "is not a mapping: write `- address: 10.0.0.11` instead of a bare address");
        return Some(unread(field, index, interner));
    }
    let Some(client) = field.child("pxeClientSpec") else {
        field.check_keys(notes, &keys::OTHER_MACHINE);
        return None;
    };
    field.check_keys(notes, &keys::MACHINE);
    let address = match (field.child("address"), field.child("machineRef")) {
        (Some(_), Some(reference)) => {
            reference.error(notes, "conflicts with address: keep one of the two");
            None
        }
        (Some(address), None) => checked(&address, notes, values::host_address)
            .map(|value| Located { value: AddressSource::Address(value), at: address.at }),
        (None, Some(reference)) => machine_ref(&reference, notes)
            .map(|value| Located { value: AddressSource::Reference(Box::new(value)), at: reference.at }),
        (None, None) => {
            field.missing(notes, "address", "write the address of the machine, or a machineRef");
            None
        }
    };
    let version = field.child("version").filter(|version| version.text(notes).is_some_and(|text| !text.is_empty()));
    let version = version.and_then(|version| version_of(&version, notes, interner));
    let image = field.child("image").map(|image| Image { schematic: schematic_of(&image, notes, interner) });
    let declared = Declared { address, version, image, ..unread(field, index, interner) };
    Some(with_client(declared, &client, notes, interner))
}

/// Returns a machine of which nothing has been read.
fn unread(field: &Field<'_>, index: u32, interner: &mut Interner) -> Declared {
    Declared {
        at: field.at,
        fault: None,
        index,
        mac: None,
        address: None,
        architecture: Architecture::Amd64,
        version: None,
        image: None,
        kernel_args: interner.intern(""),
    }
}

/// Reads `TalosMachine.spec`, which has a `pxeClientSpec`.
pub(crate) fn talos_machine(spec: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> (Declared, MachineSpec) {
    let endpoint = spec.required(notes, "endpoint", "write the address of the machine");
    let address = endpoint.and_then(|endpoint| {
        let value = checked(&endpoint, notes, values::host_address)?;
        Some(Located { value: AddressSource::Address(value), at: endpoint.at })
    });
    let version = spec.required(notes, "version", "write the Talos version, such as v1.13.0");
    let version = version.and_then(|version| version_of(&version, notes, interner));
    let machine_spec =
        spec.child("machineSpec").map_or_else(MachineSpec::default, |field| machine_spec(&field, notes, interner));
    let declared = Declared { address, version, ..unread(spec, 0, interner) };
    let declared = match spec.child("pxeClientSpec") {
        Some(client) => with_client(declared, &client, notes, interner),
        None => declared,
    };
    (declared, machine_spec)
}

/// Adds the fields of `pxeClientSpec`.
fn with_client(mut declared: Declared, client: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> Declared {
    if client.entries(notes).is_none() {
        return declared;
    }
    client.check_keys(notes, &keys::CLIENT);
    if let Some(mac) = client.required(notes, "macAddress", "write the address of the network card that boots") {
        declared.mac = checked(&mac, notes, values::mac).map(|value| Located { value, at: mac.at });
        if let Some(warning) = declared.mac.and_then(|mac| values::mac_warning(mac.value)) {
            mac.warn(notes, warning);
        }
    }
    if let Some(field) = client.required(notes, "cpuArchitecture", "write amd64 or arm64")
        && let Some(architecture) = checked(&field, notes, values::architecture)
    {
        declared.architecture = architecture;
    }
    if let Some(field) = client.child("kernelCmdlineArgs")
        && let Some(text) = field.text(notes)
    {
        match values::check_kernel_args(text) {
            Ok(None) => {}
            Ok(Some(warning)) => field.warn(notes, warning),
            Err(message) => field.error(notes, message),
        }
        declared.kernel_args = interner.intern(text);
    }
    declared
}

fn machine_ref(field: &Field<'_>, notes: &mut Notes) -> Option<MachineRef> {
    field.entries(notes)?;
    field.check_keys(notes, &keys::REFERENCE);
    let mut required = |key, advice| {
        let text = field.required(notes, key, advice)?.text(notes)?;
        Some(text.to_owned())
    };
    let kind = required("kind", "write the kind of the object that has the address");
    let name = required("name", "write the name of the object that has the address");
    let field_path = required("fieldPath", "write the field of the object that has the address, such as status.podIP");
    let namespace = field.child_text(notes, "namespace").filter(|text| !text.is_empty()).map(str::to_owned);
    let field_path = field_path?.trim_start_matches('.').to_owned();
    Some(MachineRef { kind: kind?, namespace, name: name?, field_path })
}

fn version_of(field: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> Option<Arc<str>> {
    let text = field.text(notes)?;
    match values::version(text) {
        Ok(version) => Some(interner.intern(version)),
        Err(message) => {
            field.error(notes, message);
            None
        }
    }
}

fn schematic_of(field: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> Option<Arc<str>> {
    match values::schematic(field.text(notes)?) {
        Ok(schematic) => schematic.map(|schematic| interner.intern(schematic)),
        Err(message) => {
            field.error(notes, message);
            None
        }
    }
}

/// Reads `machineSpec`: the image, and the `meta` that DHCP hands out.
fn machine_spec(field: &Field<'_>, notes: &mut Notes, interner: &mut Interner) -> MachineSpec {
    let mut spec = MachineSpec::default();
    if field.entries(notes).is_none() {
        return spec;
    }
    field.check_keys(notes, &keys::MACHINE_SPEC);
    spec.schematic = field.child("image").and_then(|image| schematic_of(&image, notes, interner));
    let Some(meta) = field.child("meta") else { return spec };
    if meta.entries(notes).is_none() {
        return spec;
    }
    meta.check_keys(notes, &keys::META);
    let given = |key| meta.child(key).filter(|field| !matches!(field.text(&mut Notes::default()), Some("")));
    spec.hostname = given("hostname").and_then(|field| {
        let name = checked(&field, notes, |text| values::hostname(text).map(|name| interner.intern(name)))?;
        Some(Located { value: name, at: field.at })
    });
    spec.prefix_length = given("subnet").and_then(|field| checked(&field, notes, values::prefix_length)).flatten();
    spec.gateway = given("gateway").and_then(|field| {
        let value = ipv4_of(&field, notes)?;
        Some(Located { value, at: field.at })
    });
    if let Some(servers) = meta.child("dnsServers")
        && let Some(items) = servers.items(notes)
    {
        spec.dns_servers = items.filter_map(|item| ipv4_of(&item, notes)).collect();
    }
    spec
}

/// Reads an address that DHCP hands out. Talos accepts IPv6 here as well, which DHCPv4 cannot hand out.
fn ipv4_of(field: &Field<'_>, notes: &mut Notes) -> Option<Ipv4Addr> {
    if field.text(notes)?.parse::<std::net::Ipv6Addr>().is_ok() {
        field.warn(notes, "is an IPv6 address, which DHCP for IPv4 cannot hand out: left out");
        return None;
    }
    checked(field, notes, values::host_address)
}
