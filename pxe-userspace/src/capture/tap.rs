//! The place where workers show their frames to captures. While there is no capture, a worker reads one word for each frame.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;

use super::{
    decision::{Decision, about_copy},
    record::{Record, Way},
    session::Session,
};
use crate::net::{
    frame::{Reply, Second},
    interface::Interface,
};

/// The captures that run, and the interfaces whose workers show their frames.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_on: AtomicBool,
    sessions: ArcSwap<Vec<Arc<Session>>>,
    table: Mutex<Table>,
}

/// The part that is changed under the lock.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    served: Vec<(u64, Served)>,
}

/// An interface that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) name: Arc<str>,
    pub(super) index: u32,
    /// The way by which its DHCP frames reach a worker, in words.
    pub(super) path: &'static str,
    /// They do so by a packet socket.
    pub(super) by_socket: bool,
}

impl Tap {
    /// Returns the point at which one worker on an interface shows its frames.
    #[must_use]
    pub fn point(&self, interface: &Interface, behind_xdp: bool) -> Point {
        let name: Arc<str> = interface.name.as_str().into();
        let path = if behind_xdp { "XDP and AF_XDP" } else { "a packet socket" };
        let served = Served { name: Arc::clone(&name), index: interface.index, path, by_socket: !behind_xdp };
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.served.push((number, served));
        drop(table);
        Point { tap: self.clone(), number, interface: name }
    }

    /// Returns the interfaces that workers serve now, each once.
    pub(super) fn served(&self) -> Vec<Served> {
        let mut interfaces: Vec<Served> = Vec::new();
        for (_, served) in &self.table().served {
            match interfaces.iter_mut().find(|known| known.index == served.index) {
                // While one path takes the place of another, both are there.
                Some(known) => known.by_socket |= served.by_socket,
                None => interfaces.push(served.clone()),
            }
        }
        interfaces
    }

    /// Adds a capture, unless there are `most` already.
    pub(super) fn add(&self, session: &Arc<Session>, most: usize) -> bool {
        let _table = self.table();
        let mut sessions = self.0.sessions.load().to_vec();
        if sessions.len() >= most {
            return false;
        }
        sessions.push(Arc::clone(session));
        self.0.sessions.store(Arc::new(sessions));
        self.0.is_on.store(true, Ordering::Relaxed);
        true
    }

    /// Removes a capture.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let _table = self.table();
        let mut sessions = self.0.sessions.load().to_vec();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        self.0.is_on.store(!sessions.is_empty(), Ordering::Relaxed);
        self.0.sessions.store(Arc::new(sessions));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The point at which one worker shows its frames.
#[derive(Debug)]
pub struct Point {
    tap: Tap,
    number: u64,
    interface: Arc<str>,
}

impl Point {
    /// Returns `true` while somebody captures.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tap.0.is_on.load(Ordering::Relaxed)
    }

    /// Shows a frame that was received, the decision about it, and the answer in `reply`.
    pub fn show(&self, frame: &[u8], reply: &[u8], answer: Option<Reply>, decision: &Decision) {
        let sessions = self.tap.0.sessions.load();
        let now = SystemTime::now();
        for session in sessions.iter().filter(|session| session.wants(frame)) {
            self.offer(session, now, Way::In, frame, decision.about_question());
            let Some((Reply { second, .. }, bytes)) =
                answer.and_then(|answer| Some((answer, reply.get(..answer.length)?)))
            else {
                continue;
            };
            self.offer(session, now, Way::Out, bytes, decision.about_answer());
            if second != Second::None {
                let mut copy = bytes.to_vec();
                second.make(&mut copy);
                self.offer(session, now, Way::Out, &copy, about_copy(second).to_owned());
            }
        }
    }

    fn offer(&self, session: &Session, at: SystemTime, way: Way, bytes: &[u8], comment: String) {
        let interface = Arc::clone(&self.interface);
        session.offer(Record { at, interface, way, length: bytes.len(), bytes: bytes.into(), comment });
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        self.tap.table().served.retain(|(number, _)| *number != self.number);
    }
}
