//! The running parts of pxed: they are looked after until a signal comes, and stopped in order.

use std::{
    net::UdpSocket,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::{
    cluster::Cluster,
    ending::{Ending, Step},
    membership,
    reload::Reload,
    secure_boot::UkiUpkeep,
    service_manager::{self, ServiceManager},
    signals::{Asked, Signals},
    supervision::until_lost,
    upkeep::Upkeep,
};
use crate::{artifacts::Verifier, cluster_spec, kubernetes::Leases, strangers};

/// The interval at which interfaces and servers are checked.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(2);

/// The time that the last spans of traces get when the daemon ends.
const LAST_SPANS: Duration = Duration::from_millis(300);

/// The running parts of pxed.
pub(super) struct Daemon {
    pub(super) upkeep: Arc<Upkeep>,
    pub(super) service_manager: Arc<ServiceManager>,
    pub(super) ukis: UkiUpkeep,
    /// The watchers of the spec and the Matchbox directory.
    pub(super) watchers: Vec<cluster_spec::Watcher>,
    /// The watches of the spec in the API.
    pub(super) cluster: Option<Cluster>,
    /// Reads files that were changed behind pxed's back.
    pub(super) verifier: Verifier,
    pub(super) admin: JoinHandle<std::io::Result<()>>,
    pub(super) journal: JoinHandle<std::io::Result<()>>,
    /// Fetches files that are missing.
    pub(super) images: JoinHandle<()>,
    /// Finds out about the other nodes.
    pub(super) membership: Option<(Option<Leases>, JoinHandle<()>)>,
    /// The exporter of traces.
    pub(super) exporter: Option<JoinHandle<()>>,
    /// Tries the Talos API of machines.
    pub(super) up_check: Option<JoinHandle<()>>,
    /// Dropping it stops the admin listener and the journal.
    pub(super) running: watch::Sender<()>,
    /// In proxy mode: the port that firmware asks directly, so that the kernel does not refuse what the packet socket answers.
    pub(super) boot_server_port: Option<UdpSocket>,
    /// Hears those who ask and are not answered.
    pub(super) listener: Option<strangers::Listener>,
}

impl Daemon {
    /// Checks interfaces and servers every few seconds and reloads on request, until a signal asks to end.
    pub(super) async fn look_after(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        // A check that hangs must not keep signals from being heard.
        let mut checks = tokio::spawn(check_forever(Arc::clone(&self.upkeep), Arc::clone(&self.service_manager)));
        let preparation = tokio::spawn(self.ukis.clone().prepare_forever());
        let mut tick = tokio::time::interval(service_manager::TICK);
        let mut reload = Reload::default();
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Asked::Reload => {
                        self.service_manager.reloading();
                        let under_way = reload.begin();
                        self.watchers.iter().for_each(|watcher| watcher.reload_now(Box::new(under_way.clone())));
                        self.cluster.iter().for_each(Cluster::list_again);
                        self.ukis.reload(under_way);
                    }
                    Asked::End => break,
                },
                () = reload.ended() => self.service_manager.ready(),
                _ = tick.tick(), if self.service_manager.is_there() => self.service_manager.tick(Instant::now()),
                ended = &mut checks => return ended.flatten().context("looking after what serves"),
                lost = until_lost("the admin listener", &mut self.admin) => return Err(lost),
                lost = until_lost("the journal", &mut self.journal) => return Err(lost),
            }
        }
        checks.abort();
        preparation.abort();
        Ok(())
    }

    /// Stops: accepts no new boots, lets running ones finish unless a second signal arrives, and completes the journal. What hangs is
    /// left behind.
    pub(super) async fn stop(self, signals: &mut Signals, ending: &Ending) -> anyhow::Result<()> {
        let Self {
            upkeep,
            service_manager,
            ukis: _,
            watchers,
            cluster,
            verifier,
            admin,
            journal,
            images,
            membership,
            exporter,
            up_check,
            running,
            boot_server_port,
            listener,
        } = self;
        tracing::info!("stopping");
        service_manager.stopping();
        // The received part of a file stays, and the next start goes on from there.
        images.abort();
        up_check.iter().for_each(JoinHandle::abort);
        // The others take over while this node closes.
        let farewell = membership.map(|(leases, task)| {
            task.abort();
            tokio::spawn(async move {
                // A renewal that is under way must not come after the deletion.
                let _ = task.await;
                membership::leave(leases?).await;
                Some(())
            })
        });
        let close = tokio::task::spawn_blocking(move || {
            drop((watchers, cluster, verifier, listener));
            let transfers = upkeep.stop();
            drop(boot_server_port);
            transfers
        });
        let close = async {
            let closed = close.await;
            if let Some(farewell) = farewell {
                let _ = farewell.await;
            }
            closed
        };
        let transfers = match ending.wait(Step::Closing, close).await {
            Some(closed) => closed.context("closing the interfaces and servers")?,
            None => Vec::new(),
        };
        let finish = async {
            for server in transfers {
                server.await.context("a server of files")?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            finished = ending.wait(Step::Transfers, finish) => finished.unwrap_or(Ok(()))?,
            () = signals.end() => tracing::info!("second signal: breaking off running transfers"),
        }
        drop(running);
        let complete = async {
            admin.await.context("the admin listener")??;
            journal.await.context("the journal")?.context("the journal")?;
            if let Some(exporter) = exporter {
                // The last spans go out if the collector takes them at once.
                let _ = tokio::time::timeout(LAST_SPANS, exporter).await;
            }
            anyhow::Ok(())
        };
        let saved = ending.wait(Step::Saving, complete).await;
        saved.context("the state was not saved, because its disk does not answer; see --state")?
    }
}

/// Checks interfaces and servers every few seconds, until a check panics.
async fn check_forever(upkeep: Arc<Upkeep>, service_manager: Arc<ServiceManager>) -> Result<(), JoinError> {
    let mut look = tokio::time::interval(LOOK_AFTER_EVERY);
    loop {
        look.tick().await;
        let upkeep = Arc::clone(&upkeep);
        if tokio::task::spawn_blocking(move || upkeep.look_after()).await? {
            service_manager.looked();
        }
    }
}
