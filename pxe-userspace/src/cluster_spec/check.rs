//! Checks across all machines, from whatever documents they come.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use super::{
    candidate::{Candidate, Resolved},
    documents::{Object, ServerSpec},
    machine_settings::InForce,
    placed::Placed,
};
use crate::model::inventory::{AddressHashBuilder, Inventory};

/// Checks the machines against each other and against the servers, and keeps them. Machines that equal a `known` one share its
/// memory.
pub(crate) fn machines(
    mut candidates: Vec<Candidate<'_>>,
    servers: &[(&Placed, &Object, &ServerSpec)],
    known: &Inventory,
    resolved: &mut Resolved,
) {
    check_servers(servers, resolved);
    let ours: HashSet<Ipv4Addr> = servers.iter().map(|(_, _, server)| server.address.value).collect();
    let mut by_mac = HashMap::with_capacity_and_hasher(candidates.len(), AddressHashBuilder::default());
    let mut by_address = HashMap::with_capacity_and_hasher(candidates.len(), AddressHashBuilder::default());
    for (index, Candidate { machine, origin, .. }) in candidates.iter().enumerate() {
        if let Some(first) = by_mac.insert(machine.mac, index).and_then(|first: usize| candidates.get(first)) {
            let first = first.origin.document.place(first.origin.mac_at());
            let message =
                format!("{} is already used by the machine in {first}: give each machine its own", machine.mac);
            resolved.errors.push(origin.document.finding(origin.mac_at(), origin.mac_field(), message));
        }
        let mut address_error = |message| {
            resolved.errors.push(origin.document.finding(origin.address_at(), origin.address_field(), message));
        };
        let address = machine.address;
        if let Some(first) = by_address.insert(address, index).and_then(|first: usize| candidates.get(first)) {
            let first = first.origin.document.place(first.origin.address_at());
            address_error(format!("{address} is already used by the machine in {first}: give each machine its own"));
        }
        if ours.contains(&address) {
            address_error(format!("{address} is the address of a pxeServerSpec: give the machine another"));
        }
        if let Some(why) = machine.prefix_length.and_then(|length| no_host(address, length)) {
            address_error(why);
        }
    }
    check_additional_macs(&candidates, by_mac, resolved);
    check_gateways(&candidates, resolved);
    drop_shared_hostnames(&mut candidates, resolved);
    let keep = |Candidate { machine, .. }: Candidate<'_>| match known.by_mac(machine.mac) {
        Some(known) if **known == machine => Arc::clone(known),
        _ => Arc::new(machine),
    };
    // `collect` would reuse the candidates' memory, which is much larger, for the pointers.
    resolved.machines.reserve_exact(candidates.len());
    resolved.machines.extend(candidates.into_iter().map(keep));
}

/// Checks that no network card belongs to two machines. `by_mac` has the first cards of all machines.
fn check_additional_macs(
    candidates: &[Candidate<'_>],
    mut by_mac: HashMap<MacAddr, usize, AddressHashBuilder>,
    resolved: &mut Resolved,
) {
    for (index, Candidate { of_one, .. }) in candidates.iter().enumerate() {
        let Some(InForce { document, setting }) = &of_one.additional_macs else { continue };
        for &(mac, at) in &setting.value.0 {
            let entry = by_mac.entry(mac);
            let first = match entry {
                Entry::Vacant(entry) => {
                    entry.insert(index);
                    continue;
                }
                Entry::Occupied(entry) => *entry.get(),
            };
            let message = match candidates.get(first) {
                Some(_) if first == index => {
                    format!("{mac} is the macAddress of the machine itself: write its other network cards")
                }
                Some(first) => format!(
                    "{mac} is already used by the machine in {}: a network card belongs to one machine, so remove it here or there",
                    first.origin.document.place(first.origin.mac_at())
                ),
                None => continue,
            };
            resolved.errors.push(document.finding(at, setting.field.to_string(), message));
        }
    }
}

fn check_servers(servers: &[(&Placed, &Object, &ServerSpec)], resolved: &mut Resolved) {
    let mut by_address: HashMap<Ipv4Addr, &ServerSpec> = HashMap::new();
    for (document, object, server) in servers {
        let first = by_address.entry(server.address.value).or_insert(server);
        if first.interface != server.interface {
            let field = format!("{}spec.pxeServerSpec.address", object.prefix);
            let message = format!(
                "is also the address of interface {}: two interfaces can share an address only within one network",
                first.interface
            );
            resolved.warnings.push(document.finding(server.address.at, field, message));
        }
    }
}

/// Returns an error message for an address that no host in its network can have. In a /31, both addresses are hosts (RFC 3021).
fn no_host(address: Ipv4Addr, prefix_length: u8) -> Option<String> {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix_length)).filter(|_| prefix_length < 31)?;
    let host = address.to_bits() & host_bits;
    let why = if host == 0 {
        "is the network address"
    } else if host == host_bits {
        "is the broadcast address"
    } else {
        return None;
    };
    Some(format!("{address} {why} of its /{prefix_length} network (machineSpec.meta.subnet): give the machine another"))
}

/// Warns once for each `meta` whose gateway the machine cannot reach.
fn check_gateways(candidates: &[Candidate<'_>], resolved: &mut Resolved) {
    let mut warned = HashSet::new();
    for Candidate { machine, origin, .. } in candidates {
        let Some(gateway) = origin.machine_spec.gateway else { continue };
        let Some(length) = machine.prefix_length else { continue };
        let host_bits = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let outside = (gateway.value.to_bits() ^ machine.address.to_bits()) & !host_bits != 0;
        if outside && warned.insert((Arc::as_ptr(&origin.document.content), gateway.at)) {
            let message =
                format!("{} is not in the network {}/{length} of the machine", gateway.value, machine.address);
            let field = format!("{}.gateway", origin.meta_field());
            resolved.warnings.push(origin.document.finding(gateway.at, field, message));
        }
    }
}

/// Removes host names that several machines would have. The machines of a role share one `machineSpec.meta`, and several machines
/// with one name are worse than machines without a name.
fn drop_shared_hostnames(candidates: &mut [Candidate<'_>], resolved: &mut Resolved) {
    let mut users: HashMap<_, usize> = HashMap::new();
    for Candidate { machine, .. } in candidates.iter() {
        if let Some(hostname) = &machine.hostname {
            *users.entry((Arc::clone(&machine.cluster), Arc::clone(hostname))).or_default() += 1;
        }
    }
    users.retain(|_, users| *users > 1);
    let mut warned = HashSet::new();
    for Candidate { machine, origin, of_one, .. } in candidates {
        let Some(hostname) = machine.hostname.take() else { continue };
        let key = (Arc::clone(&machine.cluster), hostname);
        let Some(users) = users.get(&key) else {
            machine.hostname = Some(key.1);
            continue;
        };
        let message = format!("{:?} would be the name of {users} machines: DHCP gives it to none of them", key.1);
        if !warned.insert(key) {
            continue;
        }
        if let Some(InForce { document, setting }) = &of_one.hostname {
            resolved.warnings.push(document.finding(setting.at, setting.field.to_string(), message));
        } else if let Some(hostname) = &origin.machine_spec.hostname {
            let field = format!("{}.hostname", origin.meta_field());
            resolved.warnings.push(origin.document.finding(hostname.at, field, message));
        }
    }
}
