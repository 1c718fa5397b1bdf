//! The place of a machine in the network, and advice about machines that ask from an unexpected one.

use std::net::Ipv4Addr;

use super::super::machine_record::MachineRecord;

/// Returns the advice about a relay outside the network of the machine's address.
pub(super) fn foreign_relay(record: &MachineRecord, relay: Ipv4Addr) -> String {
    let machine = &record.machine;
    format!(
        "The relay {relay} forwards its requests, but is outside the network of its address {address}. If the machine was \
         moved to another rack, correct its address, meta.subnet and meta.gateway ({place}). Otherwise let \
         the relay name the link (RFC 3527).",
        address = machine.address,
        place = machine.source.in_words(),
    )
}

/// Returns the advice about a VLAN on which the machine asked and is not served.
pub(super) fn other_vlan(record: &MachineRecord, vlan: u16) -> String {
    let machine = &record.machine;
    format!(
        "If it is to boot on VLAN {vlan}, name that with the annotation pxed.dev/vlans: \"{vlan}\" on its cluster, its role or \
         the machine ({place}). Otherwise make its switch port untagged in the network of {interface}.",
        place = machine.source.in_words(),
        interface = machine.site.interface,
    )
}

/// The place at which a machine is served.
pub(super) struct Site<'a> {
    /// The interface.
    pub(super) interface: &'a str,
    /// The address of the server.
    pub(super) address: Ipv4Addr,
}

impl<'a> Site<'a> {
    /// Returns that of a machine.
    pub(super) fn of(record: &'a MachineRecord) -> Self {
        Self { interface: &record.machine.site.interface, address: record.server }
    }
}
