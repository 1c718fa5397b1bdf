//! The task that applies events to the journal, publishes what follows from them, and saves it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use super::{
    log::Logger,
    service::{BATCH, Journal},
};
use crate::{mistakes, model::event::BootEvent};

/// The interval at which events are polled while some come. To wake a waiting receiver, the packet path would need a system call for
/// nearly every event.
const TAKE_EVERY: Duration = Duration::from_millis(5);
/// The time without events after which the next one wakes the journal, so that an idle daemon sleeps.
const QUIET_AFTER: Duration = Duration::from_millis(200);
/// The interval at which a quiet journal looks for what persons and other nodes have decided.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The interval at which a changed policy book is published. A copy for each event would be quadratic in a storm.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// The interval at which a changed state is written.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Moves waiting events into the batch, up to its size. Returns whether more may come.
fn take_batch(receiver: &mut mpsc::Receiver<BootEvent>, batch: &mut Vec<BootEvent>) -> bool {
    while batch.len() < BATCH {
        match receiver.try_recv() {
            Ok(event) => batch.push(event),
            Err(mpsc::error::TryRecvError::Empty) => return true,
            Err(mpsc::error::TryRecvError::Disconnected) => return false,
        }
    }
    true
}

/// Waits until it is time to take events. Moves the event that ends a quiet time into the batch.
async fn rest(receiver: &mut mpsc::Receiver<BootEvent>, batch: &mut Vec<BootEvent>, is_quiet: bool) {
    if is_quiet {
        // None means that the time is up, or that no sink is left, which the next taking finds.
        let _ = tokio::time::timeout(LOOK_EVERY, receiver.recv_many(batch, 1)).await;
    } else {
        tokio::time::sleep(TAKE_EVERY).await;
    }
}

/// Does some work, and goes on if it panics. A mistake in pxed then costs the events of one batch: without that, no event of any machine would be
/// told of any more, while all of them boot.
fn outlive(work: impl FnOnce()) {
    // Half done may be one machine's record, or a count.
    let _ = mistakes::outlive("taking the events of machines into the journal", work);
}

fn is_over(task: Option<&tokio::task::JoinHandle<()>>) -> bool {
    task.is_none_or(tokio::task::JoinHandle::is_finished)
}

/// Applies events until every sink is gone or `shutdown` is ready. Then applies the waiting events and saves the state.
///
/// # Errors
///
/// If the log's thread cannot be started.
pub async fn run(
    journal: Arc<Journal>,
    mut receiver: mpsc::Receiver<BootEvent>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let mut logger = Logger::start(journal.counts().log_dropped.clone())?;
    let mut boots = journal.boots();
    let mut batch = Vec::with_capacity(BATCH);
    let mut publish = tokio::time::interval(PUBLISH_EVERY);
    publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut busy_until = Instant::now() + QUIET_AFTER;
    let mut save_after = Instant::now();
    let mut saving: Option<tokio::task::JoinHandle<()>> = None;
    let mut noting: Option<tokio::task::JoinHandle<()>> = None;
    let mut changed = false;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = rest(&mut receiver, &mut batch, Instant::now() > busy_until) => {
                let open = loop {
                    let open = take_batch(&mut receiver, &mut batch);
                    if batch.is_empty() {
                        break open;
                    }
                    busy_until = Instant::now() + QUIET_AFTER;
                    outlive(|| journal.absorb(batch.drain(..), &mut boots, &mut logger));
                    // In a storm, readers and the rest of this loop get their turn here.
                    tokio::task::yield_now().await;
                };
                if !open {
                    break;
                }
                let has_changes = {
                    let fleet = journal.fleet();
                    changed = fleet.is_changed();
                    fleet.has_changes()
                };
                if has_changes && is_over(noting.as_ref()) {
                    let journal = Arc::clone(&journal);
                    noting = Some(tokio::task::spawn_blocking(move || journal.note()));
                }
            }
            _ = publish.tick(), if changed => {
                outlive(|| journal.publish_from(&mut journal.fleet()));
                if is_over(saving.as_ref()) && Instant::now() >= save_after {
                    save_after = Instant::now() + SAVE_EVERY;
                    let journal = Arc::clone(&journal);
                    saving = Some(tokio::task::spawn_blocking(move || journal.save_unless_it_fails()));
                }
                // The state stays changed if the save fails.
                changed = !is_over(saving.as_ref()) || journal.fleet().is_changed();
            }
            () = &mut shutdown => break,
        }
    }
    receiver.close();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        outlive(|| journal.absorb(batch.drain(..), &mut boots, &mut logger));
    }
    outlive(|| journal.publish_from(&mut journal.fleet()));
    let finish = move || {
        journal.save_unless_it_fails();
        journal.finish_history();
        logger.finish();
    };
    if let Err(error) = tokio::task::spawn_blocking(finish).await {
        tracing::error!("the journal could not be saved: {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_costs_one_batch_alone() {
        let mut batch = vec![1, 2, 3];
        outlive(|| batch.drain(..).for_each(|number| assert!(number < 2, "on purpose")));
        assert_eq!(batch, [0; 0]);
        outlive(|| batch.push(4));
        assert_eq!(batch, [4]);
    }
}
