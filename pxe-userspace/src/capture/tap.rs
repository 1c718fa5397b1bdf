//! The place where workers show their frames to captures. While there is no capture, a worker reads one word for each frame.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use pxe_common::{MacAddr, Traced};

use super::{
    decision::{Decision, about_copy, about_trace},
    record::{Record, Way},
    session::{MOST_CAPTURES, MOST_CARDS, Session, StartError},
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
    programs: Vec<Program>,
}

/// An XDP program that tells of the frames of chosen cards.
struct Program {
    number: u64,
    interface: Arc<str>,
    choose: Choose,
}

type Choose = Box<dyn FnMut(&[MacAddr]) -> Result<(), Box<dyn Error>> + Send>;

impl Program {
    fn choose(&mut self, cards: &[MacAddr]) {
        if let Err(error) = (self.choose)(cards) {
            let interface = &*self.interface;
            tracing::warn!(interface, "captures lack the decisions of the XDP program: {error}");
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, interface, choose: _ } = self;
        write!(f, "program {number} on {interface}")
    }
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

    /// Returns the point at which the reader of an XDP program shows the frames that the program tells of. `choose` tells the program the cards.
    #[must_use]
    pub fn trace_point(
        &self,
        interface: &str,
        choose: impl FnMut(&[MacAddr]) -> Result<(), Box<dyn Error>> + Send + 'static,
    ) -> TracePoint {
        let interface: Arc<str> = interface.into();
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let mut program = Program { number, interface: Arc::clone(&interface), choose: Box::new(choose) };
        let cards = cards(&self.0.sessions.load());
        if !cards.is_empty() {
            program.choose(&cards);
        }
        table.programs.push(program);
        drop(table);
        TracePoint { tap: self.clone(), number, interface }
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

    /// Adds a capture.
    ///
    /// # Errors
    ///
    /// If there are too many, or their machines have too many cards together.
    pub(super) fn add(&self, session: &Arc<Session>) -> Result<(), StartError> {
        let mut table = self.table();
        let mut sessions = self.0.sessions.load().to_vec();
        if sessions.len() >= MOST_CAPTURES {
            return Err(StartError::TooMany);
        }
        sessions.push(Arc::clone(session));
        let cards = cards(&sessions);
        if cards.len() > MOST_CARDS {
            return Err(StartError::TooManyCards(cards.len()));
        }
        self.0.sessions.store(Arc::new(sessions));
        self.0.is_on.store(true, Ordering::Relaxed);
        table.programs.iter_mut().for_each(|program| program.choose(&cards));
        Ok(())
    }

    /// Removes a capture.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let mut table = self.table();
        let mut sessions = self.0.sessions.load().to_vec();
        let count = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        if sessions.len() == count {
            return;
        }
        self.0.is_on.store(!sessions.is_empty(), Ordering::Relaxed);
        let cards = cards(&sessions);
        self.0.sessions.store(Arc::new(sessions));
        table.programs.iter_mut().for_each(|program| program.choose(&cards));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the cards of all machines that are captured.
fn cards(sessions: &[Arc<Session>]) -> Vec<MacAddr> {
    let cards: BTreeSet<_> = sessions.iter().flat_map(|session| session.target.macs.iter().copied()).collect();
    cards.into_iter().collect()
}

/// The point at which the frames are shown that one XDP program tells of.
#[derive(Debug)]
pub struct TracePoint {
    tap: Tap,
    number: u64,
    interface: Arc<str>,
}

impl TracePoint {
    /// Shows a frame that came at this time, and returns the program's decision in words.
    pub fn show(&self, traced: &Traced<'_>, at: SystemTime) -> String {
        let Traced { counter, queue, length, mac, bytes, .. } = *traced;
        let words = about_trace(counter, queue);
        for session in self.tap.0.sessions.load().iter().filter(|session| session.target.macs.contains(&mac)) {
            session.offer(Record {
                at,
                interface: Arc::clone(&self.interface),
                way: Way::In,
                length: usize::try_from(length).unwrap_or(bytes.len()),
                bytes: bytes.into(),
                comment: words.clone(),
                by_program: Some(counter.action()),
            });
        }
        words
    }

    /// Counts frames that were lost on the way here.
    pub fn lost(&self, frames: u64) {
        if frames > 0 {
            self.tap.0.sessions.load().iter().for_each(|session| session.lost(frames));
        }
    }
}

impl Drop for TracePoint {
    fn drop(&mut self) {
        self.tap.table().programs.retain(|program| program.number != self.number);
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
        let by_program = None;
        session.offer(Record { at, interface, way, length: bytes.len(), bytes: bytes.into(), comment, by_program });
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        self.tap.table().served.retain(|(number, _)| *number != self.number);
    }
}
