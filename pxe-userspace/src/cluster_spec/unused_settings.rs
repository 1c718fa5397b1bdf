//! Points out settings for single machines that select none.

use std::{
    collections::{HashMap, HashSet},
    ptr,
};

use pxe_common::MacAddr;

use super::{
    candidate::{Candidate, Resolved},
    documents::{self, AddressSource},
    faults::FaultId,
    machine_settings::{Annotated, Sources},
    settings::{Annotations, MachineKey, MachineSettings},
};

/// The machines that resources declare, also those that are not served.
#[derive(Debug, Default)]
pub(crate) struct Declared(HashMap<*const Annotations, OfResource>);

#[derive(Debug, Default)]
struct OfResource {
    keys: HashSet<MachineKey>,
    /// A machine has no address, because of a mistake that is noted.
    is_incomplete: bool,
}

impl Declared {
    /// Adds machines to the resources that declare them.
    pub(crate) fn add<'m>(
        &mut self,
        resources: impl IntoIterator<Item = Annotated<'m>>,
        machines: &[documents::Declared],
    ) {
        for Annotated { annotations, .. } in resources {
            let of_resource = self.0.entry(ptr::from_ref(annotations)).or_default();
            for machine in machines {
                of_resource.keys.extend(machine.mac.map(|mac| MachineKey::Mac(mac.value)));
                match machine.address.as_ref().map(|address| &address.value) {
                    Some(AddressSource::Address(address)) => {
                        of_resource.keys.insert(MachineKey::Address(*address));
                    }
                    Some(AddressSource::Reference(_)) => {}
                    None => of_resource.is_incomplete = true,
                }
                of_resource.is_incomplete |= machine.mac.is_none();
            }
        }
    }
}

/// Adds a finding for each of the settings. In `pxed.dev/machines`, a key that no machine of the resource has is an error, and
/// everywhere one that is another network card of a machine, whose first one selects it.
pub(crate) fn point_out(
    unused: &[(Annotated<'_>, &MachineSettings)],
    declared: &Declared,
    candidates: &mut [Candidate<'_>],
    resolved: &mut Resolved,
) {
    let mut faulty: HashMap<*const Annotations, FaultId> = HashMap::new();
    let mut faulty_machines: HashMap<MacAddr, FaultId> = HashMap::new();
    let mut served = HashMap::with_capacity(candidates.len() * 2);
    for candidate in candidates.iter() {
        served.insert(MachineKey::Address(candidate.machine.address), candidate);
        served.extend(candidate.machine.macs().map(|mac| (MachineKey::Mac(mac), candidate)));
    }
    for (Annotated { document, annotations }, machine) in unused {
        let finding = |message| document.finding(machine.at, machine.field.to_string(), message);
        let candidate = served.get(&machine.key);
        if let Some(candidate) = candidate.filter(|candidate| is_source(&candidate.sources, annotations)) {
            let first = candidate.machine.mac;
            let message = format!("is another network card of the machine {first}: write that address");
            let fault = resolved.faults.add(finding(message));
            faulty_machines.entry(first).or_insert(fault);
            continue;
        }
        if !machine.in_map {
            let key = match machine.key {
                MachineKey::Mac(mac) => format!("MAC address {mac}"),
                MachineKey::Address(address) => format!("address {address}"),
            };
            resolved.warnings.push(finding(format!("no served machine has the {key}")));
            continue;
        }
        // A machine that is not served has findings of its own.
        let known = declared.0.get(&ptr::from_ref(*annotations));
        if known.is_some_and(|known| known.is_incomplete || known.keys.contains(&machine.key)) {
            continue;
        }
        let message = match candidate {
            Some(candidate) => format!(
                "is a machine of {}, not of this resource: write its settings there",
                candidate.origin.object.name
            ),
            None => "names no machine of this resource: write the macAddress or the address of one".to_owned(),
        };
        let fault = resolved.faults.add(finding(message));
        faulty.entry(ptr::from_ref(*annotations)).or_insert(fault);
    }
    if faulty.is_empty() && faulty_machines.is_empty() {
        return;
    }
    for candidate in candidates {
        let Sources { own, role, cluster } = &candidate.sources;
        let mut all = own.iter().chain(role).chain([cluster]);
        // Nobody knows which of the machines of a resource the settings are for.
        let of_resource = all.find_map(|source| faulty.get(&ptr::from_ref(source.annotations)));
        let fault = faulty_machines.get(&candidate.machine.mac).or(of_resource);
        candidate.fault = candidate.fault.or(fault.copied());
    }
}

fn is_source(sources: &Sources<'_>, annotations: &Annotations) -> bool {
    let mut all = sources.own.iter().chain(&sources.role).chain([&sources.cluster]);
    all.any(|source| ptr::eq(source.annotations, annotations))
}
