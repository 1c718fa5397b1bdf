//! Finds the machines that DHCP tells of no way to their server.

use std::sync::Arc;

use super::{
    plan::{Present, Warning},
    responder::Servers,
};
use crate::{
    model::inventory::Machine,
    net::{interface::listed, prefix},
};

/// The answer for one interface. It is kept, since it changes only with the machines or the servers.
pub struct Reach {
    machines: Arc<[Arc<Machine>]>,
    servers: Arc<Servers>,
    warning: Option<Warning>,
}

impl Reach {
    /// Finds out which of these machines, which have no gateway in the spec, cannot reach their server. The interface has this name
    /// and these addresses.
    #[must_use]
    pub fn of(name: &str, addresses: &[Present], machines: &Arc<[Arc<Machine>]>, servers: Arc<Servers>) -> Self {
        let warning = unreached(name, addresses, machines, &servers);
        Self { machines: Arc::clone(machines), servers, warning }
    }

    /// Returns `true` if neither the machines nor the servers have changed.
    #[must_use]
    pub fn is_of(&self, machines: &Arc<[Arc<Machine>]>, servers: &Arc<Servers>) -> bool {
        Arc::ptr_eq(&self.machines, machines) && Arc::ptr_eq(&self.servers, servers)
    }

    /// Returns the warning, if there is one.
    #[must_use]
    pub fn warning(&self) -> Option<&Warning> {
        self.warning.as_ref()
    }
}

fn unreached(name: &str, addresses: &[Present], machines: &[Arc<Machine>], servers: &Servers) -> Option<Warning> {
    let mut unreached = machines.iter().filter_map(|machine| {
        let server = servers.of_site(machine.site.address)?;
        (!server.is_reached_by(machine)).then_some((machine, server))
    });
    let (machine, server) = unreached.next()?;
    Some(Warning::Unreached {
        interface: name.to_owned(),
        present: listed(addresses),
        mac: machine.mac,
        machine: machine.address,
        others: unreached.count(),
        mask: prefix::mask(server.prefix_length(machine)),
        server: server.address,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        dataplane::{addressing::Served, plan::Answered},
        dhcp::{Mode, Server},
        model::{architecture::Architecture, inventory::Site, own_sites::OwnAddress, testing::machine},
    };

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    /// Returns the warning about machines at these addresses, on an interface with these ones.
    fn warning(addresses: &[([u8; 4], u8)], machines: &[([u8; 4], Option<u8>)]) -> Option<String> {
        let addresses: Vec<_> = addresses.iter().map(|&(address, length)| (Ipv4Addr::from(address), length)).collect();
        let answered =
            Answered { servers: vec![Served::of_spec(SERVER)], addresses: addresses.clone(), ..Answered::default() };
        let (http_port, lease_seconds, mode) = (8000, 3600, Mode::Server);
        let servers = Servers::new(&answered, |own, networks| {
            let OwnAddress { address, also } = own.clone();
            Server { address, also, networks, http_port, lease_seconds, mode, guard: None }
        });
        let template = machine(1, Architecture::Amd64, "v1.13.0", None);
        let machine = |&(address, prefix_length): &([u8; 4], _)| {
            let site = Arc::new(Site { interface: "eth1".into(), address: SERVER });
            let address = address.into();
            Arc::new(Machine { address, prefix_length, gateway: None, site, ..Machine::clone(&template) })
        };
        let machines = machines.iter().map(machine).collect();
        let reach = Reach::of("eth1", &addresses, &machines, Arc::new(servers));
        reach.warning().map(ToString::to_string)
    }

    #[test]
    fn machines_with_a_way_to_their_server_cause_no_warning() {
        let (fixed, virtual_one) = (([10, 0, 0, 1], 24), ([10, 0, 0, 5], 32));
        let near = ([10, 0, 0, 50], None);
        type Case<'a> = (&'a str, &'a [([u8; 4], u8)], ([u8; 4], Option<u8>));
        let cases: [Case<'_>; 6] = [
            ("one network", &[([10, 0, 0, 5], 24)], near),
            ("virtual address beside a fixed one", &[fixed, virtual_one], near),
            ("mask in the spec", &[virtual_one], ([10, 0, 0, 50], Some(24))),
            ("through another address of the interface", &[([10, 7, 0, 1], 24), virtual_one], ([10, 7, 0, 50], None)),
            ("behind a relay", &[fixed, virtual_one], ([10, 7, 0, 50], None)),
            ("behind a relay, mask in the spec", &[fixed, virtual_one], ([10, 7, 0, 50], Some(28))),
        ];
        for (name, addresses, machine) in cases {
            assert_eq!(warning(addresses, &[machine]), None, "{name}");
        }
    }

    #[test]
    fn machines_without_a_way_to_their_server_are_named_with_what_to_do() {
        let warning_of = |addresses: &[_], machines: &[_]| warning(addresses, machines).expect("a warning");
        let alone = warning_of(&[([10, 0, 0, 5], 32)], &[([10, 0, 0, 50], None), ([10, 0, 0, 51], None)]);
        for part in ["eth1", "10.0.0.5/32", "10.0.0.50 and 1 more", "255.255.255.255", "meta.subnet", "`ip address add"]
        {
            assert!(alone.contains(part), "no {part} in {alone}");
        }
        let too_small = warning_of(&[([10, 0, 0, 5], 24)], &[([10, 0, 0, 7], Some(24)), ([10, 0, 0, 50], Some(28))]);
        assert!(too_small.contains("10.0.0.50 ") && too_small.contains("255.255.255.240"), "{too_small}");
        let relayed_host = warning_of(&[([10, 0, 0, 5], 24)], &[([10, 7, 0, 50], Some(32))]);
        assert!(relayed_host.contains("10.7.0.50"), "{relayed_host}");
    }
}
