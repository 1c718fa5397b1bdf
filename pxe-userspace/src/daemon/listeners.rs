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
    http,
    model::inventory::Inventory,
    net::interface::{Interface, InterfaceError},
    tftp,
};

/// The port of TFTP (RFC 1350 §4).
const TFTP_PORT: u16 = 69;

/// The addresses that servers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// TFTP and HTTP on the addresses of the inventory's sites.
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
    backend: B,
    running: BTreeMap<Place, Running<B::Server>>,
    /// The inventory in force, and the places that it wants to be served.
    wanted: Option<(Arc<Inventory>, Wanted)>,
}

struct Running<S> {
    server: S,
    device: Option<Device>,
}

impl<B: Backend> Listeners<B> {
    /// Returns listeners without a server.
    pub(super) fn new(backend: B, scope: Scope) -> Self {
        Self { scope, backend, running: BTreeMap::new(), wanted: None }
    }

    /// Starts and stops servers until they are what the inventory wants, as far as the kernel allows it. It must be called
    /// within a tokio runtime.
    ///
    /// Returns everything that is not served as wanted. The rest is served.
    pub(super) fn reconcile(&mut self, inventory: &Arc<Inventory>) -> Vec<String> {
        let Self { scope, backend, running, wanted: known } = self;
        let wanted = match known.take() {
            Some((of, wanted)) if Arc::ptr_eq(&of, inventory) => wanted,
            _ => wanted(*scope, inventory),
        };
        let names: BTreeSet<_> = wanted.values().flatten().cloned().collect();
        let looks: Looks = names.into_iter().map(|name| (Arc::clone(&name), backend.interface(&name))).collect();
        let state = |Running { server, device }: &Running<B::Server>| State {
            device: device.clone(),
            has_ended: backend.has_ended(server),
        };
        let have = running.iter().map(|(&place, running)| (place, state(running))).collect();
        let Plan { steps, mut problems } = plan(&have, &wanted, &looks);
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
        *known = Some((Arc::clone(inventory), wanted));
        problems
    }
}

/// Returns the places where the inventory wants a server.
fn wanted(scope: Scope, inventory: &Inventory) -> Wanted {
    let mut wanted = Wanted::new();
    match scope {
        Scope::HttpEverywhere => {
            wanted.insert(Place { service: Service::Http, address: Ipv4Addr::UNSPECIFIED }, BTreeSet::new());
        }
        Scope::Sites => {
            let sites: BTreeSet<_> = inventory.machines().iter().map(|machine| &*machine.site).collect();
            for site in sites {
                for service in [Service::Tftp, Service::Http] {
                    let place = Place { service, address: site.address };
                    wanted.entry(place).or_default().insert(Arc::clone(&site.interface));
                }
            }
        }
    }
    wanted
}

impl Listeners {
    /// Stops every server. Returns the tasks of HTTP servers whose transfers may still finish.
    pub(super) fn stop(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.running).into_values().filter_map(|Running { server, .. }| server.stop()).collect()
    }
}

/// The real servers, as tasks of the runtime.
pub(super) struct Servers {
    http: Arc<http::Context>,
    tftp: tftp::Context,
}

/// A running server.
pub(super) enum Server {
    Tftp(JoinHandle<()>),
    Http { task: JoinHandle<()>, stop: oneshot::Sender<()> },
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
        match service {
            Service::Tftp => {
                let networks = interface.map(|interface| interface.addresses.clone()).unwrap_or_default();
                let server = tftp::TftpServer::bind(address, TFTP_PORT, networks)?;
                let server = match interface {
                    Some(interface) => server.on_interface(interface),
                    None => server,
                };
                let context = self.tftp.clone();
                Ok(Server::Tftp(tokio::spawn(async move {
                    if let Err(error) = server.serve(context).await {
                        tracing::error!(%address, "the TFTP server ended: {error}");
                    }
                })))
            }
            Service::Http => {
                let http = http::bind(address, self.http.http_port)?;
                let context = Arc::clone(&self.http);
                let (stop, stopped) = oneshot::channel();
                let task = tokio::spawn(async move {
                    // A message and a dropped sender both mean the end.
                    let stopped = async { drop(stopped.await) };
                    if let Err(error) = http::serve(http, context, stopped).await {
                        tracing::error!(%address, "the boot HTTP server ended: {error}");
                    }
                });
                Ok(Server::Http { task, stop })
            }
        }
    }

    fn has_ended(&self, server: &Server) -> bool {
        match server {
            Server::Tftp(task) | Server::Http { task, .. } => task.is_finished(),
        }
    }

    fn stop(&mut self, server: Server) {
        drop(server.stop());
    }
}

impl Server {
    /// Stops the server. Returns the task that may still have to finish.
    fn stop(self) -> Option<JoinHandle<()>> {
        match self {
            Self::Tftp(task) => {
                task.abort();
                None
            }
            Self::Http { task, stop } => {
                // An error means that the server has already ended.
                let _ = stop.send(());
                Some(task)
            }
        }
    }
}

#[cfg(test)]
mod tests;
