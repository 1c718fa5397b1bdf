//! The task that reports to the API.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use tokio::{
    sync::mpsc,
    task::{JoinSet, block_in_place},
    time::MissedTickBehavior,
};

use super::{
    decisions::Decide,
    reporter::{Reporter, World},
    write::{Failed, Now, Task, Write},
};
use crate::{
    cluster_status::schedule::Failure,
    kubernetes::ApiServer,
    metrics::{Counters, Families, Label as _, label},
    mistakes,
};

/// The interval between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

label! {
    /// The end of a write.
    enum Outcome: "outcome" {
        Written = "written",
        Gone = "gone",
        Conflict = "conflict",
        Refused = "refused",
        Forbidden = "forbidden",
        Busy = "busy",
        Trouble = "trouble",
    }
}

/// The metrics of the task.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon::cluster) struct StatusMetrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    writes: Counters<Outcome>,
    wanted: AtomicU64,
}

impl Collector for StatusMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { writes, wanted } = &*self.0;
        let mut families = Families::new(encoder);
        let help = "Conditions, Events and annotations sent to the API server";
        let mut family = families.counters("kubernetes_writes", help)?;
        for &outcome in Outcome::ALL {
            family.member(&[(Outcome::NAME, outcome.value())], writes.get(outcome))?;
        }
        let help = "Conditions, Events and annotations that wait to be sent";
        families.gauge("kubernetes_writes_waiting", help, wanted.load(Ordering::Relaxed))
    }
}

/// Reports to the API until the task is dropped. After a panic, the reporting starts again.
pub(in crate::daemon::cluster) async fn report(
    world: World,
    server: Arc<ApiServer>,
    mut decisions: mpsc::Receiver<Decide>,
    metrics: StatusMetrics,
) {
    loop {
        let report = report_once(world.clone(), &server, &mut decisions, &metrics);
        mistakes::turn("reporting to the API server", report).await;
    }
}

async fn report_once(
    world: World,
    server: &Arc<ApiServer>,
    decisions: &mut mpsc::Receiver<Decide>,
    metrics: &StatusMetrics,
) {
    let mut reporter = Reporter::new(world, now());
    let mut writes: JoinSet<(Task, Write, Result<Option<String>, Failed>)> = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // A first look at a large fleet takes a while.
            _ = look.tick() => block_in_place(|| reporter.look(now())),
            Some(decide) = decisions.recv() => block_in_place(|| reporter.decide(decide, now())),
            Some(Ok((task, write, result))) = writes.join_next() => {
                metrics.0.writes.increment(outcome(&result));
                let text = result.as_ref().err().map(|failed| failed.text.clone());
                if reporter.finished(&task, &write, result, now()) {
                    let (noun, object) = (task.noun(), &task.object);
                    let text = text.unwrap_or_default();
                    tracing::warn!("{object}: {noun} cannot be written: {text}. pxed serves on, and tries again by itself");
                }
            }
        }
        while let Some((task, write)) = reporter.next(now()) {
            let server = Arc::clone(server);
            writes.spawn(async move {
                let result = write.send(&server).await;
                (task, write, result)
            });
        }
        metrics.0.wanted.store(reporter.wanted() as u64, Ordering::Relaxed);
    }
}

fn outcome(result: &Result<Option<String>, Failed>) -> Outcome {
    match result.as_ref().map_err(|failed| failed.failure) {
        Ok(_) => Outcome::Written,
        Err(Failure::Gone) => Outcome::Gone,
        Err(Failure::Conflict) => Outcome::Conflict,
        Err(Failure::Refused) => Outcome::Refused,
        Err(Failure::Forbidden) => Outcome::Forbidden,
        Err(Failure::Busy(_)) => Outcome::Busy,
        Err(Failure::Trouble) => Outcome::Trouble,
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now() }
}
