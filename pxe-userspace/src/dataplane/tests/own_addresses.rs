//! Sites that are served at this node's own addresses.

use std::net::Ipv4Addr;

use super::{
    super::{addressing::Addressing, datapath::Datapath, kernel::Entry, plan::Present},
    bench::{Bench, ETH0, ETH1, SITES, mac},
    fake::{Operation, Question},
};
use crate::model::{inventory::Site, own_sites::OwnAddress};

const OWN: Ipv4Addr = SITES[0].1[0];
/// The addresses of two sites in the network of [`OWN`].
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 251);

/// Creates a node without the address of the spec, which serves machine 1 there.
fn node(advertised: &[Ipv4Addr]) -> Bench {
    let mut bench = Bench::addressed(Datapath::Auto, Addressing::OfNode { advertised: advertised.into() });
    bench.put_at(1, ETH0, VIRTUAL);
    bench.reconcile_well();
    bench
}

fn set_addresses(bench: &Bench, addresses: &[Present]) {
    bench.kernel.world().device(ETH0).interface.addresses = addresses.to_vec();
}

/// Returns this node's addresses on the site, the one in its answers first; none if it does not serve it.
fn addresses(bench: &Bench, address: Ipv4Addr) -> Vec<Ipv4Addr> {
    let sites = bench.dataplane.sites();
    let own = sites.get(&Site { interface: ETH0.into(), address });
    own.map_or_else(Vec::new, |OwnAddress { address, also }| {
        [*address].into_iter().chain(also.iter().copied()).collect()
    })
}

#[test]
fn site_is_served_at_the_own_address_and_moves_with_that_of_the_spec() {
    let mut bench = node(&[]);
    assert!(bench.serves(1));
    assert_eq!(addresses(&bench, VIRTUAL), [OWN]);
    assert_eq!(bench.state(ETH0).asked_at[..], [OWN, Ipv4Addr::new(10, 0, 0, 255)]);

    set_addresses(&bench, &[(OWN, 24), (VIRTUAL, 32)]);
    assert_eq!(bench.reconcile_well(), [Operation::Write(Entry::AddAddress(VIRTUAL))]);
    assert_eq!(addresses(&bench, VIRTUAL), [VIRTUAL, OWN]);
    let question = |to| Question { interface: ETH0.to_owned(), queue: 0, mac: mac(1), site: VIRTUAL, to };
    for to in [OWN, VIRTUAL, Ipv4Addr::BROADCAST] {
        assert_eq!(bench.kernel.world().answers(&question(to)), 1, "{to}");
    }

    set_addresses(&bench, &[(OWN, 24)]);
    assert_eq!(bench.reconcile_well(), [Operation::Write(Entry::RemoveAddress(VIRTUAL))]);
    assert_eq!(addresses(&bench, VIRTUAL), [OWN]);
}

#[test]
fn advertised_address_is_used_as_soon_as_it_is_there() {
    let advertised = SITES[0].1[1];
    let mut bench = node(&[advertised]);
    assert_eq!(addresses(&bench, VIRTUAL), [OWN]);
    let (_, warnings) = bench.reconcile();
    assert!(warnings.len() == 1 && warnings[0].contains("--advertise 10.0.0.2: "), "{warnings:?}");
    set_addresses(&bench, &[(OWN, 24), (advertised, 24)]);
    bench.reconcile_well();
    assert_eq!(addresses(&bench, VIRTUAL), [advertised, OWN]);
    assert!(bench.reconcile().1.is_empty());
}

#[test]
fn sites_of_several_clusters_share_the_own_address() {
    let mut bench = node(&[]);
    bench.put_at(2, ETH0, OTHER);
    bench.reconcile_well();
    assert!(bench.serves(1) && bench.serves(2));
    assert_eq!((addresses(&bench, VIRTUAL), addresses(&bench, OTHER)), (vec![OWN], vec![OWN]));
}

#[test]
fn site_without_an_own_address_is_a_problem_that_affects_no_other() {
    let mut bench = node(&[]);
    let elsewhere = Ipv4Addr::new(10, 7, 0, 250);
    bench.put_at(2, ETH0, elsewhere);
    bench.put(3, ETH1);
    let (problems, _) = bench.reconcile();
    assert!(problems.len() == 1 && problems[0].contains("10.7.0.250"), "{problems:?}");
    assert!(bench.serves(1) && !bench.serves(2) && bench.serves(3));
    assert!(addresses(&bench, elsewhere).is_empty());
    set_addresses(&bench, &[]);
    let (problems, _) = bench.reconcile();
    assert_eq!(problems.len(), 2);
    assert!(addresses(&bench, VIRTUAL).is_empty());
}

#[test]
fn interface_without_a_carrier_serves_no_site() {
    let mut bench = node(&[]);
    for is_up in [true, false] {
        let set = |bench: &Bench, state| {
            let mut world = bench.kernel.world();
            let interface = &mut world.device(ETH0).interface;
            (interface.up, interface.running) = state;
        };
        set(&bench, (is_up, false));
        bench.reconcile();
        assert!(addresses(&bench, VIRTUAL).is_empty());
        set(&bench, (true, true));
        bench.reconcile_well();
        assert_eq!(addresses(&bench, VIRTUAL), [OWN]);
    }
    // Nobody knows, so nothing changes.
    bench.refuse(ETH0, Operation::Look);
    bench.reconcile();
    assert_eq!(addresses(&bench, VIRTUAL), [OWN]);
}

/// Two hosts with one address would end the service of both.
#[test]
fn machine_with_an_address_of_the_node_gets_no_answer_and_is_named() {
    let mut bench = node(&[]);
    // That of the template of all machines of these tests.
    let address = Ipv4Addr::new(127, 0, 0, 1);
    assert!(!bench.dataplane.ports[ETH0].servers().is_taken(address));
    set_addresses(&bench, &[(OWN, 24), (address, 8)]);
    let (problems, _) = bench.reconcile();
    assert!(
        problems.iter().any(|problem| problem.contains("127.0.0.1") && problem.contains("interface eth0")),
        "{problems:?}"
    );
    assert!(bench.dataplane.ports[ETH0].servers().is_taken(address));
    set_addresses(&bench, &[(OWN, 24)]);
    bench.reconcile_well();
    assert!(!bench.dataplane.ports[ETH0].servers().is_taken(address));
}
