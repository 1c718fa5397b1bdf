//! The TFTP and HTTP servers on each of our addresses, started and stopped as the inventory names them.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{dataplane::interface::Interface, http, inventory::Inventory, tftp};

/// The port of TFTP (RFC 1350 §4).
const TFTP_PORT: u16 = 69;

/// The servers that run, by our address.
pub(super) struct Listeners {
    http: Arc<http::Context>,
    tftp: tftp::Context,
    running: BTreeMap<Ipv4Addr, Running>,
}

struct Running {
    tftp: JoinHandle<()>,
    http: JoinHandle<()>,
    stop_http: oneshot::Sender<()>,
}

impl Listeners {
    /// No server yet.
    pub(super) fn new(http: http::Context, tftp: tftp::Context) -> Self {
        Self { http: Arc::new(http), tftp, running: BTreeMap::new() }
    }

    /// Starts servers on the addresses that the inventory names, and stops those on others. To be called within the
    /// runtime.
    ///
    /// # Errors
    ///
    /// Every address on which a port is not to be had. The others are served all the same.
    pub(super) fn apply(&mut self, inventory: &Inventory) -> Result<(), Vec<anyhow::Error>> {
        let sites = inventory.machines().iter().map(|machine| &machine.site);
        let wanted: BTreeMap<_, _> = sites.map(|site| (site.address, &*site.interface)).collect();
        let gone: Vec<_> = self.running.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
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

    fn start(&self, address: Ipv4Addr, interface: &str) -> anyhow::Result<Running> {
        let networks = Interface::read(interface)?.addresses;
        let tftp = tftp::TftpServer::bind(address, TFTP_PORT, networks)?;
        let http = http::bind(address, self.http.http_port)?;
        let context = self.tftp.clone();
        let tftp = tokio::spawn(async move {
            if let Err(error) = tftp.serve(context).await {
                tracing::error!(%address, "TFTP ends: {error}");
            }
        });
        let (stop_http, stopped) = oneshot::channel();
        let context = Arc::clone(&self.http);
        let http = tokio::spawn(http::serve(http, context, async {
            // Told to stop, or the sender is gone: both mean the end.
            let _ = stopped.await;
        }));
        Ok(Running { tftp, http, stop_http })
    }

    /// Stops every server. HTTP transfers that end soon may: they are what the tasks returned still do.
    pub(super) fn stop(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.running).into_values().map(Running::stop).collect()
    }
}

impl Running {
    fn stop(self) -> JoinHandle<()> {
        self.tftp.abort();
        // An error means that it has ended already.
        let _ = self.stop_http.send(());
        self.http
    }
}
