//! Finished steps of boots, for traces, and the channel that carries them to whoever exports them.

use std::{sync::Arc, time::SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::inventory::Machine;

/// A finished step of a boot, or a whole boot.
#[derive(Clone, Debug)]
pub struct Span {
    /// The machine.
    pub machine: Arc<Machine>,
    /// The boot that it belongs to, unique among all boots of all nodes.
    pub boot: u128,
    /// The number of the step, from 1; 0 for the boot as a whole.
    pub step: u32,
    /// The name of the stage, or `boot`.
    pub name: &'static str,
    /// The time at which the machine came to the stage.
    pub begun: SystemTime,
    /// The time at which it left it.
    pub ended: SystemTime,
    /// The reason why it did not succeed.
    pub error: Option<Arc<str>>,
}

/// The sending half of the channel to the exporter.
#[derive(Clone, Debug)]
pub struct SpanSink {
    sender: mpsc::Sender<Span>,
    dropped: Counter,
}

impl SpanSink {
    /// Returns a sink and the receiving half, with room for `capacity` spans that wait. `dropped` counts those that find none.
    #[must_use]
    pub fn channel(capacity: usize, dropped: Counter) -> (Self, mpsc::Receiver<Span>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, dropped }, receiver)
    }

    /// Sends a span. Never blocks: if the exporter lags by the whole capacity, the span is counted and dropped.
    pub fn send(&self, span: Span) {
        if self.sender.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}
