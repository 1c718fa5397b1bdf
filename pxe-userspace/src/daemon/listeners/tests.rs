//! The servers on a kernel in memory: one test for each fault, and random sequences of faults against a model.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use anyhow::bail;
use proptest::prelude::*;
use pxe_common::MacAddr;

use super::*;
use crate::model::{
    architecture::Architecture,
    inventory::{Machine, Site},
    testing,
};

const ETH0: &str = "eth0";
const ETH1: &str = "eth1";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

const fn tftp(address: Ipv4Addr) -> Place {
    Place { service: Service::Tftp, address }
}

const fn http(address: Ipv4Addr) -> Place {
    Place { service: Service::Http, address }
}

#[derive(Default)]
struct World {
    interfaces: BTreeMap<&'static str, Interface>,
    /// Interfaces that cannot be read.
    unreadable: BTreeSet<&'static str>,
    /// Places whose port is unavailable.
    refused: BTreeSet<Place>,
    /// The running servers by number, each with its place and the interface that it was started for.
    servers: BTreeMap<u32, (Place, Option<Interface>)>,
    /// The places that were started and stopped since the lists were taken.
    started: Vec<Place>,
    stopped: Vec<Place>,
    last_id: u32,
}

#[derive(Clone, Default)]
struct Fake(Rc<RefCell<World>>);

impl Backend for Fake {
    type Server = (u32, Place);

    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError> {
        let world = self.0.borrow();
        if world.unreadable.contains(name) {
            let error = io::Error::from_raw_os_error(libc::EMFILE);
            return Err(InterfaceError::Unreadable { name: name.to_owned(), what: "a test", error });
        }
        let missing = || InterfaceError::Missing { name: name.to_owned(), present: String::new() };
        world.interfaces.get(name).cloned().ok_or_else(missing)
    }

    fn start(&mut self, place: Place, interface: Option<&Interface>) -> anyhow::Result<Self::Server> {
        let mut world = self.0.borrow_mut();
        let is_taken = world.servers.values().any(|(taken, _)| *taken == place);
        assert!(!is_taken, "{place} was started twice");
        if world.refused.contains(&place) {
            bail!("{place}: refused");
        }
        world.last_id += 1;
        let id = world.last_id;
        world.servers.insert(id, (place, interface.cloned()));
        world.started.push(place);
        Ok((id, place))
    }

    fn has_ended(&self, (id, _): &Self::Server) -> bool {
        !self.0.borrow().servers.contains_key(id)
    }

    fn stop(&mut self, (id, place): Self::Server) {
        let mut world = self.0.borrow_mut();
        world.servers.remove(&id);
        world.stopped.push(place);
    }
}

/// The spec, the kernel and the listeners that they drive.
struct Bench {
    kernel: Fake,
    sites: BTreeSet<(&'static str, Ipv4Addr)>,
    listeners: Listeners<Fake>,
}

impl Bench {
    /// Creates both interfaces with their addresses, and an empty spec.
    fn new() -> Self {
        Self::addressed(Addressing::OfSpec)
    }

    /// Creates the same with this choice of addresses.
    fn addressed(addressing: Addressing) -> Self {
        let kernel = Fake::default();
        let listeners = Listeners::new(kernel.clone(), Scope::Sites, addressing);
        let bench = Self { listeners, kernel, sites: BTreeSet::new() };
        bench.plug_in(ETH0, &[FIRST]);
        bench.plug_in(ETH1, &[SECOND]);
        bench
    }

    /// Creates the same with a site on each interface, and serves it.
    fn serving() -> Self {
        let mut bench = Self::new();
        bench.sites.extend([(ETH0, FIRST), (ETH1, SECOND)]);
        assert_eq!(bench.reconcile(), NOTHING);
        bench.done();
        bench
    }

    fn plug_in(&self, name: &'static str, addresses: &[Ipv4Addr]) {
        let mut world = self.kernel.0.borrow_mut();
        world.last_id += 1;
        let interface = Interface {
            name: name.to_owned(),
            index: world.last_id,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: addresses.iter().map(|&address| (address, 24)).collect(),
            up: true,
            running: true,
            queues: 1,
            aggregate: false,
            strips_tags: false,
            has_vlans: false,
        };
        world.interfaces.insert(name, interface);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Interface)) {
        change(self.kernel.0.borrow_mut().interfaces.get_mut(name).unwrap());
    }

    fn reconcile(&mut self) -> Vec<String> {
        let template = testing::machine(1, Architecture::Amd64, "v1.13.0", None);
        let machine = |&(interface, address): &(&str, Ipv4Addr)| {
            let site = Arc::new(Site { interface: interface.into(), address });
            Arc::new(Machine { site, ..Machine::clone(&template) })
        };
        let inventory = Arc::new(Inventory::new(self.sites.iter().map(machine).collect()));
        self.listeners.reconcile(&inventory)
    }

    /// Returns the places of the servers that were started and stopped.
    fn done(&self) -> (Vec<Place>, Vec<Place>) {
        let mut world = self.kernel.0.borrow_mut();
        (std::mem::take(&mut world.started), std::mem::take(&mut world.stopped))
    }

    fn end(&self, place: Place) {
        self.kernel.0.borrow_mut().servers.retain(|_, (of, _)| *of != place);
    }
}

const NOTHING: [&str; 0] = [];
const NONE: (Vec<Place>, Vec<Place>) = (vec![], vec![]);

#[test]
fn sites_are_served_until_the_spec_drops_them() {
    let mut bench = Bench::new();
    bench.sites.extend([(ETH0, FIRST), (ETH1, SECOND)]);
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(FIRST), tftp(SECOND), http(FIRST), http(SECOND)], vec![]));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
    bench.sites.remove(&(ETH1, SECOND));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![], vec![tftp(SECOND), http(SECOND)]));
}

#[test]
fn matchbox_alone_is_http_everywhere_and_reads_no_interface() {
    let mut listeners = Listeners::new(Fake::default(), Scope::HttpEverywhere, Addressing::OfSpec);
    assert_eq!(listeners.reconcile(&Arc::default()), NOTHING);
    assert_eq!(listeners.backend.0.borrow().started, [http(Ipv4Addr::UNSPECIFIED)]);
}

#[test]
fn refused_port_is_retried_and_does_not_affect_the_others() {
    let mut bench = Bench::new();
    bench.sites.extend([(ETH0, FIRST), (ETH1, SECOND)]);
    bench.kernel.0.borrow_mut().refused.insert(tftp(FIRST));
    assert_eq!(bench.reconcile(), ["TFTP on 10.0.0.1: refused"]);
    assert_eq!(bench.done().0, [tftp(SECOND), http(FIRST), http(SECOND)]);
    assert_eq!(bench.reconcile().len(), 1);
    bench.kernel.0.borrow_mut().refused.clear();
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(FIRST)], vec![]));
}

#[test]
fn ended_server_alone_is_restarted() {
    let mut bench = Bench::serving();
    for place in [http(FIRST), tftp(SECOND)] {
        bench.end(place);
        assert_eq!(bench.reconcile(), NOTHING);
        assert_eq!(bench.done(), (vec![place], vec![place]));
    }
}

#[test]
fn server_is_stopped_without_its_address_and_restarted_with_it() {
    let mut bench = Bench::serving();
    bench.change(ETH0, |interface| interface.addresses.clear());
    let problems = bench.reconcile();
    assert!(problems.iter().all(|problem| problem.contains("ip address add 10.0.0.1")) && !problems.is_empty());
    assert_eq!(bench.done(), (vec![], vec![tftp(FIRST), http(FIRST)]));
    bench.change(ETH0, |interface| interface.addresses.push((FIRST, 24)));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(FIRST), http(FIRST)], vec![]));

    bench.kernel.0.borrow_mut().interfaces.remove(ETH1);
    assert!(!bench.reconcile().is_empty());
    assert_eq!(bench.done(), (vec![], vec![tftp(SECOND), http(SECOND)]));
}

#[test]
fn failed_look_stops_no_server() {
    let mut bench = Bench::serving();
    bench.kernel.0.borrow_mut().unreadable.extend([ETH0, ETH1]);
    for _ in 0..3 {
        let problems = bench.reconcile();
        assert!(!problems.is_empty() && problems.iter().all(|problem| problem.contains("cannot be looked up")));
        assert_eq!(bench.done(), NONE);
    }
    bench.kernel.0.borrow_mut().unreadable.clear();
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
}

#[test]
fn down_interface_keeps_its_servers() {
    let mut bench = Bench::serving();
    bench.change(ETH0, |interface| interface.up = false);
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
}

/// TFTP sends frames of its own, which carry a MAC and leave by an index. HTTP knows neither.
#[test]
fn tftp_is_restarted_on_a_replaced_interface() {
    let mut bench = Bench::serving();
    bench.change(ETH0, |interface| interface.mac = MacAddr([2, 0, 0, 0, 0, 9]));
    assert_eq!(bench.reconcile().len(), 1);
    assert_eq!(bench.done(), (vec![], vec![tftp(FIRST)]));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(FIRST)], vec![]));

    // Neither change is a reason to break off transfers.
    bench.change(ETH0, |interface| (interface.mtu, interface.queues) = (9000, 8));
    bench.change(ETH0, |interface| interface.addresses.push((Ipv4Addr::new(10, 9, 0, 1), 24)));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
}

#[test]
fn address_of_two_interfaces_is_served_where_it_is() {
    let mut bench = Bench::new();
    bench.sites.extend([(ETH0, SECOND), (ETH1, SECOND)]);
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done().0, [tftp(SECOND), http(SECOND)]);
    // The other interface now has the address too, which is no reason to move.
    bench.change(ETH0, |interface| interface.addresses.push((SECOND, 24)));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
}

/// The address of a site in the network of [`FIRST`], which may be on this host or on another one.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);

/// Creates a node that has [`FIRST`], where the spec names [`VIRTUAL`], and serves it.
fn node() -> Bench {
    let mut bench = Bench::addressed(Addressing::OfNode { advertised: Arc::default() });
    bench.sites.insert((ETH0, VIRTUAL));
    assert_eq!(bench.reconcile(), NOTHING);
    bench
}

#[test]
fn node_serves_at_its_own_address_and_keeps_it_while_that_of_the_spec_comes_and_goes() {
    let mut bench = node();
    assert_eq!(bench.done(), (vec![tftp(FIRST), http(FIRST)], vec![]));
    bench.change(ETH0, |interface| interface.addresses.push((VIRTUAL, 32)));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(VIRTUAL), http(VIRTUAL)], vec![]));
    assert!(bench.listeners.are_running_at(FIRST) && bench.listeners.are_running_at(VIRTUAL));
    bench.change(ETH0, |interface| interface.addresses.truncate(1));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![], vec![tftp(VIRTUAL), http(VIRTUAL)]));
    assert!(bench.listeners.are_running_at(FIRST) && !bench.listeners.are_running_at(VIRTUAL));
}

#[test]
fn sites_that_share_an_own_address_share_its_servers() {
    let mut bench = node();
    bench.sites.insert((ETH0, Ipv4Addr::new(10, 0, 0, 251)));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), (vec![tftp(FIRST), http(FIRST)], vec![]));
    bench.sites.remove(&(ETH0, VIRTUAL));
    assert_eq!(bench.reconcile(), NOTHING);
    assert_eq!(bench.done(), NONE);
}

#[test]
fn site_without_an_own_address_is_a_problem_and_the_others_are_served() {
    let mut bench = node();
    bench.sites.insert((ETH1, VIRTUAL));
    let [problem] = &bench.reconcile()[..] else { panic!("not one problem") };
    assert!(problem.contains(ETH1) && problem.contains("--advertise"), "{problem}");
    assert_eq!(bench.done(), (vec![tftp(FIRST), http(FIRST)], vec![]));
    bench.change(ETH0, |interface| interface.addresses.clear());
    assert_eq!(bench.reconcile().len(), 2);
    assert_eq!(bench.done(), (vec![], vec![tftp(FIRST), http(FIRST)]));
    bench.change(ETH1, |interface| interface.addresses.push((Ipv4Addr::new(10, 0, 0, 3), 24)));
    assert_eq!(bench.reconcile().len(), 1);
    let other = Ipv4Addr::new(10, 0, 0, 3);
    assert_eq!(bench.done(), (vec![tftp(other), http(other)], vec![]));
}

#[test]
fn failed_look_stops_no_server_at_an_own_address() {
    let mut bench = node();
    bench.done();
    bench.kernel.0.borrow_mut().unreadable.insert(ETH0);
    let problems = bench.reconcile();
    assert!(problems.iter().all(|problem| problem.contains("cannot be looked up")) && !problems.is_empty());
    assert_eq!(bench.done(), NONE);
    bench.kernel.0.borrow_mut().unreadable.clear();
    bench.kernel.0.borrow_mut().interfaces.remove(ETH0);
    assert_eq!(bench.reconcile().len(), 1);
    assert_eq!(bench.done(), (vec![], vec![tftp(FIRST), http(FIRST)]));
}

#[derive(Clone, Debug)]
enum Event {
    Want(bool),
    Unplug,
    PlugIn,
    Address(bool),
    Mac(u8),
    Unreadable(bool),
    Refuse(Service),
    AllowAll,
    End(Service),
}

fn event() -> impl Strategy<Value = Event> {
    let service = prop_oneof![Just(Service::Tftp), Just(Service::Http)];
    prop_oneof![
        any::<bool>().prop_map(Event::Want),
        Just(Event::Unplug),
        Just(Event::PlugIn),
        any::<bool>().prop_map(Event::Address),
        any::<u8>().prop_map(Event::Mac),
        any::<bool>().prop_map(Event::Unreadable),
        service.clone().prop_map(Event::Refuse),
        Just(Event::AllowAll),
        service.prop_map(Event::End),
    ]
}

fn happen(bench: &mut Bench, (name, address): (&'static str, Ipv4Addr), event: &Event) {
    let world = || bench.kernel.0.borrow_mut();
    match *event {
        Event::Want(true) => drop(bench.sites.insert((name, address))),
        Event::Want(false) => drop(bench.sites.remove(&(name, address))),
        Event::Unplug => drop(world().interfaces.remove(name)),
        Event::PlugIn => bench.plug_in(name, &[address]),
        Event::Unreadable(true) => drop(world().unreadable.insert(name)),
        Event::Unreadable(false) => drop(world().unreadable.remove(name)),
        Event::Refuse(service) => drop(world().refused.insert(Place { service, address })),
        Event::AllowAll => world().refused.clear(),
        Event::End(service) => bench.end(Place { service, address }),
        Event::Address(_) | Event::Mac(_) => {
            if let Some(interface) = world().interfaces.get_mut(name) {
                match *event {
                    Event::Address(true) if interface.addresses.is_empty() => interface.addresses.push((address, 24)),
                    Event::Address(false) => interface.addresses.clear(),
                    Event::Mac(number) => interface.mac.0[5] = number,
                    _ => {}
                }
            }
        }
    }
}

/// Checks that everything wanted is served or a problem names it or its interface, and that nothing was stopped without a
/// reason.
fn check(
    bench: &Bench,
    problems: &[String],
    before: &BTreeMap<u32, (Place, Option<Interface>)>,
) -> Result<(), TestCaseError> {
    let world = bench.kernel.0.borrow();
    let wanted = |place: &Place| bench.sites.iter().find(|(_, address)| *address == place.address);
    for &(name, address) in &bench.sites {
        for place in [tftp(address), http(address)] {
            let serves = world.servers.values().any(|(of, _)| *of == place);
            let is_reported = problems.iter().any(|said| said.contains(name) || said.contains(&place.to_string()));
            prop_assert!(serves || is_reported, "{place} is not served: {problems:?}");
        }
    }
    for (place, _) in world.servers.values() {
        prop_assert!(wanted(place).is_some(), "{place} is still served");
    }
    for (id, (place, started_for)) in before {
        let Some((name, _)) = wanted(place) else { continue };
        let now = world.interfaces.get(name);
        let device = |interface: &Interface| (interface.index, interface.mac);
        let is_the_same = place.service == Service::Http || now.map(device) == started_for.as_ref().map(device);
        let has_the_address = now.is_some_and(|interface| interface.prefix_length(place.address).is_some());
        if world.unreadable.contains(name) || is_the_same && has_the_address {
            prop_assert!(world.servers.contains_key(id), "{place} was stopped without a reason");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn looks_serve_all_that_can_be_served_and_the_last_ones_everything(
        events in prop::collection::vec((any::<bool>(), event()), 1..40),
    ) {
        let mut bench = Bench::serving();
        let sites = [(ETH0, FIRST), (ETH1, SECOND)];
        for (which, event) in events {
            happen(&mut bench, sites[usize::from(which)], &event);
            let before = bench.kernel.0.borrow().servers.clone();
            let problems = bench.reconcile();
            check(&bench, &problems, &before)?;
        }
        for (name, address) in sites {
            happen(&mut bench, (name, address), &Event::AllowAll);
            happen(&mut bench, (name, address), &Event::Unreadable(false));
            if !bench.kernel.0.borrow().interfaces.contains_key(name) {
                bench.plug_in(name, &[address]);
            }
            happen(&mut bench, (name, address), &Event::Address(true));
        }
        // One to stop what runs for another interface, one to start it again.
        bench.reconcile();
        prop_assert_eq!(bench.reconcile(), NOTHING);
        bench.done();
        prop_assert_eq!(bench.reconcile(), NOTHING);
        prop_assert_eq!(bench.done(), NONE);
    }
}
