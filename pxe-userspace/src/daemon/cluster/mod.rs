//! The cluster spec in the API of Kubernetes: its objects are watched, and become the inventory on a thread of their own.

mod reader;
mod report;

use std::{path::Path, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::{task::JoinHandle, time};

use self::reader::Reader;
pub(super) use self::report::World;
use crate::{
    admin::ClusterPolicy,
    cluster_spec,
    kubernetes::{self, ApiServer, Cache, ConnectError, Objects, Restored, Settings, Watches},
    model::{api_state::SharedApiState, inventory::Inventory},
};

/// The time that the start waits for the API server. What comes later is put in force then.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// The way to the spec in the API.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// The API server.
    pub settings: Settings,
    /// The options that lead there, as a person types them.
    pub typed: String,
}

/// The objects of the API, kept in step with the server until this is dropped.
pub(super) struct Cluster {
    server: Arc<ApiServer>,
    objects: Arc<Objects>,
    watches: Watches,
    cache: Cache,
    /// Once the objects are followed.
    following: Option<(Reader, JoinHandle<()>)>,
    /// Once it is reported what happens.
    reporting: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Connects, takes the objects that the last run left on disk, and begins to watch. It waits for a moment until the server has
    /// answered.
    ///
    /// # Errors
    ///
    /// If there is no way to a server. One that does not answer is no error.
    pub(super) async fn start(settings: Settings, state: &Path) -> Result<Self, ConnectError> {
        let server = Arc::new(ApiServer::connect(settings).await?);
        let objects = Arc::new(Objects::default());
        let cache = Cache::new(state);
        let restored = cache.restore(&server, &objects);
        if let Restored::Unusable(reason) | Restored::Salvaged(_, reason) = &restored {
            tracing::warn!("{reason}");
        }
        let is_from_disk = matches!(restored, Restored::Objects(_) | Restored::Salvaged(..));
        let watches = Watches::start(&server, &objects, is_from_disk);
        if time::timeout(FIRST_ANSWER, watches.settled()).await.is_err() {
            tracing::warn!("the API server {} has not answered yet", server.url());
        }
        if let (Restored::Objects(count) | Restored::Salvaged(count, _), false) =
            (restored, watches.state().load().synced)
        {
            tracing::warn!(objects = count, "the spec is, in part at least, the one that the last run left on disk");
        }
        Ok(Self { server, objects, watches, cache, following: None, reporting: None })
    }

    /// Puts what is known in force, without telling anybody.
    pub(super) fn put_in_force(&self, spec: &mut cluster_spec::Objects) {
        spec.reload(&reader::spec_of(&self.objects), |_, _| {});
    }

    /// Puts each change in force from now on, and saves the objects on disk. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a thread.
    pub(super) fn follow(
        &mut self,
        spec: cluster_spec::Objects,
        on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
    ) -> std::io::Result<()> {
        let reader = Reader::start(Arc::clone(&self.objects), self.watches.settled(), spec, on_change)?;
        let (cache, server, objects) = (self.cache.clone(), Arc::clone(&self.server), Arc::clone(&self.objects));
        self.following = Some((reader, tokio::spawn(kubernetes::save_changes(cache, server, objects))));
        Ok(())
    }

    /// Returns the objects.
    pub(super) fn objects(&self) -> Arc<Objects> {
        Arc::clone(&self.objects)
    }

    /// Reports to the API from now on. Returns the way for a person's decisions. It must be called within a tokio runtime.
    pub(super) fn report(&mut self, world: World, registry: &mut Registry) -> ClusterPolicy {
        let (policy, task) = report::start(world, Arc::clone(&self.server), registry);
        self.reporting = Some(task);
        policy
    }

    /// Reads all lists again, as SIGHUP asks for.
    pub(super) fn list_again(&self) {
        self.watches.list_again();
    }

    /// Returns the API server.
    pub(super) fn server(&self) -> Arc<ApiServer> {
        Arc::clone(&self.server)
    }

    /// Returns the state of the connection.
    pub(super) fn state(&self) -> SharedApiState {
        self.watches.state()
    }

    /// Registers the metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.watches.register(registry);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((_, saving)) = &self.following {
            saving.abort();
        }
        if let Some(reporting) = &self.reporting {
            reporting.abort();
        }
    }
}
