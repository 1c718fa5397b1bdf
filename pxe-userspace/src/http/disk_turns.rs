//! Turns to wait for the disk. Whoever asks for what is not in memory takes a thread and an open file until the disk has answered, also after the
//! connection has ended. So there are few turns, and strangers have their own: a host that asks for files and goes away uses up neither threads
//! nor descriptors, and keeps no machine waiting.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::places::Client;

/// The reads for machines that are under way at once.
const OF_MACHINES: usize = 64;
/// The same for strangers.
const OF_STRANGERS: usize = 16;

/// The turns of the process.
pub(super) static TURNS: DiskTurns = DiskTurns::new();

/// The turns for each kind of client.
#[derive(Debug)]
pub(super) struct DiskTurns {
    machines: Semaphore,
    strangers: Semaphore,
}

/// A turn. Dropping it ends it, so it belongs to the thread that reads.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "it is dropped")] Option<SemaphorePermit<'static>>);

impl DiskTurns {
    const fn new() -> Self {
        Self { machines: Semaphore::const_new(OF_MACHINES), strangers: Semaphore::const_new(OF_STRANGERS) }
    }

    /// Waits for a turn.
    pub(super) async fn take(&'static self, client: Client) -> Turn {
        let turns = match client {
            Client::Machine | Client::Anybody => &self.machines,
            Client::Stranger => &self.strangers,
        };
        // Nobody closes them.
        Turn(turns.acquire().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::yield_now;

    use super::*;

    async fn take_at_once(turns: &'static DiskTurns, client: Client) -> Option<Turn> {
        tokio::select! {
            biased;
            turn = turns.take(client) => Some(turn),
            () = yield_now() => None,
        }
    }

    #[tokio::test]
    async fn strangers_that_leave_nothing_but_reads_behind_keep_no_machine_waiting() {
        static TURNS: DiskTurns = DiskTurns::new();
        let mut reading = Vec::new();
        // Each goes away at once, and its read goes on.
        for _ in 0..1_000 {
            reading.extend(take_at_once(&TURNS, Client::Stranger).await);
        }
        assert_eq!(reading.len(), OF_STRANGERS);
        assert!(take_at_once(&TURNS, Client::Machine).await.is_some());
        let mut waiting = pin!(TURNS.take(Client::Stranger));
        assert!(take_at_once(&TURNS, Client::Stranger).await.is_none());
        drop(reading.pop());
        assert!(tokio::time::timeout(std::time::Duration::from_secs(10), &mut waiting).await.is_ok());
    }
}
