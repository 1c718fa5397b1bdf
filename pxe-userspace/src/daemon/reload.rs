//! A reload that is under way after SIGHUP.

use std::{future, time::Duration};

use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout_at},
};

/// The longest time that a reload is reported as such. pxed serves the spec from before meanwhile, even if a disk never answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reload, if one is under way.
#[derive(Default)]
pub(super) struct Reload(Option<(Receiver<()>, Instant)>);

impl Reload {
    /// Begins a reload, also while one is under way. It ends when every clone of what is returned has been dropped.
    pub(super) fn begin(&mut self) -> Sender<()> {
        let (under_way, ended) = channel(1);
        self.0 = Some((ended, Instant::now() + PATIENCE));
        under_way
    }

    /// Waits until the reload has ended; for ever if there is none. It may be dropped and called again.
    pub(super) async fn ended(&mut self) {
        let Some((ended, deadline)) = &mut self.0 else { return future::pending().await };
        // Nothing is ever sent.
        if timeout_at(*deadline, ended.recv()).await.is_err() {
            tracing::warn!(
                "the reload has not ended after {} s: the last spec is served meanwhile",
                PATIENCE.as_secs()
            );
        }
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reload_ends_with_its_last_part() {
        let mut reload = Reload::default();
        assert!(tokio::time::timeout(PATIENCE * 9, reload.ended()).await.is_err(), "none is under way");
        let one = reload.begin();
        let another = one.clone();
        drop(one);
        assert!(tokio::time::timeout(PATIENCE / 2, reload.ended()).await.is_err(), "one part is under way");
        drop(another);
        reload.ended().await;
        assert!(tokio::time::timeout(PATIENCE * 9, reload.ended()).await.is_err(), "it ends once");
    }

    #[tokio::test(start_paused = true)]
    async fn second_reload_takes_the_place_of_the_first() {
        let mut reload = Reload::default();
        let first = reload.begin();
        let second = reload.begin();
        drop(first);
        assert!(tokio::time::timeout(PATIENCE / 2, reload.ended()).await.is_err());
        drop(second);
        reload.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn reload_that_hangs_is_no_longer_waited_for() {
        let mut reload = Reload::default();
        let _hangs = reload.begin();
        let begun = Instant::now();
        reload.ended().await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
