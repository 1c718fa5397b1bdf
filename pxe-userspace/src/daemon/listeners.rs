//! The TFTP and HTTP servers on each of our addresses, started and stopped as the inventory names them; or, for a
//! Matchbox directory alone, HTTP on every address.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{http, model::inventory::Inventory, net::interface::Interface, tftp};

/// The port of TFTP (RFC 1350 §4).
const TFTP_PORT: u16 = 69;

/// Where servers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// TFTP and HTTP on the addresses of the inventory's sites.
    Sites,
    /// HTTP on every address of the host: groups of a Matchbox say nothing of ours.
    HttpEverywhere,
}

/// The servers that run, by our address.
pub(super) struct Listeners {
    scope: Scope,
    http: Arc<http::Context>,
    tftp: tftp::Context,
    running: BTreeMap<Ipv4Addr, Running>,
}

struct Running {
    tftp: Option<JoinHandle<()>>,
    http: JoinHandle<()>,
    stop_http: oneshot::Sender<()>,
}

impl Listeners {
    /// No server yet.
    pub(super) fn new(http: http::Context, tftp: tftp::Context, scope: Scope) -> Self {
        Self { scope, http: Arc::new(http), tftp, running: BTreeMap::new() }
    }

    /// Starts servers on the addresses that the inventory names where none runs, and stops those on others. To be called
    /// within the runtime.
    ///
    /// # Errors
    ///
    /// Every address on which a port is not to be had. The others are served all the same.
    pub(super) fn apply(&mut self, inventory: &Inventory) -> Result<(), Vec<anyhow::Error>> {
        // TFTP wants to know the interface; without one, HTTP alone is served.
        let wanted: BTreeMap<_, _> = match self.scope {
            Scope::Sites => {
                let sites = inventory.machines().iter().map(|machine| &machine.site);
                sites.map(|site| (site.address, Some(&*site.interface))).collect()
            }
            Scope::HttpEverywhere => BTreeMap::from([(Ipv4Addr::UNSPECIFIED, None)]),
        };
        let gone =
            self.running.iter().filter(|(address, running)| !wanted.contains_key(address) || running.has_ended());
        for address in gone.map(|(&address, _)| address).collect::<Vec<_>>() {
            if let Some(running) = self.running.remove(&address) {
                running.stop();
            }
        }
        let mut errors = Vec::new();
        for (address, interface) in wanted {
            if !self.running.contains_key(&address) {
                match self.start(address, interface) {
                    Ok(running) => drop(self.running.insert(address, running)),
                    Err(error) => errors.push(error),
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn start(&self, address: Ipv4Addr, interface: Option<&str>) -> anyhow::Result<Running> {
        let tftp = match interface {
            Some(interface) => {
                let interface = Interface::read(interface)?;
                let server = tftp::TftpServer::bind(address, TFTP_PORT, interface.addresses.clone())?;
                Some(server.on_interface(&interface))
            }
            None => None,
        };
        let http = http::bind(address, self.http.http_port)?;
        let context = self.tftp.clone();
        let tftp = tftp.map(|tftp| {
            tokio::spawn(async move {
                if let Err(error) = tftp.serve(context).await {
                    tracing::error!(%address, "TFTP ends: {error}");
                }
            })
        });
        let (stop_http, stopped) = oneshot::channel();
        let context = Arc::clone(&self.http);
        let http = tokio::spawn(async move {
            // Told to stop, or the sender is gone: both mean the end.
            let stopped = async { drop(stopped.await) };
            if let Err(error) = http::serve(http, context, stopped).await {
                tracing::error!(%address, "boot HTTP ends: {error}");
            }
        });
        Ok(Running { tftp, http, stop_http })
    }

    /// Stops every server. HTTP transfers that end soon may: they are what the tasks returned still do.
    pub(super) fn stop(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.running).into_values().map(Running::stop).collect()
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        self.http.is_finished() || self.tftp.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn stop(self) -> JoinHandle<()> {
        if let Some(tftp) = self.tftp {
            tftp.abort();
        }
        // An error means that it has ended already.
        let _ = self.stop_http.send(());
        self.http
    }
}
