//! One connection: request after request, each answered before the next is read.

use std::{
    net::{IpAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    answer,
    context::Context,
    delivery::Deliveries,
    exchange::Exchange,
    file,
    flights::Event,
    head::{self, HEAD_LIMIT, Head, HeadError},
    metrics::{Refused, Route},
    own,
    places::Seat,
    stream::{Broken, Stream},
    text,
};
use crate::model::machine_path::{MachineFile, MachinePath};

/// The time that a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(60);

/// The time that a connection may be silent before its first request.
const FIRST: Duration = Duration::from_secs(20);

/// The time that a request may take to arrive, from its first byte to its last.
const REQUEST: Duration = Duration::from_secs(10);

/// The time that the connection is read after the last answer. Otherwise the kernel would reset it under an answer that the
/// client has not read yet.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// The server's instruction to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Serve.
    Serving,
    /// End after the current answer.
    Closing,
    /// End at once.
    Over,
}

/// A connection being served. Dropping it announces the answers still in flight as lost.
pub(super) struct Connection {
    stream: Stream,
    peer: IpAddr,
    /// The address and port of ours that it was opened to.
    server: SocketAddrV4,
    context: Arc<Context>,
    seat: Arc<Seat>,
    deliveries: Deliveries,
    router: Router,
    phase: watch::Receiver<Phase>,
    /// Bytes that were read but not parsed yet.
    buffer: Vec<u8>,
    /// Set if the client has sent its FIN.
    is_closed: bool,
}

impl Connection {
    pub(super) fn new(
        tcp: TcpStream,
        (peer, server): (IpAddr, SocketAddrV4),
        seat: Arc<Seat>,
        context: Arc<Context>,
        router: Router,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let (stream, deliveries) = (Stream::new(tcp, Arc::clone(&seat)), Deliveries::new(Arc::clone(&context)));
        Self { stream, peer, server, context, seat, deliveries, router, phase, buffer: Vec::new(), is_closed: false }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let mut phase = self.phase.clone();
        let (seat, metrics) = (Arc::clone(&self.seat), Arc::clone(&self.context.metrics));
        let told_to_leave = seat.told_to_leave();
        let served = tokio::select! {
            served = self.requests() => served,
            _ = phase.wait_for(|&phase| phase == Phase::Over) => Ok(()),
            () = told_to_leave => {
                metrics.refused(Refused::Vacated);
                Ok(())
            }
        };
        if let Err(broken) = served {
            tracing::debug!(peer = %self.peer, %broken, "boot HTTP connection broke off");
            self.deliveries.broken(&self.stream, &broken);
            if matches!(broken, Broken::Stalled(_)) {
                self.context.metrics.refused(Refused::Timeout);
            }
            // An answer that was announced as lost must not arrive later, and what is in the send queue may be of two files.
            if matches!(broken, Broken::Stalled(_) | Broken::Changed) {
                self.stream.reset_on_drop();
            }
        }
    }

    async fn requests(&mut self) -> Result<(), Broken> {
        loop {
            let (head, length) = match self.read_head().await? {
                Ok(Some(read)) => read,
                Ok(None) if self.deliveries.len() == 0 => return Ok(()),
                Ok(None) => return self.finish().await,
                Err(error) => return self.refuse(error).await,
            };
            self.seat.set_busy(true);
            self.buffer.drain(..length);
            self.deliveries.observe(Event::Request, &self.stream)?;
            if self.deliveries.is_full() {
                self.arrival_of_all(false).await?;
            }
            let stay = head.keep_alive && *self.phase.borrow() == Phase::Serving;
            let exchange = Exchange {
                context: &self.context,
                deliveries: &mut self.deliveries,
                peer: self.peer,
                server: self.server,
                head: &head,
                stay,
                began: Instant::now(),
            };
            let (stream, router) = (&mut self.stream, &self.router);
            // On the heap while it lasts, so that a connection which waits for a request is small.
            let answer = Box::pin(async {
                match (MachinePath::split(&head.path), file::path(&head.path)) {
                    (Some((machine, MachineFile::Below(file))), _) => {
                        own::answer(stream, exchange, machine, file).await
                    }
                    (_, Some(path)) => file::answer(stream, exchange, path).await,
                    (_, None) => text::answer(stream, exchange, router).await,
                }
            });
            answer.await?;
            if !stay {
                return self.finish().await;
            }
        }
    }

    /// Returns the next head and its length, or `None` when no further request comes.
    async fn read_head(&mut self) -> Result<Result<Option<(Head, usize)>, HeadError>, Broken> {
        // A client that is still reading its answer is not idle.
        self.seat.set_busy(self.deliveries.len() > 0);
        let silence = if self.stream.position() == 0 { FIRST } else { IDLE };
        let mut deadline = Instant::now() + if self.buffer.is_empty() { silence } else { REQUEST };
        loop {
            if !self.buffer.is_empty() {
                match head::parse(&self.buffer) {
                    Ok(None) => {}
                    Ok(whole) => return Ok(Ok(whole)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            let has_begun = !self.buffer.is_empty();
            let wake = self.deliveries.next_look().map_or(deadline, |look| look.min(deadline));
            let mut phase = self.phase.clone();
            let read = tokio::select! {
                read = timeout_at(wake, self.stream.read_more(&mut self.buffer, HEAD_LIMIT)) => read,
                _ = phase.wait_for(|&phase| phase != Phase::Serving), if !has_begun => return Ok(Ok(None)),
            };
            match read {
                Ok(Ok(0)) => {
                    self.is_closed = true;
                    self.deliveries.observe(Event::Fin, &self.stream)?;
                    return Ok(Ok(None));
                }
                Ok(Ok(_)) if !has_begun => deadline = Instant::now() + REQUEST,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if wake < deadline => {
                    self.deliveries.observe(Event::Timer, &self.stream)?;
                    self.seat.set_busy(self.deliveries.len() > 0);
                    // A client that is still reading its answer is not idle.
                    if !has_begun {
                        deadline = Instant::now() + IDLE;
                    }
                }
                Err(_) if has_begun => {
                    self.context.metrics.refused(Refused::Timeout);
                    return Ok(Err(HeadError { status: 408, reason: "the request did not arrive in time" }));
                }
                Err(_) => return Ok(Ok(None)),
            }
        }
    }

    /// Answers a request that cannot be served, and ends the connection.
    async fn refuse(&mut self, HeadError { status, reason }: HeadError) -> Result<(), Broken> {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        tracing::debug!(peer = %self.peer, %status, reason, "boot HTTP refused a request");
        self.context.metrics.refused(Refused::Head);
        self.context.metrics.answered(Route::Other, status.as_u16());
        self.stream.write(&answer::line(None, status, reason, false)).await?;
        self.finish().await
    }

    /// Ends the connection after the answers have arrived.
    async fn finish(&mut self) -> Result<(), Broken> {
        self.stream.finish().await?;
        self.arrival_of_all(true).await?;
        let drain = async {
            // On the heap, since every connection pays for the size of this future.
            let mut scratch = vec![0; 4096];
            let mut left = LINGER_BYTES;
            while left > 0 && !self.is_closed {
                match self.stream.discard(&mut scratch).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
        };
        let _ = timeout(LINGER, drain).await;
        Ok(())
    }

    /// Waits until the answers in flight have arrived. Meanwhile, the client's bytes are discarded if we are `done_reading`,
    /// or else left unread.
    async fn arrival_of_all(&mut self, done_reading: bool) -> Result<(), Broken> {
        if self.deliveries.len() == 0 {
            return Ok(());
        }
        let mut left = if done_reading { LINGER_BYTES } else { 0 };
        let mut scratch = vec![0; left.min(4096)];
        while let Some(look) = self.deliveries.next_look() {
            let reads = left > 0 && !self.is_closed;
            let heard =
                async { if reads { self.stream.discard(&mut scratch).await } else { Err(self.stream.broken().await) } };
            match timeout_at(look, heard).await {
                Ok(Ok(0)) => {
                    self.is_closed = true;
                    self.deliveries.observe(Event::Fin, &self.stream)?;
                }
                Ok(Ok(count)) => left = left.saturating_sub(count),
                Ok(Err(broken)) => return Err(broken),
                Err(_) => self.deliveries.observe(Event::Timer, &self.stream)?,
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.deliveries.stopped(&self.stream);
    }
}

#[cfg(test)]
mod tests;
