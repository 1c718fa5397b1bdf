//! The shared state that the server answers from.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use pxe_common::MacAddr;

use super::{
    change_log::ChangeLog,
    coverage::Coverage,
    metrics::{Metrics, Refused},
    places::{Client, Places},
    uki_images::UkiImages,
    visits::Visits,
};
use crate::{
    artifacts::{Store, TalosConfigs},
    cluster_spec::matchbox::SharedCatalog,
    guard::Guard,
    model::{
        event::EventSink,
        images::SharedImages,
        inventory::{Machine, SharedInventory},
        policy::Disposition,
        policy_book::PolicyBook,
        progress::ProgressBoard,
        visitors::{Outcome, Visit},
    },
};

/// The shared state that every listener and connection answers from.
#[derive(Debug)]
pub struct Context {
    /// The fleet.
    pub inventory: SharedInventory,
    /// The machines of a Matchbox directory, for requests that name no machine of the fleet.
    pub catalog: SharedCatalog,
    /// The files below `/assets/`.
    pub store: Arc<Store>,
    /// The state of the files that the machines need. Every answer about a machine's files is made for
    /// [`Images::as_bootable`](crate::model::images::Images::as_bootable).
    pub images: SharedImages,
    /// The shared parts of unified kernel images, and the key that signs them.
    pub ukis: Arc<UkiImages>,
    /// The machine configurations, if there are any.
    pub talos_configs: Option<Arc<TalosConfigs>>,
    /// The sink for boot events.
    pub events: EventSink,
    /// The board on which transfers publish their progress.
    pub progress: Arc<ProgressBoard>,
    /// The policy that says which machines boot from the network now.
    pub policies: Arc<ArcSwap<PolicyBook>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The parts of files that machines have; empty at start.
    pub coverage: Mutex<Coverage>,
    /// The log of files that were overwritten while they were sent.
    pub changes: ChangeLog,
    /// The record of requests that belong to no machine's journal.
    pub visits: Visits,
    /// Set if scripts are given only to the machine's own address. This is right where we assign the addresses, and wrong in
    /// ProxyDHCP mode, where another server does.
    pub check_source: bool,
    /// Checks the unguessable parts of URLs. `None` if scripts are given to whoever asks.
    pub guard: Option<Arc<Guard>>,
    /// The places of connections, of all servers together.
    pub places: Places,
    /// The port in the URLs of scripts.
    pub http_port: u16,
}

impl Context {
    /// Returns the machine with this address.
    pub(super) fn machine_at(&self, address: IpAddr) -> Option<Arc<Machine>> {
        let IpAddr::V4(address) = address else { return None };
        self.inventory.load().by_address(address).map(Arc::clone)
    }

    /// Records a request for something of a machine's by a client that has not its address. The machine's own record does not change by what
    /// others do.
    pub(super) fn asked_by_another(&self, mac: MacAddr, from: IpAddr, request: String) {
        self.metrics.refused(Refused::Source);
        let visit = Visit {
            at: SystemTime::now(),
            address: from,
            mac: Some(mac),
            uuid: None,
            request,
            status: StatusCode::FORBIDDEN.as_u16(),
            outcome: Outcome::NotItsAddress { from },
            matched: None,
        };
        self.visits.record(&self.metrics, visit);
    }

    /// Returns the kind of the client at this address.
    pub(super) fn client_at(&self, address: IpAddr) -> Client {
        if !self.check_source || self.inventory.load().machines().is_empty() {
            Client::Anybody
        } else if self.machine_at(address).is_some() {
            Client::Machine
        } else {
            Client::Stranger
        }
    }

    /// Returns the machine's current boot target.
    pub(super) fn disposition(&self, machine: &Machine) -> Disposition {
        self.policies.load().disposition(machine)
    }
}
