//! The steps from the servers that run to those that are wanted: a pure function, as [`dataplane::plan`](crate::dataplane::plan)
//! is for interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use crate::net::interface::{Interface, InterfaceError};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    /// It sends frames of its own on its interface, and serves the interface's networks.
    Tftp,
    /// It needs nothing but its address.
    Http,
}

/// A service at an address. At most one server runs in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) service: Service,
    pub(super) address: Ipv4Addr,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = match self.service {
            Service::Tftp => "TFTP",
            Service::Http => "boot HTTP",
        };
        write!(formatter, "{service} on {}", self.address)
    }
}

/// For each wanted place, the interfaces of which one must have the address; empty if the place requires no interface.
pub(super) type Wanted = BTreeMap<Place, BTreeSet<Arc<str>>>;

/// The interfaces that are wanted somewhere, as the kernel reports them now.
pub(super) type Looks = BTreeMap<Arc<str>, Result<Interface, InterfaceError>>;

/// The state of a running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The interface that it was started for.
    pub(super) device: Option<Device>,
    /// True if it has ended by itself.
    pub(super) has_ended: bool,
}

impl State {
    /// Returns `true` if it was started for the interface of this name.
    pub(super) fn is_on(&self, interface: &str) -> bool {
        self.device.as_ref().is_some_and(|device| device.name == interface)
    }
}

/// The identity of an interface, as far as a server depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    name: String,
    index: u32,
    mac: MacAddr,
}

impl From<&Interface> for Device {
    fn from(interface: &Interface) -> Self {
        Self { name: interface.name.clone(), index: interface.index, mac: interface.mac }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Stops the server in a place.
    Stop(Place, Reason),
    /// Starts a server in a place, on an interface if the place requires one.
    Start(Place, Option<Interface>),
}

/// A reason to stop a server. There is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// The inventory no longer names the address.
    #[error("no cluster is served here any longer")]
    NotWanted,
    /// No interface has the address.
    #[error("the address is gone")]
    AddressGone,
    /// Its interface is another one, or has another MAC.
    #[error("its interface was replaced or reconfigured")]
    Replaced,
    /// It has ended by itself.
    #[error("it has ended")]
    Ended,
}

/// The result of planning.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The steps, in order.
    pub(super) steps: Vec<Step>,
    /// The problems that no step can solve.
    pub(super) problems: Vec<String>,
}

/// Computes the steps from what runs to what is wanted.
pub(super) fn plan(have: &BTreeMap<Place, State>, want: &Wanted, looks: &Looks) -> Plan {
    let mut plan = Plan::default();
    for (&place, state) in have.iter().filter(|(place, _)| !want.contains_key(place)) {
        plan.steps.push(Step::Stop(place, why_not_wanted(place, state, looks)));
    }
    for (&place, interfaces) in want {
        plan.place(place, have.get(&place), interfaces, looks);
    }
    plan
}

/// Returns the reason why a server is not wanted any more.
fn why_not_wanted(place: Place, state: &State, looks: &Looks) -> Reason {
    let look = state.device.as_ref().and_then(|device| looks.get(&*device.name));
    match look {
        Some(Ok(interface)) if interface.prefix_length(place.address).is_none() => Reason::AddressGone,
        Some(Err(error)) if error.is_gone() => Reason::AddressGone,
        _ => Reason::NotWanted,
    }
}

impl Plan {
    fn place(&mut self, place: Place, have: Option<&State>, interfaces: &BTreeSet<Arc<str>>, looks: &Looks) {
        let found = Found::among(interfaces, place.address, looks, have.and_then(|state| state.device.as_ref()));
        match (have, found) {
            (Some(State { has_ended: true, .. }), Found::Fit(interface)) => {
                self.steps.push(Step::Stop(place, Reason::Ended));
                self.steps.push(Step::Start(place, interface.cloned()));
            }
            (Some(State { device, .. }), Found::Fit(interface)) => {
                let is_other = place.service == Service::Tftp && *device != interface.map(Device::from);
                if is_other {
                    // Its sockets close a little later, so its successor comes with the next look.
                    self.steps.push(Step::Stop(place, Reason::Replaced));
                    self.problems.push(format!("{place}: {}: starting again", Reason::Replaced));
                }
            }
            (None, Found::Fit(interface)) => self.steps.push(Step::Start(place, interface.cloned())),
            (have, Found::None(problems)) => {
                if have.is_some() {
                    self.steps.push(Step::Stop(place, Reason::AddressGone));
                }
                self.problems.extend(problems);
            }
            // As far as anybody knows, the server still serves.
            (_, Found::Unknown(problems)) => self.problems.extend(problems),
        }
    }
}

/// The findings of the looks about a place.
enum Found<'l> {
    /// The place can be served, on this interface if it requires one.
    Fit(Option<&'l Interface>),
    /// No interface has the address.
    None(Vec<String>),
    /// An interface could not be looked up.
    Unknown(Vec<String>),
}

impl<'l> Found<'l> {
    /// Chooses the interface on which the server already runs, or else the first one that has the address.
    fn among(interfaces: &BTreeSet<Arc<str>>, address: Ipv4Addr, looks: &'l Looks, runs_on: Option<&Device>) -> Self {
        if interfaces.is_empty() {
            return Self::Fit(None);
        }
        let mut fits = Vec::new();
        let mut problems = Vec::new();
        let mut is_unknown = false;
        for look in interfaces.iter().filter_map(|name| looks.get(name)) {
            match look {
                Ok(interface) if interface.prefix_length(address).is_some() => fits.push(interface),
                Ok(interface) => problems.push(interface.lacks(address).to_string()),
                Err(error) => {
                    is_unknown |= !error.is_gone();
                    problems.push(error.to_string());
                }
            }
        }
        let is_running = |interface: &&&Interface| runs_on.is_some_and(|device| device.name == interface.name);
        match fits.iter().find(is_running) {
            Some(&interface) => Self::Fit(Some(interface)),
            // The interface on which it runs may be the one that could not be read.
            None if is_unknown && (runs_on.is_some() || fits.is_empty()) => Self::Unknown(problems),
            None => fits.first().map_or(Self::None(problems), |interface| Self::Fit(Some(interface))),
        }
    }
}
