//! A TCP connection that counts what it sends: bytes, and files by sendfile(2).

use std::{
    borrow::Cow,
    io::{self, IoSlice},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::Duration,
};

use bytes::BufMut as _;
use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendFlags},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    body::Piece,
    disk_turns::TURNS,
    flights::Reach,
    metrics::Metrics,
    pace::{Pace, TooSlow},
    places::{Client, Seat},
    send_queue::SendQueue,
};
use crate::{
    artifacts::{OpenArtifact, READ_AHEAD},
    model::{failure::CHANGED, progress::Gauge},
};

/// The time between looks at what a client has acknowledged, while its socket takes nothing more.
const LOOK: Duration = Duration::from_secs(5);

/// The time between two looks at what a client has acknowledged that keeps up, for the progress that is published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The most bytes sent by one call: sendfile(2) returns only after it has copied everything that the socket takes.
const CHUNK: u64 = 2 * 1024 * 1024;

/// The number of bytes between looks at whether the file has changed.
const CHECKED_EVERY: u64 = 1024 * 1024;

/// The bytes at the end of an answer that are read before the last look and sent after it. So an answer is not completed after
/// the file has changed.
const TAIL: u64 = 4096;

/// The number of calls in a row without waiting after which other connections get their turn. A socket that drains as
/// fast as it is filled would otherwise keep the thread; more frequent turns would cost more than they give.
const CALLS_PER_TURN: u32 = 16;

/// Sockets are corked only while at most this many connections are open. Without the cork, each acknowledgement that arrives
/// during a file pushes out a partial segment, which costs a single client a third of its throughput. With many connections
/// the cork itself costs a little, and the link is full anyway.
const CORKED_CONNECTION_LIMIT: i64 = 16;

/// The reason why a connection cannot continue.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The client closed or reset the connection, or the network no longer carries it.
    #[error("the connection broke: {0}")]
    Closed(#[from] io::Error),
    /// The client does not read its answer, or too slowly.
    #[error("{0}")]
    Stalled(TooSlow),
    /// Somebody has written to the file since its length was announced.
    #[error("{CHANGED}")]
    Changed,
}

/// A connection, with the position that its client has reached.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    /// Bytes written to the socket since the connection began.
    written: u64,
    /// Set if our FIN follows these bytes.
    is_finished: bool,
    is_new: bool,
    /// The place of the connection, which has to know whether its client reads.
    seat: Arc<Seat>,
    /// The client's progress, while it is being waited for during an answer.
    pace: Option<Pace>,
    /// The file that is sent to a machine, whose progress is published.
    sending: Option<Sending>,
}

/// A file on its way to a machine.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) gauge: Gauge,
    /// The position of the body in the stream.
    pub(super) begins_at: u64,
    /// The place of its first byte in the file.
    pub(super) first: u64,
    /// The time at which its progress was last published.
    pub(super) noted: Option<Instant>,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, seat: Arc<Seat>) -> Self {
        Self { tcp, written: 0, is_finished: false, is_new: true, seat, pace: None, sending: None }
    }

    /// Returns the kind of the client.
    pub(super) fn client(&self) -> Client {
        self.seat.client()
    }

    /// Returns the number of bytes written since the connection began, which is the position of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.written
    }

    /// Returns the progress of the bytes written since the connection began. This costs one system call, or two if some are
    /// unacknowledged.
    pub(super) fn reach(&self) -> Reach {
        // A connected socket causes no error. If it did, nothing would count as arrived.
        let SendQueue { unacknowledged, unsent } = SendQueue::of(&self.tcp).unwrap_or(SendQueue::ENDLESS);
        let before = |queue| position(self.written, self.is_finished, queue);
        Reach { sent: before(unsent), acknowledged: before(unacknowledged) }
    }

    /// Appends the client's bytes to `buffer` until it holds `limit` bytes. Returns 0 if the client has sent its FIN.
    pub(super) async fn read_more(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        let room = limit.saturating_sub(buffer.len());
        if buffer.capacity() == buffer.len() {
            buffer.reserve_exact(room.min(1024));
        }
        let room = room.min(buffer.capacity() - buffer.len());
        // The request has usually arrived before the connection is accepted. Trying at once saves tokio's readiness check.
        if std::mem::take(&mut self.is_new) {
            let length = buffer.len();
            buffer.resize(length + room, 0);
            let read = rustix::net::recv(&self.tcp, &mut buffer[length..], RecvFlags::empty());
            buffer.truncate(length + read.map_or(0, |(count, _)| count));
            match read {
                Err(Errno::AGAIN | Errno::INTR) => {}
                read => return Ok(read?.0),
            }
        }
        self.tcp.read_buf(&mut buffer.limit(room)).await
    }

    /// Reads and discards the client's bytes. Returns 0 if the client has sent its FIN.
    pub(super) async fn discard(&mut self, scratch: &mut [u8]) -> Result<usize, Broken> {
        Ok(self.tcp.read(scratch).await?)
    }

    /// Waits until the connection breaks, and returns the reason. A FIN does not break it.
    pub(super) async fn broken(&self) -> Broken {
        let error = match self.tcp.ready(Interest::ERROR).await {
            Ok(_) => self.tcp.take_error().and_then(|error| error.ok_or(io::ErrorKind::ConnectionReset.into())),
            Err(error) => Err(error),
        };
        Broken::Closed(error.unwrap_or_else(|error| error))
    }

    /// Sends all of the bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.pace = None;
        self.send(bytes, SendFlags::empty()).await
    }

    /// Sends two pieces, in one segment if they fit.
    pub(super) async fn write_both(&mut self, head: &[u8], body: &[u8]) -> Result<(), Broken> {
        self.pace = None;
        let pieces = [IoSlice::new(head), IoSlice::new(body)];
        let sent = self.progress(true, |tcp| Ok(retry_on_intr(|| rustix::io::writev(tcp, &pieces))?)).await?;
        let none = SendFlags::empty();
        self.send(head.get(sent..).unwrap_or_default(), none).await?;
        self.send(body.get(sent.saturating_sub(head.len())..).unwrap_or_default(), none).await
    }

    async fn send(&mut self, mut bytes: &[u8], flags: SendFlags) -> Result<(), Broken> {
        let flags = flags.union(SendFlags::NOSIGNAL);
        while !bytes.is_empty() {
            let sent = self.progress(true, |tcp| Ok(retry_on_intr(|| rustix::net::send(tcp, bytes, flags))?)).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends a head and the body that it announces. Adds the bytes of the body that were sent to the metrics, even if the connection
    /// breaks. `sending` publishes its progress.
    pub(super) async fn write_body(
        &mut self,
        head: &[u8],
        pieces: &[Piece],
        sending: Option<Sending>,
        metrics: &Metrics,
    ) -> Result<(), Broken> {
        self.sending = sending;
        let is_corked = metrics.open_connections() <= CORKED_CONNECTION_LIMIT;
        if is_corked {
            self.cork(true);
        }
        self.pace = None;
        let mut sent = 0;
        let result = self.send_pieces(head, pieces, &mut sent, metrics).await;
        self.sending = None;
        if is_corked {
            self.cork(false);
        }
        metrics.sent(sent);
        result
    }

    /// Sends a head and the pieces, and adds the bytes of the pieces to `sent`. The end of the last piece follows a last look at all files,
    /// so that no answer is completed after one of them has changed.
    async fn send_pieces(
        &mut self,
        head: &[u8],
        pieces: &[Piece],
        sent: &mut u64,
        metrics: &Metrics,
    ) -> Result<(), Broken> {
        // More follows, so that both leave in one segment.
        self.send(head, SendFlags::MORE).await?;
        let Some((last, before)) = pieces.split_last() else { return Ok(()) };
        for piece in before {
            match piece {
                Piece::File { artifact, range } => self.send_file(artifact, range.clone(), 0, sent, metrics).await?,
                Piece::Bytes(bytes) => self.send_counted(bytes, SendFlags::MORE, sent).await?,
                Piece::Late(late) => self.send_counted(&late.bytes()?, SendFlags::MORE, sent).await?,
            }
        }
        let end: Cow<'_, [u8]> = match last {
            Piece::File { artifact, range } => {
                self.send_file(artifact, range.clone(), TAIL, sent, metrics).await?;
                tail(artifact, range, self.client(), metrics).await?.into()
            }
            Piece::Bytes(bytes) => (&**bytes).into(),
            Piece::Late(late) => late.bytes()?.to_vec().into(),
        };
        if !pieces.iter().filter_map(Piece::artifact).all(|artifact| artifact.is_unchanged()) {
            return Err(Broken::Changed);
        }
        self.send_counted(&end, SendFlags::empty(), sent).await
    }

    async fn send_counted(&mut self, bytes: &[u8], flags: SendFlags, sent: &mut u64) -> Result<(), Broken> {
        self.send(bytes, flags).await?;
        *sent += bytes.len() as u64;
        Ok(())
    }

    /// Corks or uncorks the socket (tcp(7), TCP_CORK): a corked one sends only full segments. This fails only on a broken
    /// connection, which the next call reports.
    fn cork(&self, on: bool) {
        let _ = rustix::net::sockopt::set_tcp_cork(&self.tcp, on);
    }

    /// Sends a range of a file, except for `rest` bytes at its end, and adds the bytes to `sent`.
    async fn send_file(
        &mut self,
        artifact: &Arc<OpenArtifact>,
        range: Range<u64>,
        rest: u64,
        sent: &mut u64,
        metrics: &Metrics,
    ) -> Result<(), Broken> {
        let mut calls = 0;
        let mut is_first = true;
        let Range { start: mut offset, end } = range;
        let mut warm = offset;
        let mut checked = offset;
        let bulk = end.saturating_sub(rest).max(offset);
        while offset < bulk {
            if offset >= warm {
                warm = warm_up(artifact, offset, end, self.client(), metrics).await;
            }
            let count = usize::try_from(warm.min(bulk) - offset).unwrap_or(usize::MAX);
            let mut position = offset;
            let send = |tcp: &TcpStream| {
                Ok(retry_on_intr(|| rustix::fs::sendfile(tcp, &artifact.file, Some(&mut position), count))?)
            };
            let now = self.progress(std::mem::take(&mut is_first), send).await?;
            offset += now as u64;
            *sent += now as u64;
            if now == 0 || offset - checked >= CHECKED_EVERY {
                checked = offset;
                if now == 0 || !artifact.is_unchanged() {
                    return Err(Broken::Changed);
                }
            }
            calls = if now == count { calls + 1 } else { 0 };
            if calls == CALLS_PER_TURN {
                calls = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Runs `operation` as soon as the socket takes bytes, and counts them even if this future is dropped right afterwards.
    /// Gives up a client that is too slow ([`super::pace`]).
    /// tokio does not know yet that a new connection is writable, so trying `at_once` saves a wake-up.
    async fn progress(
        &mut self,
        at_once: bool,
        mut operation: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Result<usize, Broken> {
        if at_once {
            match operation(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Ok(done.inspect(|&count| self.written += count as u64)?),
            }
        }
        let now = Instant::now();
        self.publish(now);
        let mut look = now + LOOK;
        loop {
            let Self { tcp, written, .. } = self;
            let counted = || operation(tcp).inspect(|&count| *written += count as u64);
            if let Ok(sent) = timeout_at(look, tcp.async_io(Interest::WRITABLE, counted)).await {
                self.seat.set_reading();
                return Ok(sent?);
            }
            // Only one that takes nothing for a whole interval counts as slow, so a fast one costs nothing here.
            self.seat.set_stalled();
            // The kernel does not report acknowledgements, so they are looked up, but only while nothing can be sent.
            let (acknowledged, now) = (self.reach().acknowledged, Instant::now());
            let pace = self.pace.get_or_insert_with(|| Pace::new(acknowledged, now));
            pace.note(acknowledged, now);
            if let Some(sending) = &mut self.sending {
                sending.note(acknowledged, now);
            }
            if let Some(too_slow) = pace.too_slow(now) {
                return Err(Broken::Stalled(too_slow));
            }
            look = pace.deadline().min(now + LOOK);
        }
    }

    /// Publishes the progress of the file that is sent, once in a while: a look costs a system call.
    fn publish(&mut self, now: Instant) {
        let Some(Sending { noted, .. }) = &mut self.sending else { return };
        if now.duration_since(*noted.get_or_insert(now)) >= PUBLISH_EVERY {
            let acknowledged = self.reach().acknowledged;
            if let Some(sending) = &mut self.sending {
                sending.note(acknowledged, now);
            }
        }
    }

    /// Sends our FIN: no more answers follow.
    pub(super) async fn finish(&mut self) -> Result<(), Broken> {
        self.tcp.shutdown().await?;
        self.is_finished = true;
        Ok(())
    }

    /// Makes dropping the connection reset it, so that the bytes in the send queue are dropped too.
    pub(super) fn reset_on_drop(&self) {
        // This fails only on a connection that is already reset.
        let _ = self.tcp.set_zero_linger();
    }
}

impl Sending {
    /// Publishes that the client has acknowledged the stream up to this position.
    fn note(&mut self, acknowledged: u64, now: Instant) {
        self.noted = Some(now);
        let done = self.first + acknowledged.saturating_sub(self.begins_at);
        self.gauge.note(done, now.into_std());
    }
}

/// Returns the position before the last `queue` bytes that were written, where a FIN counts as one.
const fn position(written: u64, is_finished: bool, queue: u64) -> u64 {
    let position = (written + is_finished as u64).saturating_sub(queue);
    if position > written { written } else { position }
}

/// Reads the last bytes of a range of a file.
async fn tail(
    artifact: &Arc<OpenArtifact>,
    range: &Range<u64>,
    client: Client,
    metrics: &Metrics,
) -> Result<Vec<u8>, Broken> {
    let offset = range.end.saturating_sub(TAIL).max(range.start);
    warm_up(artifact, offset, range.end, client, metrics).await;
    let mut tail = vec![0; usize::try_from(range.end - offset).unwrap_or_default()];
    match artifact.file.read_exact_at(&mut tail, offset) {
        Ok(()) => Ok(tail),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::Changed),
        Err(error) => Err(error.into()),
    }
}

/// Returns the position up to which the file, from `offset` on, is in the page cache now. A thread that waits for the disk
/// in sendfile(2) serves nobody else, so another thread does the waiting.
async fn warm_up(artifact: &Arc<OpenArtifact>, offset: u64, end: u64, client: Client, metrics: &Metrics) -> u64 {
    let chunk = offset..end.min(offset.saturating_add(CHUNK));
    if artifact.is_cached(chunk.clone()) {
        return chunk.end;
    }
    metrics.waited_for_disk();
    let turn = TURNS.take(client).await;
    // Somebody else may have waited for the same.
    if artifact.is_cached(chunk.clone()) {
        return chunk.end;
    }
    let artifact = Arc::clone(artifact);
    let read = move || {
        artifact.read_ahead(offset);
        drop(turn);
    };
    // This fails only when the runtime ends, and this task ends with it.
    let _ = tokio::task::spawn_blocking(read).await;
    chunk.end.min(offset.saturating_add(READ_AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_does_not_count_the_fin() {
        for (written, is_finished, queue, expected) in [
            (0, false, 0, 0),
            (100, false, 0, 100),
            (100, false, 1, 99),
            (100, false, 100, 0),
            (100, true, 0, 100),
            (100, true, 1, 100),
            (100, true, 2, 99),
            (100, true, 101, 0),
            (0, true, 1, 0),
            (100, false, u64::MAX, 0),
        ] {
            assert_eq!(position(written, is_finished, queue), expected, "{written} {is_finished} {queue}");
        }
    }
}
