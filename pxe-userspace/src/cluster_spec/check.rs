//! Checks across all machines, from whatever documents they come.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    candidate::{Candidate, Resolved, Retained, Unread},
    contest::Contest,
    documents::{Object, ServerSpec},
    faults::Faults,
    machine_settings::InForce,
    placed::Placed,
};
use crate::model::inventory::{Inventory, Machine};

/// A `pxeServerSpec`, and the cluster that has it.
pub(crate) type Server<'d> = (&'d Placed, &'d Object, &'d ServerSpec);

/// Checks the machines against each other and against the servers, and keeps those without errors, and the last good version of those
/// with errors. Machines that equal a `known` one share its memory.
pub(crate) fn machines(
    mut candidates: Vec<Candidate<'_>>,
    unread: Vec<Unread>,
    retained: &[Retained],
    servers: &[Server<'_>],
    known: &Inventory,
    resolved: &mut Resolved,
) {
    check_servers(servers, resolved);
    check_addresses(&mut candidates, servers, known, &mut resolved.faults);
    let contest = Contest::new(candidates, known, &mut resolved.faults);
    let (mut candidates, kept) = contest.settle(unread, retained, &mut resolved.faults);
    for Candidate { machine, origin, .. } in &candidates {
        if let Some(fault) = origin.document.kept_for() {
            resolved.faults.affect(fault, Some(machine.mac), true);
        }
    }
    check_gateways(&candidates, resolved);
    drop_shared_hostnames(&mut candidates, &kept, resolved);
    let keep = |Candidate { machine, .. }: Candidate<'_>| match known.by_mac(machine.mac) {
        Some(known) if **known == machine => Arc::clone(known),
        _ => Arc::new(machine),
    };
    // `collect` would reuse the candidates' memory, which is much larger, for the pointers.
    resolved.machines.reserve_exact(candidates.len() + kept.len());
    resolved.machines.extend(candidates.into_iter().map(keep));
    resolved.machines.extend(kept);
}

/// Checks each machine's address by itself, and against those of the servers.
fn check_addresses(candidates: &mut [Candidate<'_>], servers: &[Server<'_>], known: &Inventory, faults: &mut Faults) {
    let ours: HashSet<Ipv4Addr> = servers.iter().map(|(_, _, server)| server.address.value).collect();
    let mut intruders: HashMap<Ipv4Addr, String> = HashMap::new();
    for Candidate { machine, origin, fault, .. } in candidates.iter_mut() {
        let address = machine.address;
        let mut fail = |message| {
            let finding = origin.document.finding(origin.address_at(), origin.address_field(), message);
            fault.get_or_insert(faults.add(finding));
        };
        if ours.contains(&address) {
            let had_it = known.by_address(address).is_some_and(|known| known.mac == machine.mac);
            if had_it && !known.machines().iter().any(|known| known.site.address == address) {
                intruders.insert(address, origin.document.place(origin.address_at()));
            } else {
                fail(format!("{address} is the address of a pxeServerSpec: give the machine another"));
            }
        }
        if let Some(why) = machine.prefix_length.and_then(|length| no_host(address, length)) {
            fail(why);
        }
    }
    if intruders.is_empty() {
        return;
    }
    // A server that takes a machine's address is the mistake. Its own machines stay as they were.
    let mut refused = HashMap::new();
    for (document, object, server) in servers {
        let address = server.address.value;
        if let Some(place) = intruders.get(&address) {
            let field = format!("{}spec.pxeServerSpec.address", object.prefix);
            let message = format!("{address} is the address of the machine in {place}: give the server another");
            refused.insert(address, faults.add(document.finding(server.address.at, field, message)));
        }
    }
    for Candidate { machine, fault, .. } in candidates.iter_mut() {
        if let Some(refused) = refused.get(&machine.site.address) {
            fault.get_or_insert(*refused);
        }
    }
}

fn check_servers(servers: &[Server<'_>], resolved: &mut Resolved) {
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
fn drop_shared_hostnames(candidates: &mut [Candidate<'_>], kept: &[Arc<Machine>], resolved: &mut Resolved) {
    let mut users: HashMap<_, usize> = HashMap::new();
    for machine in candidates.iter().map(|candidate| &candidate.machine).chain(kept.iter().map(|kept| &**kept)) {
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
