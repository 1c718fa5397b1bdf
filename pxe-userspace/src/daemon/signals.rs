//! SIGINT, SIGTERM and SIGHUP as requests to the daemon.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The request that a signal stands for.
pub(super) enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGINT or SIGTERM.
    End,
}

/// The signals that pxed handles. They are caught from the moment that this is created.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Starts listening for signals.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a handler.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Waits for the next signal that asks pxed to end.
    pub(super) async fn end(&mut self) {
        while matches!(self.next().await, Asked::Reload) {}
    }
}
