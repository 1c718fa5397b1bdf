//! The values that all parts of the server share.

use std::sync::Arc;

use super::{metrics::Metrics, refusals::RefusalLog};
use crate::{
    artifacts::Store,
    model::{
        event::EventSink, images::SharedImages, inventory::SharedInventory, policy_book::SharedPolicies,
        port_range::PortRange, progress::ProgressBoard,
    },
};

/// The files and machines, and the receivers of events and counts.
#[derive(Clone, Debug)]
pub struct Context {
    /// Opens the files that clients ask for.
    pub store: Arc<Store>,
    /// Knows machines by their address.
    pub inventory: SharedInventory,
    /// Says which machines boot from the network now.
    pub(super) policies: SharedPolicies,
    /// Set if configurations are given only to the machine's own address.
    pub(super) check_source: bool,
    /// The state of the files that the machines need.
    pub(super) images: SharedImages,
    /// Takes boot events.
    pub events: EventSink,
    /// The board on which transfers publish their progress.
    pub(super) progress: Arc<ProgressBoard>,
    /// Counts requests and transfers.
    pub metrics: Arc<Metrics>,
    /// The ports of transfers, if they are not the kernel's choice.
    pub ports: Option<PortRange>,
    pub(super) refusals: Arc<RefusalLog>,
}

impl Context {
    /// Puts a context together, with an empty log of refusals. Until [`with_policies`](Self::with_policies), the spec's policies are
    /// in force.
    #[must_use]
    pub fn new(store: Arc<Store>, inventory: SharedInventory, events: EventSink, metrics: Arc<Metrics>) -> Self {
        let policies = SharedPolicies::default();
        let images = SharedImages::default();
        Self {
            store,
            inventory,
            policies,
            check_source: true,
            images,
            events,
            progress: Arc::new(ProgressBoard::new(0)),
            metrics,
            ports: None,
            refusals: Arc::default(),
        }
    }

    /// Sets the state of the files. Without it, every file is taken to be there.
    #[must_use]
    pub fn with_images(self, images: SharedImages) -> Self {
        Self { images, ..self }
    }

    /// Sets the board on which transfers publish their progress. Without it, nobody reads it.
    #[must_use]
    pub fn with_progress(self, progress: Arc<ProgressBoard>) -> Self {
        Self { progress, ..self }
    }

    /// Sets the ports of transfers. Without them, the kernel chooses.
    #[must_use]
    pub fn with_ports(self, ports: Option<PortRange>) -> Self {
        Self { ports, ..self }
    }

    /// Sets the policies in force, and whether configurations are given only to the machine's own address. That is right where we
    /// assign the addresses, and wrong in ProxyDHCP mode, where another server does.
    #[must_use]
    pub fn with_policies(self, policies: SharedPolicies, check_source: bool) -> Self {
        Self { policies, check_source, ..self }
    }
}
