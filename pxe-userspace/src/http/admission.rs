//! Admission control: limits the connections, in total and for each source, and distributes them over the workers.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::metrics::Metrics;

/// The most connections served at once.
const CONNECTION_LIMIT: usize = 32_768;

/// The most connections served at once for one address. A machine needs two or three, but a whole site may share one
/// translated address.
const CONNECTION_LIMIT_PER_SOURCE: usize = 2_048;

/// The connections being served, counted by address and by worker.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    none_left: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
}

/// The right of one connection to be served. Dropping it returns the right.
#[derive(Debug)]
pub(super) struct Ticket {
    connections: Arc<Connections>,
    pub(super) peer: IpAddr,
    pub(super) worker: usize,
}

impl Connections {
    pub(super) fn new(workers: usize, metrics: Arc<Metrics>) -> Self {
        let open = Open { total: 0, by_source: HashMap::new(), by_worker: vec![0; workers] };
        Self { open: Mutex::new(open), none_left: Notify::new(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection and chooses its worker, or returns `None` if there are too many connections.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, accepted_by: usize) -> Option<Ticket> {
        let mut open = self.lock();
        if open.total >= CONNECTION_LIMIT {
            return None;
        }
        let of_source = open.by_source.entry(peer).or_default();
        if *of_source >= CONNECTION_LIMIT_PER_SOURCE {
            return None;
        }
        *of_source += 1;
        open.total += 1;
        let worker = choose_worker(&open.by_worker, accepted_by);
        if let Some(count) = open.by_worker.get_mut(worker) {
            *count += 1;
        }
        self.metrics.opened();
        Some(Ticket { connections: Arc::clone(self), peer, worker })
    }

    /// Waits until all connections have ended.
    pub(super) async fn all_ended(&self) {
        loop {
            let notified = self.none_left.notified();
            if self.lock().total == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Returns the worker that serves a connection: the one that accepted it, unless another has fewer connections by more than
/// a third. Handing a connection over costs a wake-up, but a few transfers that fill the link must not all run on one
/// worker.
fn choose_worker(by_worker: &[usize], accepted_by: usize) -> usize {
    let own = by_worker.get(accepted_by).copied().unwrap_or_default();
    let least = by_worker.iter().enumerate().min_by_key(|(_, count)| **count);
    match least {
        Some((number, &count)) if count + own / 3 < own => number,
        _ => accepted_by,
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.total -= 1;
        if let Some(count) = open.by_worker.get_mut(self.worker) {
            *count -= 1;
        }
        self.connections.metrics.closed();
        if let Some(count) = open.by_source.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.peer);
            }
        }
        if open.total == 0 {
            self.connections.none_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Arc<Connections> {
        Arc::new(Connections::new(2, Arc::default()))
    }

    #[test]
    fn connection_stays_with_its_acceptor_unless_another_worker_has_clearly_fewer() {
        for (by_worker, accepted_by, expected) in [
            (&[0, 0][..], 1, 1),
            (&[1, 0], 0, 1),
            (&[1, 1], 0, 0),
            (&[2, 1], 1, 1),
            (&[64, 43], 0, 0),
            (&[64, 42], 0, 1),
            (&[9, 9, 3, 4], 0, 2),
            (&[], 0, 0),
        ] {
            assert_eq!(choose_worker(by_worker, accepted_by), expected, "{by_worker:?} {accepted_by}");
        }
    }

    #[test]
    fn connections_count_for_the_worker_that_serves_them() {
        let connections = connections();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let tickets: Vec<_> = (0..10).filter_map(|_| connections.admit(peer, 0)).collect();
        assert_eq!(connections.lock().by_worker, [6, 4]);
        drop(tickets);
        assert_eq!(connections.lock().by_worker, [0, 0]);
    }

    #[tokio::test]
    async fn source_cannot_use_up_all_connections() {
        let (greedy, other) = (IpAddr::from([10, 0, 0, 66]), IpAddr::from([10, 0, 0, 1]));
        let connections = connections();
        let mut tickets: Vec<_> = std::iter::from_fn(|| connections.admit(greedy, 0)).collect();
        assert_eq!(tickets.len(), CONNECTION_LIMIT_PER_SOURCE);
        assert!(connections.admit(other, 0).is_some());
        tickets.pop();
        tickets.extend(connections.admit(greedy, 0));
        assert_eq!(tickets.len(), CONNECTION_LIMIT_PER_SOURCE);
        drop(tickets);
        connections.all_ended().await;
        assert!(connections.lock().by_source.is_empty());
    }

    #[tokio::test]
    async fn connection_whose_task_panics_is_given_back() {
        let connections = connections();
        let ticket = connections.admit(IpAddr::from([10, 0, 0, 1]), 0);
        let panicking = tokio::spawn(async move {
            let _ticket = ticket;
            panic!("as a test");
        });
        connections.all_ended().await;
        assert!(panicking.await.is_err());
        assert_eq!(connections.lock().total, 0);
    }
}
