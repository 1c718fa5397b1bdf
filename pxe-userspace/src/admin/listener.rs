//! The connections of the admin listener: limited in number and in time, so that clients that forget theirs, or read nothing, keep nobody
//! else out.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    net::IpAddr,
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
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
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
/// The most bytes of a request. No route takes a body.
const LONGEST_REQUEST: usize = 64 * 1024;

/// A listener of any kind.
pub(super) trait Accepts: Send + 'static {
    /// Its connections.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Accepts a connection, and returns the address that it came from if it has one.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Option<IpAddr>)>> + Send;
}

impl Accepts for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (tcp, peer) = self.accept().await?;
        // Answers are small. This fails only on a broken connection.
        let _ = tcp.set_nodelay(true);
        Ok((tcp, Some(peer.ip())))
    }
}

impl Accepts for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

/// A listener that serves a limited number of connections. A further one takes the place of another: of those of the address that has
/// most, the one that was never answered, or whose last answer is the oldest.
#[derive(Debug)]
pub(super) struct Limited<L> {
    listener: L,
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
    by_source: BTreeMap<Option<IpAddr>, usize>,
}

#[derive(Debug)]
struct Member {
    source: Option<IpAddr>,
    /// The number of its last answer; zero before the first.
    answered: Arc<AtomicU64>,
    /// Tells the connection to end; `None` if that has happened.
    leave: Option<oneshot::Sender<()>>,
}

impl<L> Limited<L> {
    /// Limits the connections of a listener.
    pub(super) fn new(listener: L, limit: usize) -> Self {
        Self { listener, limit, open: Arc::default() }
    }
}

impl<L: Accepts> axum::serve::Listener for Limited<L> {
    type Io = Guarded<L::Io>;
    type Addr = Option<IpAddr>;

    async fn accept(&mut self) -> (Guarded<L::Io>, Option<IpAddr>) {
        loop {
            match self.listener.accept().await {
                Ok((io, source)) => {
                    self.open.make_room(self.limit).await;
                    return (Guarded::new(io, source, Arc::clone(&self.open)), source);
                }
                // The kernel keeps the connection.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Option<IpAddr>> {
        Ok(None)
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
        let Self { next: _, by_number, by_source } = self;
        let of_source = |source| std::cmp::Reverse(by_source.get(&source).copied().unwrap_or_default());
        let stays = by_number.iter_mut().filter(|(_, member)| member.leave.is_some());
        let first = stays.min_by_key(|(number, member)| {
            (of_source(member.source), member.answered.load(Ordering::Relaxed), **number)
        });
        if let Some(leave) = first.and_then(|(_, member)| member.leave.take()) {
            // An error means that it is ending already.
            let _ = leave.send(());
        }
    }
}

/// A connection that ends by itself when its client takes too long, or when another one needs its place.
#[derive(Debug)]
pub(super) struct Guarded<I> {
    io: I,
    number: u64,
    source: Option<IpAddr>,
    answered: Arc<AtomicU64>,
    told: oneshot::Receiver<()>,
    open: Arc<Open>,
    waits: Waits,
    /// The bytes of the request so far.
    read: usize,
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

impl<I> Guarded<I> {
    fn new(io: I, source: Option<IpAddr>, open: Arc<Open>) -> Self {
        let (leave, told) = oneshot::channel();
        let answered = Arc::<AtomicU64>::default();
        let number = {
            let mut members = open.lock();
            members.next += 1;
            let number = members.next;
            members.by_number.insert(number, Member { source, answered: Arc::clone(&answered), leave: Some(leave) });
            *members.by_source.entry(source).or_default() += 1;
            number
        };
        let waits = Waits::Request(Instant::now());
        let timer = Box::pin(sleep_until(waits.deadline()));
        Self { io, number, source, answered, told, open, waits, read: 0, timer }
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
                self.read = 0;
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

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_pending() {
            return self.guard(context);
        }
        let count = buffer.filled().len() - before;
        if count > 0 && matches!(self.waits, Waits::Request(_)) {
            self.waits = Waits::Answer(Instant::now());
        }
        self.read += count;
        if self.read > LONGEST_REQUEST {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long")));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<I> Drop for Guarded<I> {
    fn drop(&mut self) {
        {
            let mut members = self.open.lock();
            members.by_number.remove(&self.number);
            if let Some(count) = members.by_source.get_mut(&self.source) {
                *count -= 1;
                if *count == 0 {
                    members.by_source.remove(&self.source);
                }
            }
        }
        self.open.ended.notify_one();
    }
}

#[cfg(test)]
mod tests;
