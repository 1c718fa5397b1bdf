//! The connections of the admin listener: limited in number and in time, so that clients that forget theirs, or read nothing, keep nobody
//! else out.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

/// The time that a connection may be idle between requests. Prometheus usually asks every minute or more often.
const IDLE: Duration = Duration::from_secs(90);
/// The time from the first byte of a request to the first of its answer.
const REQUEST: Duration = Duration::from_secs(30);
/// The time that a client may read nothing of its answer.
const STALLED: Duration = Duration::from_secs(30);
/// The time until the next attempt after a connection could not be accepted, usually because no descriptor is free.
const AGAIN: Duration = Duration::from_millis(100);
/// The time that a connection which was told to end may take.
const LEAVING: Duration = Duration::from_secs(1);

/// A listener that serves a limited number of connections. A further one takes the place of the connection that was never answered, or
/// whose last answer is the oldest.
#[derive(Debug)]
pub(super) struct Limited {
    listener: TcpListener,
    limit: usize,
    open: Arc<Open>,
}

/// The open connections.
#[derive(Debug, Default)]
struct Open {
    members: Mutex<Members>,
    /// Signalled when one has ended.
    ended: Notify,
    /// Counts answers. It serves as a clock of which only the order matters.
    answers: AtomicU64,
}

#[derive(Debug, Default)]
struct Members {
    /// The number of the next connection.
    next: u64,
    by_number: BTreeMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    /// The number of its last answer; zero before the first.
    answered: Arc<AtomicU64>,
    /// Tells the connection to end; `None` if that has happened.
    leave: Option<oneshot::Sender<()>>,
}

impl Limited {
    /// Limits the connections of a listener.
    pub(super) fn new(listener: TcpListener, limit: usize) -> Self {
        Self { listener, limit, open: Arc::default() }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((tcp, peer)) => {
                    self.open.make_room(self.limit).await;
                    return (Guarded::new(tcp, Arc::clone(&self.open)), peer);
                }
                // The kernel keeps the connection.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for another connection, after telling one to end if there is none.
    async fn make_room(&self, limit: usize) {
        loop {
            let ended = self.ended.notified();
            {
                let mut members = self.lock();
                if members.by_number.len() < limit {
                    return;
                }
                members.tell_one_to_leave();
            }
            // A connection ends as soon as its task runs. Another is told if it does not.
            let _ = timeout(LEAVING, ended).await;
        }
    }
}

impl Members {
    fn tell_one_to_leave(&mut self) {
        let stays = self.by_number.iter_mut().filter(|(_, member)| member.leave.is_some());
        let first = stays.min_by_key(|(number, member)| (member.answered.load(Ordering::Relaxed), **number));
        if let Some(leave) = first.and_then(|(_, member)| member.leave.take()) {
            // An error means that it is ending already.
            let _ = leave.send(());
        }
    }
}

/// A connection that ends by itself when its client takes too long, or when another one needs its place.
#[derive(Debug)]
pub(super) struct Guarded {
    tcp: TcpStream,
    number: u64,
    answered: Arc<AtomicU64>,
    told: oneshot::Receiver<()>,
    open: Arc<Open>,
    waits: Waits,
    timer: Pin<Box<Sleep>>,
}

/// The state of a connection: the thing that it waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Request(Instant),
    /// The rest of a request, or the beginning of its answer.
    Answer(Instant),
    /// The client, which reads nothing.
    Reader(Instant),
}

impl Waits {
    fn deadline(self) -> Instant {
        match self {
            Self::Request(since) => since + IDLE,
            Self::Answer(since) => since + REQUEST,
            Self::Reader(since) => since + STALLED,
        }
    }
}

impl Guarded {
    fn new(tcp: TcpStream, open: Arc<Open>) -> Self {
        let (leave, told) = oneshot::channel();
        let answered = Arc::<AtomicU64>::default();
        let number = {
            let mut members = open.lock();
            members.next += 1;
            let number = members.next;
            members.by_number.insert(number, Member { answered: Arc::clone(&answered), leave: Some(leave) });
            number
        };
        // Answers are small. This fails only on a broken connection.
        let _ = tcp.set_nodelay(true);
        let waits = Waits::Request(Instant::now());
        Self { tcp, number, answered, told, open, waits, timer: Box::pin(sleep_until(waits.deadline())) }
    }

    /// Returns an error if the connection has to end, or arranges for the task to be woken when it has.
    fn guard<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if Pin::new(&mut self.told).poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "made room for another")));
        }
        let deadline = self.waits.deadline();
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(_)) => {
                self.waits = Waits::Request(Instant::now());
                self.answered.store(self.open.answers.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if !matches!(self.waits, Waits::Reader(_)) {
                    self.waits = Waits::Reader(Instant::now());
                }
                return self.guard(context);
            }
        }
        written
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if read.is_pending() {
            return self.guard(context);
        }
        if buffer.filled().len() > before && matches!(self.waits, Waits::Request(_)) {
            self.waits = Waits::Answer(Instant::now());
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, pieces);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.open.lock().by_number.remove(&self.number);
        self.open.ended.notify_one();
    }
}

#[cfg(test)]
mod tests;
