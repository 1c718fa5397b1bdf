//! SIGINT, SIGTERM and SIGHUP as requests to the daemon.

use std::thread;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::ending::Ending;

/// The request that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGINT or SIGTERM.
    End,
}

/// The signals that pxed handles. They are caught from the moment that this is created.
pub(super) struct Signals(UnboundedReceiver<Asked>);

impl Signals {
    /// Starts listening for signals, on a thread of its own: it depends on nothing that may hang. The first signal that asks pxed to end
    /// starts the time that it has for this. Only threads that are started afterwards leave the signals to this one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a thread or the signals' mask.
    pub(super) fn listen(ending: Ending) -> anyhow::Result<Self> {
        let handled = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        handled.thread_block().context("listening to signals")?;
        let (sender, asked) = unbounded_channel();
        let listen = move || {
            while let Ok(signal) = handled.wait() {
                let asked = if signal == Signal::SIGHUP { Asked::Reload } else { Asked::End };
                if asked == Asked::End {
                    ending.begin();
                }
                // An error means that the daemon has stopped.
                let _ = sender.send(asked);
            }
        };
        thread::Builder::new().name("pxed-signals".to_owned()).spawn(listen).context("listening to signals")?;
        Ok(Self(asked))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Asked {
        match self.0.recv().await {
            Some(asked) => asked,
            // The thread has ended, which only a defect of the kernel causes.
            None => std::future::pending().await,
        }
    }

    /// Waits for the next signal that asks pxed to end.
    pub(super) async fn end(&mut self) {
        while self.next().await == Asked::Reload {}
    }
}
