//! The TFTP and HTTP servers on each of our addresses, started and stopped by the steps of [`plan`]. With only a Matchbox
//! directory, HTTP on every address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::listeners_plan::{Device, Looks, Place, Plan, Service, State, Step, Wanted, plan};
use crate::{
    dataplane::{Addressing, addressing::Served},
    http,
    model::{
        inventory::{Inventory, Site},
        own_sites::OwnAddress,
    },
    net::interface::{Interface, InterfaceError},
    tftp,
};

/// The port of TFTP (RFC 1350 §4).
const TFTP_PORT: u16 = 69;

/// The addresses that servers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// TFTP and HTTP at our addresses on the inventory's sites.
    Sites,
    /// HTTP on every address of the host, since the groups of a Matchbox name no server address.
    HttpEverywhere,
}

/// Starts and stops servers. Tests replace it by one in memory.
pub(super) trait Backend {
    /// A running server.
    type Server;

    /// Reads an interface.
    ///
    /// # Errors
    ///
    /// If there is none of this name, if it cannot be served, or if the kernel does not tell.
    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError>;

    /// Starts a server, on an interface if the place requires one.
    ///
    /// # Errors
    ///
    /// If the port cannot be bound.
    fn start(&mut self, place: Place, interface: Option<&Interface>) -> anyhow::Result<Self::Server>;

    /// Returns `true` if the server has ended by itself.
    fn has_ended(&self, server: &Self::Server) -> bool;

    /// Stops a server. It accepts nothing more, but running transfers may finish.
    fn stop(&mut self, server: Self::Server);
}

/// The running servers.
pub(super) struct Listeners<B: Backend = Servers> {
    scope: Scope,
    addressing: Addressing,
    backend: B,
    running: BTreeMap<Place, Running<B::Server>>,
    /// The inventory in force, and its sites.
    sites: Option<(Arc<Inventory>, Sites)>,
}

/// The addresses of sites in the spec, sorted, by interface.
type Sites = BTreeMap<Arc<str>, Vec<Ipv4Addr>>;

struct Running<S> {
    server: S,
    device: Option<Device>,
}

impl<B: Backend> Listeners<B> {
    /// Returns listeners without a server.
    pub(super) fn new(backend: B, scope: Scope, addressing: Addressing) -> Self {
        Self { scope, addressing, backend, running: BTreeMap::new(), sites: None }
    }

    /// Returns the addresses that servers run on.
    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    /// Starts and stops servers until they are what the inventory wants, as far as the kernel allows it. It must be called
    /// within a tokio runtime.
    ///
    /// Returns everything that is not served as wanted. The rest is served.
    pub(super) fn reconcile(&mut self, inventory: &Arc<Inventory>) -> Vec<String> {
        let Self { scope, addressing, backend, running, sites: known } = self;
        let sites = match known.take() {
            Some((of, sites)) if Arc::ptr_eq(&of, inventory) => sites,
            _ => sites(*scope, inventory),
        };
        let looks: Looks = sites.keys().map(|name| (Arc::clone(name), backend.interface(name))).collect();
        let state = |Running { server, device }: &Running<B::Server>| State {
            device: device.clone(),
            has_ended: backend.has_ended(server),
        };
        let have = running.iter().map(|(&place, running)| (place, state(running))).collect();
        let wanted = match scope {
            Scope::HttpEverywhere => EVERYWHERE.map(|place| (place, BTreeSet::new())).into(),
            Scope::Sites => wanted(addressing, &sites, &looks, &have),
        };
        let Plan { steps, mut problems } = plan(&have, &wanted, &looks);
        problems.extend(unserved(addressing, &sites, &looks));
        for step in steps {
            match step {
                Step::Stop(place, reason) => {
                    tracing::info!("{place} stops: {reason}");
                    if let Some(Running { server, .. }) = running.remove(&place) {
                        backend.stop(server);
                    }
                }
                Step::Start(place, interface) => match backend.start(place, interface.as_ref()) {
                    Ok(server) => {
                        let device = interface.as_ref().map(Device::from);
                        running.insert(place, Running { server, device });
                    }
                    Err(error) => problems.push(format!("{error:#}")),
                },
            }
        }
        *known = Some((Arc::clone(inventory), sites));
        problems
    }

    /// Returns `true` if both services run at an address.
    pub(super) fn are_running_at(&self, address: Ipv4Addr) -> bool {
        let is_running = |service| {
            let running = self.running.get(&Place { service, address });
            running.is_some_and(|Running { server, .. }| !self.backend.has_ended(server))
        };
        [Service::Tftp, Service::Http].into_iter().all(is_running)
    }
}

/// The only place of a server that belongs to no site.
const EVERYWHERE: [Place; 1] = [Place { service: Service::Http, address: Ipv4Addr::UNSPECIFIED }];

/// Returns the sites of the inventory by interface.
fn sites(scope: Scope, inventory: &Inventory) -> Sites {
    let mut sites: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    if scope == Scope::Sites {
        for machine in inventory.machines() {
            let Site { interface, address } = &*machine.site;
            match sites.get_mut(interface) {
                Some(addresses) => drop(addresses.insert(*address)),
                None => drop(sites.entry(Arc::clone(interface)).or_default().insert(*address)),
            }
        }
    }
    sites.into_iter().map(|(name, addresses)| (name, addresses.into_iter().collect())).collect()
}

/// Returns the places where a server is wanted.
fn wanted(addressing: &Addressing, sites: &Sites, looks: &Looks, have: &BTreeMap<Place, State>) -> Wanted {
    let mut wanted = Wanted::new();
    let mut want = |address, interface: &Arc<str>| {
        for service in [Service::Tftp, Service::Http] {
            wanted.entry(Place { service, address }).or_default().insert(Arc::clone(interface));
        }
    };
    for (name, addresses) in sites {
        match (addressing, looks.get(name)) {
            // The plan waits for the address, and says so.
            (Addressing::OfSpec, _) => addresses.iter().for_each(|&address| want(address, name)),
            (Addressing::OfNode { .. }, Some(Ok(interface))) => {
                for Served { own: OwnAddress { address, also }, .. } in addressing.on(interface, addresses).0 {
                    want(address, name);
                    also.iter().for_each(|&address| want(address, name));
                }
            }
            // Nothing is known about the interface, so its servers stay.
            (Addressing::OfNode { .. }, Some(Err(error))) if !error.is_gone() => {
                have.iter().filter(|(_, state)| state.is_on(name)).for_each(|(place, _)| want(place.address, name));
            }
            (Addressing::OfNode { .. }, _) => {}
        }
    }
    wanted
}

/// Returns the problems of interfaces without an address to serve at. If only the addresses of the spec count, the plan has them.
fn unserved(addressing: &Addressing, sites: &Sites, looks: &Looks) -> Vec<String> {
    if *addressing == Addressing::OfSpec {
        return Vec::new();
    }
    let problems = sites.iter().flat_map(|(name, addresses)| match looks.get(name) {
        Some(Ok(interface)) => addressing.on(interface, addresses).1.iter().map(ToString::to_string).collect(),
        Some(Err(error)) => vec![error.to_string()],
        None => Vec::new(),
    });
    problems.collect()
}

impl Listeners {
    /// Stops every server. Returns the tasks of those whose transfers may still finish.
    pub(super) fn stop(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.running).into_values().map(|Running { server, .. }| server.stop()).collect()
    }
}

/// The real servers, as tasks of the runtime.
pub(super) struct Servers {
    http: Arc<http::Context>,
    tftp: tftp::Context,
}

/// A running server.
pub(super) struct Server {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Servers {
    /// Returns a backend whose servers answer from these contexts.
    pub(super) fn new(http: http::Context, tftp: tftp::Context) -> Self {
        Self { http: Arc::new(http), tftp }
    }
}

impl Backend for Servers {
    type Server = Server;

    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError> {
        Interface::read(name)
    }

    fn start(&mut self, place: Place, interface: Option<&Interface>) -> anyhow::Result<Server> {
        let Place { service, address } = place;
        let (stop, stopped) = oneshot::channel();
        // A message and a dropped sender both mean the end.
        let stopped = async { drop(stopped.await) };
        let task = match service {
            Service::Tftp => {
                let networks = interface.map(|interface| interface.addresses.clone()).unwrap_or_default();
                let server = tftp::TftpServer::bind(address, TFTP_PORT, networks, self.tftp.ports)?;
                let server = match interface {
                    Some(interface) => server.on_interface(interface),
                    None => server,
                };
                let context = self.tftp.clone();
                tokio::spawn(async move {
                    if let Err(error) = server.serve(context, stopped).await {
                        tracing::error!(%address, "the TFTP server ended: {error}");
                    }
                })
            }
            Service::Http => {
                let http = http::bind(address, self.http.http_port)?;
                let context = Arc::clone(&self.http);
                tokio::spawn(async move {
                    if let Err(error) = http::serve(http, context, stopped).await {
                        tracing::error!(%address, "the boot HTTP server ended: {error}");
                    }
                })
            }
        };
        Ok(Server { task, stop })
    }

    fn has_ended(&self, server: &Server) -> bool {
        server.task.is_finished()
    }

    fn stop(&mut self, server: Server) {
        drop(server.stop());
    }
}

impl Server {
    /// Stops the server. Returns the task that may still have to finish.
    fn stop(self) -> JoinHandle<()> {
        let Self { task, stop } = self;
        // An error means that the server has already ended.
        let _ = stop.send(());
        task
    }
}

#[cfg(test)]
mod tests;
