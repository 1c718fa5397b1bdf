//! The connections of one server: admits them, distributes them over its workers, and waits for their end.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    metrics::Metrics,
    places::{Client, Places, Seat, Seated},
};

/// The connections being served, counted by worker.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    none_left: Notify,
    places: Places,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Open {
    total: usize,
    by_worker: Vec<usize>,
}

/// The right of one connection to be served. Dropping it returns the right.
#[derive(Debug)]
pub(super) struct Ticket {
    connections: Arc<Connections>,
    seated: Seated,
    pub(super) peer: IpAddr,
    pub(super) worker: usize,
}

impl Connections {
    pub(super) fn new(workers: usize, places: Places, metrics: Arc<Metrics>) -> Self {
        let open = Open { total: 0, by_worker: vec![0; workers] };
        Self { open: Mutex::new(open), none_left: Notify::new(), places, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection as soon as there is a place for it, and chooses its worker. Returns `None` if it is refused.
    pub(super) async fn admit(self: &Arc<Self>, peer: IpAddr, client: Client, accepted_by: usize) -> Option<Ticket> {
        let seated = self.places.seat(peer, client).await?;
        let mut open = self.lock();
        open.total += 1;
        let worker = choose_worker(&open.by_worker, accepted_by);
        if let Some(count) = open.by_worker.get_mut(worker) {
            *count += 1;
        }
        self.metrics.opened();
        Some(Ticket { connections: Arc::clone(self), seated, peer, worker })
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

impl Ticket {
    /// Returns the place of the connection.
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seated.seat)
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
        if open.total == 0 {
            self.connections.none_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Arc<Connections> {
        Arc::new(Connections::new(2, Places::default(), Arc::default()))
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

    #[tokio::test]
    async fn connections_count_for_the_worker_that_serves_them() {
        let connections = connections();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let mut tickets = Vec::new();
        for _ in 0..10 {
            tickets.extend(connections.admit(peer, Client::Stranger, 0).await);
        }
        assert_eq!(connections.lock().by_worker, [6, 4]);
        drop(tickets);
        connections.all_ended().await;
        assert_eq!(connections.lock().by_worker, [0, 0]);
    }

    #[tokio::test]
    async fn connection_whose_task_panics_is_given_back() {
        let connections = connections();
        let ticket = connections.admit(IpAddr::from([10, 0, 0, 1]), Client::Machine, 0).await;
        let panicking = tokio::spawn(async move {
            let _ticket = ticket;
            panic!("as a test");
        });
        connections.all_ended().await;
        assert!(panicking.await.is_err());
        assert_eq!((connections.lock().total, connections.places.taken()), (0, 0));
    }
}
