//! What every part of the server shares.

use std::sync::Arc;

use super::{metrics::Metrics, refusals::RefusalLog};
use crate::{
    artifacts::Store,
    model::{event::EventSink, inventory::SharedInventory},
};

/// The files, the machines, and where the server reports to.
#[derive(Clone, Debug)]
pub struct Context {
    /// Opens the files that clients ask for.
    pub store: Arc<Store>,
    /// Tells machines by their address.
    pub inventory: SharedInventory,
    /// Takes boot events.
    pub events: EventSink,
    /// Counts.
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
