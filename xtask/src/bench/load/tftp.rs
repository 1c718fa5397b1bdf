//! Many TFTP clients on one thread (RFC 1350, 2347, 2348, 2349, 7440).
//!
//! The load shares the machine with the server under test, so it is cheap: one socket per client, a few system calls per
//! window (UDP_GRO receives it whole if the server or the card sent it as one), and one periodic sweep instead of timers.
//! It checks every block's number, its beginning against [`pattern`](super::tftp_client::pattern), and the total length.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    resource::{Resource, getrlimit, setrlimit},
};

use super::{
    tftp_ack::Acknowledger,
    tftp_client::{Client, Inbox, Progress, TftpLoad},
};

/// The interval of the search for silent clients.
const SWEEP: Duration = Duration::from_millis(100);
/// The most sockets handled per wait.
const EVENTS: usize = 256;

/// The result of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct TftpOutcome {
    /// Bytes of file received, in order, once.
    pub(crate) bytes: u64,
    /// From the first request to the last block or the limit.
    pub(crate) seconds: f64,
    /// Complete transfers.
    pub(crate) finished: u64,
    /// Transfers that were refused, wrong or timed out.
    pub(crate) failed: u64,
    /// Transfers still running when the time was up.
    pub(crate) cut: u64,
    /// Requests and acknowledgements that a client had to repeat.
    pub(crate) timeouts: u64,
    /// The window that the server granted.
    pub(crate) window: u16,
    /// The duration of each complete transfer, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// The reason of the first failure.
    pub(crate) first_failure: Option<String>,
}

impl TftpOutcome {
    /// Returns received megabytes (10⁶ bytes) a second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds.max(1e-9)
    }

    /// Returns the time within which this share (0 to 1) of the complete transfers ended.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get((last as f64 * share).round() as usize).copied()
    }
}

/// Runs the load on the calling thread, in its network namespace.
///
/// # Errors
///
/// Fails if the kernel gives out no sockets. Errors of the server are in the outcome.
pub(crate) fn run(load: &TftpLoad) -> anyhow::Result<TftpOutcome> {
    allow_descriptors(load.clients)?;
    let mut field = Field {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        load,
        clients: Vec::with_capacity(load.clients),
        begun: 0,
        running: 0,
        outcome: TftpOutcome::default(),
    };
    let mut inbox = Inbox::new(Acknowledger::open(load.macs.0, load.macs.1)?);
    let start = Instant::now();
    let end = start + load.limit;
    for _ in 0..load.clients {
        field.clients.push(None);
    }
    for index in 0..load.clients {
        field.begin(index)?;
    }
    let mut events = vec![EpollEvent::empty(); EVENTS];
    let mut next_sweep = start + SWEEP;
    while field.running > 0 {
        let ready = match field.epoll.wait(&mut events, EpollTimeout::from(SWEEP.as_millis() as u16)) {
            Err(nix::Error::EINTR) => 0,
            ready => ready?,
        };
        let now = Instant::now();
        for event in &events[..ready] {
            field.on_ready(event.data() as usize, now, &mut inbox)?;
        }
        inbox.flush();
        if now >= end {
            break;
        }
        if now >= next_sweep {
            next_sweep = now + SWEEP;
            field.sweep(now, &mut inbox)?;
            inbox.flush();
        }
    }
    let Field { clients, mut outcome, .. } = field;
    outcome.seconds = start.elapsed().as_secs_f64();
    for client in clients.into_iter().flatten() {
        outcome.cut += 1;
        outcome.bytes += client.received_bytes();
        outcome.window = outcome.window.max(client.window());
        client.break_off();
    }
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

/// All clients.
struct Field<'l> {
    epoll: Epoll,
    load: &'l TftpLoad,
    clients: Vec<Option<Client>>,
    begun: u64,
    running: usize,
    outcome: TftpOutcome,
}

impl Field<'_> {
    /// Starts a client's next transfer, if there is one left.
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        if self.begun == self.load.transfers {
            return Ok(());
        }
        self.begun += 1;
        self.running += 1;
        let address = self.load.addresses[index % self.load.addresses.len()];
        let client = Client::begin(self.load, address)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, index as u64);
        self.epoll.add(client.socket(), event).context("cannot watch a client's socket")?;
        self.clients[index] = Some(client);
        Ok(())
    }

    fn on_ready(&mut self, index: usize, now: Instant, inbox: &mut Inbox) -> anyhow::Result<()> {
        let Some(client) = &mut self.clients[index] else { return Ok(()) };
        let progress = client.on_ready(now, inbox);
        self.settle(index, now, progress)
    }

    fn sweep(&mut self, now: Instant, inbox: &mut Inbox) -> anyhow::Result<()> {
        for index in 0..self.clients.len() {
            let Some(client) = &mut self.clients[index] else { continue };
            let progress = client.on_time(now, self.load, inbox);
            self.outcome.timeouts += u64::from(matches!(progress, Progress::AskedAgain));
            self.settle(index, now, progress)?;
        }
        Ok(())
    }

    /// Removes a client that has ended, and starts its next transfer.
    fn settle(&mut self, index: usize, now: Instant, progress: Progress) -> anyhow::Result<()> {
        let failure = match progress {
            Progress::Running | Progress::AskedAgain => return Ok(()),
            Progress::Done => None,
            Progress::Failed(reason) => Some(reason),
        };
        // Closing the socket removes it from the epoll.
        let Some(client) = self.clients[index].take() else { return Ok(()) };
        self.running -= 1;
        self.outcome.bytes += client.received_bytes();
        self.outcome.window = self.outcome.window.max(client.window());
        match failure {
            None => {
                self.outcome.finished += 1;
                self.outcome.latencies.push(client.took(now));
            }
            Some(reason) => {
                self.outcome.failed += 1;
                self.outcome.first_failure.get_or_insert(reason);
            }
        }
        self.begin(index)
    }
}

/// Raises the limit of descriptors: each client needs one.
fn allow_descriptors(clients: usize) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = clients as u64 + 256;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .with_context(|| format!("cannot open {wanted} sockets (ulimit -n)"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let latencies = (0..=100).map(Duration::from_millis).collect();
        let outcome = TftpOutcome { latencies, ..TftpOutcome::default() };
        assert_eq!(outcome.quantile(0.5), Some(Duration::from_millis(50)));
        assert_eq!(outcome.quantile(1.0), Some(Duration::from_millis(100)));
        assert_eq!(TftpOutcome::default().quantile(0.5), None);
    }
}
