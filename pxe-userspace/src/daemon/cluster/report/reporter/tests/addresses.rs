//! Addresses that two hosts have.

use super::*;
use crate::model::address_signs::Neighbour;

/// Says that the first machine answers at the address of the second.
pub(super) fn first_at_the_second(_: &str, address: Ipv4Addr) -> Option<Neighbour> {
    let neighbour = Neighbour { mac: machine(1).mac, interface: "eth1".into(), confirmed: at(1.0) };
    (address == machine(2).address).then_some(neighbour)
}

#[test]
fn address_of_two_hosts_is_told_of_a_machine_that_is_stuck() {
    let mut site = Site::new(1, 2);
    site.pass(at(1.0));
    for number in [1, 2] {
        site.events(0, number, &dora(Pxe));
    }
    site.pass(at(2.0));
    let remark = "Another machine of the spec, 52:54:00:00:00:01, answered for its address 10.0.0.2";
    assert!(!site.condition(2).message.contains(remark), "{}", site.condition(2).message);
    site.pass(at(60.0));
    let (alone, of_two) = (site.condition(1).message, site.condition(2).message);
    assert!(of_two.contains(remark) && of_two.contains("To do: Two hosts have 10.0.0.2"), "{of_two}");
    assert!(alone.contains("To do:") && !alone.contains("answered for"), "{alone}");
}
