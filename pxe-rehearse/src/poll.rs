//! The events that the thread of a rehearsal waits for.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Frames have arrived.
    Link,
    /// A signal asks for the end of the rehearsal.
    Signal,
    /// The connection of the machine with this index is ready.
    Connection(usize),
}

const LINK: u64 = u64::MAX;
const SIGNAL: u64 = u64::MAX - 1;
const EVENTS: usize = 256;

/// SIGINT and SIGTERM as events. They do not end the process while this value lives.
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        ends.thread_block()?;
        Ok(Self(SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Returns `interrupted` or `terminated` if a signal has come.
    pub(crate) fn came(&self) -> Option<&'static str> {
        let info = self.0.read_signal().ok().flatten()?;
        Some(if info.ssi_signo == Signal::SIGTERM as u32 { "terminated" } else { "interrupted" })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]).thread_unblock();
    }
}

/// Waits for the link, the connections and the signals together.
pub(crate) struct Poll {
    epoll: Epoll,
    signals: Signals,
    events: Vec<EpollEvent>,
}

impl Poll {
    /// Watches `link` and the signals.
    pub(crate) fn new(link: &impl AsFd) -> io::Result<Self> {
        let signals = Signals::new()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(link, EpollEvent::new(EpollFlags::EPOLLIN, LINK))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
        Ok(Self { epoll, signals, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// Watches a connection of a machine as well, until it is closed. The events are edge-triggered, so their receiver must
    /// continue until there is nothing more to do.
    pub(crate) fn watch(&self, index: usize, stream: &TcpStream) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.epoll.add(stream, EpollEvent::new(flags, index as u64))?)
    }

    /// Waits for events, but no longer than `limit`.
    pub(crate) fn wait(&mut self, limit: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        // Rounded up: a wait that ends before its timer would be repeated again and again.
        let millis = limit.as_micros().div_ceil(1000);
        let timeout = EpollTimeout::try_from(millis.min(60_000) as i32).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        ready.extend(self.events[..count].iter().map(|event| match event.data() {
            LINK => Ready::Link,
            SIGNAL => Ready::Signal,
            index => Ready::Connection(index as usize),
        }));
        Ok(())
    }

    /// Returns `interrupted` or `terminated`, after the event of a signal.
    pub(crate) fn signal(&self) -> &'static str {
        self.signals.came().unwrap_or("interrupted")
    }
}

/// The number of descriptors that are not connections.
const OTHERS: u64 = 64;

/// Raises the limit of open files for this many connections, as far as possible. Returns the number of connections that it
/// allows.
pub(crate) fn allow_connections(wanted: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let needed = wanted as u64 + OTHERS;
    if soft < needed {
        // Only root may raise the hard limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed))
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard));
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((soft, hard));
    usize::try_from(soft.saturating_sub(OTHERS)).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
}
