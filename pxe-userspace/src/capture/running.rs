//! A running capture.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::{
    observer,
    record::Record,
    session::{Session, StartError, Target},
    tap::Tap,
};

/// A running capture. It ends when it is dropped.
#[derive(Debug)]
pub struct Capture {
    session: Arc<Session>,
    receiver: Receiver<Record>,
    tap: Tap,
}

impl Capture {
    /// Starts a capture. Every frame from now on is in it. `http_port` is that of boot HTTP.
    ///
    /// # Errors
    ///
    /// If too many run, or the kernel refuses a socket or a thread.
    pub fn start(tap: &Tap, target: Target, http_port: u16) -> Result<Self, StartError> {
        let (session, receiver) = Session::of(target);
        tap.add(&session)?;
        // From here on it is ended by its end.
        let capture = Self { session, receiver, tap: tap.clone() };
        observer::start(Arc::clone(&capture.session), tap.clone(), http_port)?;
        Ok(capture)
    }

    /// Returns the next frame that waits, if there is one.
    pub fn take(&mut self) -> Option<Record> {
        let record = self.receiver.try_recv().ok()?;
        self.session.left(&record);
        Some(record)
    }

    /// Returns the interfaces that pxed serves now, and the ways by which frames come from there.
    #[must_use]
    pub fn interfaces(&self) -> Vec<(Arc<str>, &'static str)> {
        self.tap.served().into_iter().map(|served| (served.name, served.path)).collect()
    }

    /// Returns the number of frames that were taken, and of those that were dropped.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.session.counts()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.session.end();
        self.tap.remove(&self.session);
    }
}
