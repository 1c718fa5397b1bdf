//! The steps from what runs to what is wanted.
//!
//! [`plan`] is a pure function of what runs ([`State`]), what the inventory wants ([`Wanted`]) and what the kernel reported
//! ([`Look`]). A [`Port`](super::port::Port) executes its steps. A step that fails leaves the state unchanged, so the next
//! plan contains it again. An interface that the kernel could not be asked about keeps what it has.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use pxe_common::{MacAddr, layout::QUEUES_CAPACITY};

use super::{
    addressing::{Addressing, Served, Unused},
    datapath::{Datapath, Path},
    difference::Difference,
    wanted::{ByInterface, Wanted},
};
use crate::net::interface::{Interface, InterfaceError};

/// An address of an interface, with its prefix length.
pub type Present = (Ipv4Addr, u8);

/// The addresses that the workers of a port answer from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// The sites that are served, in the order of their addresses.
    pub servers: Vec<Served>,
    /// All addresses of the interface, sorted.
    pub addresses: Vec<Present>,
    /// The addresses that requests for our servers may be sent to, besides 255.255.255.255, sorted; none without a server.
    pub asked_at: Arc<[Ipv4Addr]>,
    /// The addresses of machines in the spec that nodes have, sorted.
    pub taken: Arc<[Ipv4Addr]>,
}

/// The state of a port: what runs on an interface, and what its maps are known to have.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The interface as it was when the port was opened.
    pub interface: Interface,
    /// The path by which its frames reach us.
    pub path: Path,
    /// The identifier of its program, if the path has one.
    pub program: Option<u32>,
    /// The reason why there is no better path, if there should be one.
    pub fallback: Option<Fallback>,
    /// The number of machines that fit into the program's map; unlimited without a program.
    pub room: usize,
    /// The addresses that the workers answer from.
    pub answered: Answered,
    /// The addresses known to be in the program's map, sorted. Without a program, those that it would contain.
    pub asked_at: Arc<[Ipv4Addr]>,
    /// The VLANs known to be in the program's map, sorted. Without a program, those that it would contain.
    pub vlans: Arc<[u16]>,
    /// The machines known to be in the program's map, sorted. Without a program, those that it would contain.
    pub machines: Arc<[MacAddr]>,
    /// The places of workers that ended and have not been restarted.
    pub ended: Vec<u32>,
}

/// A port that does not have the best path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The error that kept the best path from working.
    pub reason: String,
    /// The time at which a better path is tried.
    pub retry: Retry,
}

/// The time at which something that failed is tried again, after pauses that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    due: Instant,
    pause: Duration,
}

impl Retry {
    /// The pause after the first failure. It is over by the next look.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest pause. An attempt loads a program, and attaching it may reset the card, so attempts that fail must be rare.
    pub const LONGEST: Duration = Duration::from_secs(15 * 60);

    /// Returns the time of the second attempt, if the first has failed now.
    #[must_use]
    pub fn after_failure(now: Instant) -> Self {
        Self { due: now + Self::SHORTEST, pause: Self::SHORTEST }
    }

    /// Doubles the pause after another failure.
    pub fn postpone(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(Self::LONGEST);
        self.due = now + self.pause;
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }
}

/// The findings of a look at the kernel about one interface.
#[derive(Debug)]
pub struct Look {
    /// The interface, or the reason why it cannot be served or could not be looked up.
    pub interface: Result<Interface, InterfaceError>,
    /// The XDP programs attached to it, ours or others; `None` if the kernel was not asked.
    pub programs: Result<Option<Vec<u32>>, InterfaceError>,
    /// The machines of the spec whose address a node has, each with the name of who has it.
    pub taken: Vec<Taken>,
}

/// A machine of the spec whose address a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The machine.
    pub mac: MacAddr,
    /// The address.
    pub address: Ipv4Addr,
    /// The interface or the node that has it.
    pub owner: String,
}

/// A change to one interface.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Stops serving.
    Close(Reason),
    /// Starts serving.
    Open(Opening),
    /// Lets the workers answer from exactly these addresses. This comes before the map of addresses is written: every
    /// request that the program redirects to us must find its server.
    Answer(Answered),
    /// Writes the map of addresses.
    WriteAddresses(Changes<Ipv4Addr>),
    /// Writes the map of VLANs.
    WriteVlans(Changes<u16>),
    /// Writes the map of machines.
    WriteMachines(Changes<MacAddr>),
    /// Starts another worker in the place of one that ended.
    RestartWorker(u32),
    /// Replaces the program by one whose map has room for these machines.
    Enlarge(Arc<[MacAddr]>),
    /// Opens one of these paths beside the packet socket, then closes the packet socket.
    Improve(&'static [Path]),
}

/// The parameters with which a port is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The interface.
    pub interface: Interface,
    /// The paths to try, best first.
    pub paths: &'static [Path],
    /// The addresses to answer from.
    pub answered: Answered,
    /// The VLANs, sorted.
    pub vlans: Arc<[u16]>,
    /// The machines, sorted.
    pub machines: Arc<[MacAddr]>,
}

/// Changes to the entries of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<T> {
    /// The entries to add and to remove.
    pub difference: Difference<T>,
    /// The map's content when all of them are written.
    pub result: Arc<[T]>,
}

/// A reason to close a port. There is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The inventory no longer names the interface.
    #[error("no cluster is served here any longer")]
    NotWanted,
    /// The interface no longer exists.
    #[error("the interface is gone")]
    Gone,
    /// The interface is another one, or has another MAC, MTU or number of queues.
    #[error("the interface was replaced or reconfigured")]
    Replaced,
    /// Our program is no longer attached.
    #[error("the XDP program was taken off")]
    ProgramTakenOff,
}

/// The result of planning.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps in order, each with its interface. Steps of different interfaces are independent.
    pub steps: Vec<(Arc<str>, Step)>,
    /// The problems that no step can solve.
    pub problems: Vec<InterfaceError>,
    /// Shortcomings of interfaces that are served, for a person to read.
    pub warnings: Vec<Warning>,
}

/// Computes the steps from what runs to what is wanted.
#[must_use]
pub fn plan(
    have: &ByInterface<&State>,
    want: &ByInterface<Wanted>,
    looks: ByInterface<Look>,
    (datapath, addressing): (Datapath, &Addressing),
    now: Instant,
) -> Plan {
    let mut plan = Plan::default();
    for name in have.keys().filter(|name| !want.contains_key(*name)) {
        plan.steps.push((Arc::clone(name), Step::Close(Reason::NotWanted)));
    }
    for (name, look) in looks {
        let Some(wanted) = want.get(&name) else { continue };
        let mut one = OneInterface {
            wanted,
            datapath,
            addressing,
            now,
            steps: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        one.plan(have.get(&name).copied(), look);
        plan.steps.extend(one.steps.into_iter().map(|step| (Arc::clone(&name), step)));
        plan.problems.append(&mut one.problems);
        plan.warnings.append(&mut one.warnings);
    }
    plan
}

struct OneInterface<'w> {
    wanted: &'w Wanted,
    datapath: Datapath,
    addressing: &'w Addressing,
    now: Instant,
    steps: Vec<Step>,
    problems: Vec<InterfaceError>,
    warnings: Vec<Warning>,
}

impl OneInterface<'_> {
    fn plan(&mut self, have: Option<&State>, look: Look) {
        let Look { interface, programs, taken } = look;
        let interface = match interface {
            Ok(interface) => interface,
            Err(error) => {
                match have {
                    Some(_) if error.is_gone() => self.steps.push(Step::Close(Reason::Gone)),
                    // As far as anybody knows, the interface still serves.
                    Some(state) => self.keep_up(state, self.still_wanted(state), true),
                    None => {}
                }
                self.problems.push(error);
                return;
            }
        };
        let programs = programs.unwrap_or_else(|error| {
            self.problems.push(error);
            None
        });
        let answered = self.answered(&interface, taken);
        self.warn_of_stripped_tags(have, &interface);
        let is_up = interface.up;
        if !is_up {
            self.problems.push(interface.is_down());
        }
        match have {
            Some(state) => match reason_to_reopen(state, &interface, programs.as_deref()) {
                Some(reason) => {
                    self.steps.push(Step::Close(reason));
                    if is_up {
                        self.open(interface, answered);
                    }
                }
                None => {
                    self.keep_up(state, answered, is_up);
                    // An attempt would fail while another program is attached.
                    if is_up && programs.is_none_or(|programs| programs.is_empty()) {
                        self.improve(state);
                    }
                }
            },
            None if is_up => self.open(interface, answered),
            None => {}
        }
    }

    /// Warns if XDP would take frames on a VLAN, whose tags it does not see, for frames without one.
    fn warn_of_stripped_tags(&mut self, have: Option<&State>, interface: &Interface) {
        let is_by_xdp = have.is_some_and(|state| state.path.attach_mode().is_some());
        if is_by_xdp && interface.strips_tags && (interface.has_vlans || !self.wanted.vlans.is_empty()) {
            self.warnings.push(Warning::TagsStripped { interface: interface.name.clone() });
        }
    }

    /// Returns the sites that can be served, with the addresses of the interface, and reports the others.
    fn answered(&mut self, interface: &Interface, taken: Vec<Taken>) -> Answered {
        let (servers, mut errors) = self.addressing.on(interface, &self.wanted.addresses);
        self.problems.append(&mut errors);
        let error = |Taken { mac, address, owner }| InterfaceError::MachineHasOurs { mac, address, owner };
        let mut addresses_taken: Vec<_> = taken.iter().map(|taken| taken.address).collect();
        addresses_taken.sort_unstable();
        addresses_taken.dedup();
        self.problems.extend(taken.into_iter().map(error));
        let mut addresses = interface.addresses.clone();
        addresses.sort_unstable();
        let asked_at = if servers.is_empty() { [].into() } else { interface.reached_at().into() };
        Answered { servers, addresses, asked_at, taken: addresses_taken.into() }
    }

    fn still_wanted(&self, state: &State) -> Answered {
        let is_wanted = |served: &&Served| self.wanted.addresses.binary_search(&served.site).is_ok();
        let servers: Vec<_> = state.answered.servers.iter().filter(is_wanted).cloned().collect();
        let asked_at = if servers.is_empty() { [].into() } else { Arc::clone(&state.answered.asked_at) };
        let (addresses, taken) = (state.answered.addresses.clone(), Arc::clone(&state.answered.taken));
        Answered { servers, addresses, asked_at, taken }
    }

    fn open(&mut self, interface: Interface, answered: Answered) {
        let paths = self.datapath.paths(interface.aggregate);
        let (vlans, machines) = (Arc::clone(&self.wanted.vlans), Arc::clone(&self.wanted.machines));
        self.steps.push(Step::Open(Opening { interface, paths, answered, vlans, machines }));
    }

    /// Plans what can be done while the port serves. No socket can be bound to an interface that is down (`can_bind`).
    fn keep_up(&mut self, state: &State, answered: Answered, can_bind: bool) {
        let asked_at = Arc::clone(&answered.asked_at);
        if answered != state.answered {
            self.steps.push(Step::Answer(answered));
        }
        let difference = Difference::between(&state.asked_at, &asked_at);
        if !difference.is_empty() {
            self.steps.push(Step::WriteAddresses(Changes { difference, result: asked_at }));
        }

        let vlans = &self.wanted.vlans;
        let difference = Difference::between(&state.vlans, vlans);
        if !difference.is_empty() {
            self.steps.push(Step::WriteVlans(Changes { difference, result: Arc::clone(vlans) }));
        }

        let machines = &self.wanted.machines;
        let mut difference = Difference::between(&state.machines, machines);
        let free = state.room.saturating_sub(state.machines.len() - difference.removed.len());
        let fits = difference.added.len() <= free;
        difference.added.truncate(free);
        if !difference.is_empty() {
            let result = if fits { Arc::clone(machines) } else { difference.applied_to(&state.machines) };
            self.steps.push(Step::WriteMachines(Changes { difference, result }));
        }

        if can_bind {
            self.steps.extend(state.ended.iter().map(|&place| Step::RestartWorker(place)));
        }
        if !fits {
            self.steps.push(Step::Enlarge(Arc::clone(machines)));
        }
    }

    /// Plans the move from the packet socket to XDP, which can be opened while the packet socket serves. There is no such move
    /// from generic XDP to the driver's: an interface has only one program, so the move would interrupt service.
    fn improve(&mut self, state: &State) {
        let is_due = state.fallback.as_ref().is_some_and(|fallback| fallback.retry.is_due(self.now));
        if is_due && state.path == Path::Socket {
            let paths = self.datapath.paths(state.interface.aggregate);
            let better = paths.iter().position(|&path| path == state.path).unwrap_or_default();
            self.steps.push(Step::Improve(&paths[..better]));
        }
    }
}

/// Returns the reason why a port must be closed and opened again, or `None` if it can stay.
fn reason_to_reopen(state: &State, interface: &Interface, programs: Option<&[u32]>) -> Option<Reason> {
    if state.interface.is_replaced_by(interface) {
        return Some(Reason::Replaced);
    }
    let (ours, present) = state.program.zip(programs)?;
    (!present.contains(&ours)).then_some(Reason::ProgramTakenOff)
}

/// Something that a person should know about an interface that is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The interface has more queues than the map of sockets has entries.
    #[error(
        "interface {interface} has {queues} receive queues, and only the first {QUEUES_CAPACITY} are served: what arrives \
         on the others is not answered. `ethtool -L {interface} combined {QUEUES_CAPACITY}` lets everything arrive on those"
    )]
    QueuesUnserved {
        /// The interface.
        interface: String,
        /// The number of its queues.
        queues: u32,
    },
    /// It takes VLAN tags out of frames before XDP sees these.
    #[error(
        "interface {interface} takes VLAN tags out of frames before XDP sees them, so that requests on its VLANs look like \
         requests without one and are answered as such: `ethtool -K {interface} rxvlan off`, or use --datapath socket"
    )]
    TagsStripped {
        /// The interface.
        interface: String,
    },
    /// It is served, but not by the best path.
    #[error("{reason}. Meanwhile {interface} is served by the slower path {}", path.name())]
    SlowerPath {
        /// The interface.
        interface: String,
        /// The path that serves.
        path: Path,
        /// The error that kept the best path from working.
        reason: String,
    },
    /// Advertised addresses are on no interface.
    #[error(
        "--advertise {}: no interface of the spec has this address here (interface {} has: {}), so it is not used: correct it, or \
         give it to the interface",
        listed_plainly(&.0.addresses), .0.interface, .0.present
    )]
    NotAdvertised(Unused),
    /// Machines are told of no way to their server.
    #[error(
        "interface {interface} has {present}: the machine {mac} at {machine}{} gets the mask {mask} and no router, and cannot \
         reach its server {server}. Set machineSpec.meta.subnet and meta.gateway in the spec, or give the interface an address \
         in the machine's network: `ip address add ADDRESS/PREFIX dev {interface}`",
        and_more(*others)
    )]
    Unreached {
        /// The interface.
        interface: String,
        /// Its addresses.
        present: String,
        /// The first of the machines.
        mac: MacAddr,
        /// Its address.
        machine: Ipv4Addr,
        /// The number of the other machines.
        others: usize,
        /// The mask that DHCP gives to the first one.
        mask: Ipv4Addr,
        /// Its server.
        server: Ipv4Addr,
    },
    /// Unknown machines should be dropped, and its path cannot do that.
    #[error("interface {interface} is served without XDP, so unknown machines are not dropped")]
    Undropped {
        /// The interface.
        interface: String,
    },
}

fn listed_plainly(addresses: &[Ipv4Addr]) -> String {
    let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    listed.join(",")
}

fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} more") }
}

/// Returns what a person should know about a port. `drop_unknown` says that unknown machines are to be dropped.
pub fn warnings(state: &State, drop_unknown: bool) -> impl Iterator<Item = Warning> {
    let State { interface: Interface { name, queues, .. }, path, fallback, .. } = state;
    let is_socket = *path == Path::Socket;
    let queues = (!is_socket && *queues > QUEUES_CAPACITY)
        .then(|| Warning::QueuesUnserved { interface: name.clone(), queues: *queues });
    let path = fallback.as_ref().map(|Fallback { reason, .. }| Warning::SlowerPath {
        interface: name.clone(),
        path: *path,
        reason: reason.clone(),
    });
    let undropped = (is_socket && drop_unknown).then(|| Warning::Undropped { interface: name.clone() });
    [queues, path, undropped].into_iter().flatten()
}
