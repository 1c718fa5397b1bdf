//! The values that all parts of the server share.

use std::sync::Arc;

use super::{metrics::Metrics, refusals::RefusalLog};
use crate::{
    artifacts::Store,
    model::{event::EventSink, inventory::SharedInventory},
};

/// The files and machines, and the receivers of events and counts.
#[derive(Clone, Debug)]
pub struct Context {
    /// Opens the files that clients ask for.
    pub store: Arc<Store>,
    /// Knows machines by their address.
    pub inventory: SharedInventory,
    /// Takes boot events.
    pub events: EventSink,
    /// Counts requests and transfers.
    pub metrics: Arc<Metrics>,
    pub(super) refusals: Arc<RefusalLog>,
}

impl Context {
    /// Puts a context together, with an empty log of refusals.
    #[must_use]
    pub fn new(store: Arc<Store>, inventory: SharedInventory, events: EventSink, metrics: Arc<Metrics>) -> Self {
        Self { store, inventory, events, metrics, refusals: Arc::default() }
    }
}
