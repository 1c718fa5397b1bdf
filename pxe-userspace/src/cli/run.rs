//! `pxed run`: everything put together.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub use super::options::Args;
use super::{
    listeners::{Listeners, Scope},
    options::{self, LogFormat, Options},
};
use crate::{
    admin::{self, AdminContext},
    artifacts::{self, Severity, Store},
    dataplane::{
        self, Datapath, Dataplane,
        counters::{DataplaneMetrics, ReplyCounters},
    },
    dhcp::Mode,
    http,
    inventory::{Inventory, SharedInventory},
    journal::{self, EventSink, Journal, SharedPolicies},
    spec::{
        self,
        matchbox::{self, Catalog, SharedCatalog},
    },
    tftp,
};

/// Events that the journal may lag behind: a fleet of 10,000 makes about 30 each.
const EVENT_CAPACITY: usize = 1 << 18;

/// Answers DHCP, TFTP and HTTP until it is told to stop by SIGINT or SIGTERM; SIGHUP reads the spec again.
///
/// # Errors
///
/// What keeps it from serving: every problem of the spec, the artifacts or the interfaces at once.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = args.resolve()?;
    start_logging(options.log_format);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve(options))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut loader = spec::Loader::new();
    let inventory = SharedInventory::default();
    if !options.cluster.is_empty() {
        let loaded = loader.load(&options.cluster)?;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        inventory.store(Arc::new(loaded.inventory));
    }
    let catalog = SharedCatalog::default();
    if let Some(directory) = &options.matchbox {
        let loaded = matchbox::load(directory)?;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        catalog.store(Arc::new(loaded.catalog));
    }
    let store = Arc::new(Store::new(options.artifacts.clone()));
    check(&inventory.load(), &catalog.load(), &store)?;

    let policies = SharedPolicies::default();
    let (events, receiver) = EventSink::channel(EVENT_CAPACITY);
    let journal = Arc::new(Journal::new(Arc::clone(&inventory), Arc::clone(&policies), &options.state)?);
    let replies = Arc::new(ReplyCounters::default());
    let (tftp_metrics, http_metrics) = (Arc::new(tftp::Metrics::default()), Arc::new(http::Metrics::default()));
    let mut listeners = Listeners::new(
        http::Context {
            inventory: Arc::clone(&inventory),
            catalog: Arc::clone(&catalog),
            store: Arc::clone(&store),
            events: events.clone(),
            policies: Arc::clone(&policies),
            metrics: Arc::clone(&http_metrics),
            check_source: options.mode == options::Mode::Server,
            http_port: options.http_port,
        },
        tftp::Context::new(store, Arc::clone(&inventory), events.clone(), Arc::clone(&tftp_metrics)),
        if options.cluster.is_empty() { Scope::HttpEverywhere } else { Scope::Sites },
    );
    let mut dataplane = Dataplane::new(dataplane::Context {
        datapath: datapath(&options),
        drop_unknown: options.unknown == options::Unknown::Drop,
        mode: mode(options.mode),
        http_port: options.http_port,
        lease_seconds: options.lease_seconds,
        inventory: Arc::clone(&inventory),
        policies,
        events,
        counters: Arc::clone(&replies),
    });

    // Everything is listened to before the first DISCOVER can be answered.
    let admin = TcpListener::bind(options.admin)
        .await
        .with_context(|| format!("admin listener on {}: choose another address or port with --admin", options.admin))?;
    let first = inventory.load_full();
    listeners.apply(&first).map_err(all)?;
    dataplane.apply(&Inventory::default(), &first).map_err(all)?;

    let dataplane = Arc::new(Mutex::new(dataplane));
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("pxed");
    tftp_metrics.register(ours);
    http_metrics.register(ours);
    journal.register(&mut registry);
    registry.register_collector(Box::new(DataplaneMetrics::new(Arc::clone(&dataplane), replies)));
    let ready = Arc::new(AtomicBool::new(false));
    let admin_context =
        AdminContext { journal: Arc::clone(&journal), registry: Arc::new(registry), ready: Arc::clone(&ready) };
    let (stop, stopped) = watch::channel(());
    let admin = tokio::spawn(admin::serve(admin, admin_context, until(stopped.clone())));
    let journal = tokio::spawn(journal::run(journal, receiver, until(stopped)));

    let listeners = Arc::new(Mutex::new(listeners));
    let mut watchers = Vec::new();
    if !options.cluster.is_empty() {
        let (dataplane, listeners, runtime) = (Arc::clone(&dataplane), Arc::clone(&listeners), Handle::current());
        watchers.push(spec::watch(loader, options.cluster.clone(), inventory, move |before, after| {
            let _inside = runtime.enter();
            let errors = lock(&listeners).apply(after).err().unwrap_or_default().into_iter();
            let more = lock(&dataplane).apply(before, after).err().unwrap_or_default();
            for error in errors.chain(more.into_iter().map(Into::into)) {
                tracing::error!("after the reload: {error:#}");
            }
        })?);
    }
    if let Some(directory) = &options.matchbox {
        watchers.push(matchbox::watch(directory.clone(), Arc::clone(&catalog))?);
    }

    ready.store(true, Ordering::Relaxed);
    tracing::info!(
        machines = first.machines().len(),
        matchbox_groups = catalog.load().groups().len(),
        startup_ms = begun.elapsed().as_millis(),
        admin = %options.admin,
        "ready"
    );
    wait_for_the_end(|| watchers.iter().for_each(spec::Watcher::reload_now)).await?;

    // No new boots; those that run may end; what they did is written down.
    drop(watchers);
    lock(&dataplane).close();
    let stopping = lock(&listeners).stop();
    for http in stopping {
        http.await.context("the HTTP server")?;
    }
    drop(stop);
    admin.await.context("the admin listener")??;
    journal.await.context("the journal")?.context("the journal")
}

/// Refuses to start without what the machines will ask for. What a profile of a Matchbox asks for is warned of alone, since
/// old profiles lie about in such directories.
fn check(inventory: &Inventory, catalog: &Catalog, store: &Store) -> anyhow::Result<()> {
    let interfaces = Dataplane::check(inventory).err().unwrap_or_default();
    let mut problems: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
    let needed: BTreeSet<_> = catalog
        .profiles()
        .iter()
        .flat_map(|profile| Some((&profile.id, profile.boot.as_ref()?)))
        .flat_map(|(id, boot)| boot.assets().map(move |path| (path, id)))
        .collect();
    match store.check() {
        // All that profiles boot may lie on other servers.
        Err(error) if inventory.machines().is_empty() && needed.is_empty() => tracing::debug!("{error}"),
        Err(error) => problems.push(error.to_string()),
        Ok(()) => {
            for missing in artifacts::missing(inventory, store) {
                match missing.severity {
                    Severity::Error => problems.push(missing.to_string()),
                    Severity::Warning => tracing::warn!("{missing}"),
                }
            }
            for (path, profile) in needed {
                if store.open(path.as_bytes()).is_err() {
                    let file = store.root().join(path);
                    tracing::warn!(
                        "{} is missing or cannot be read: Matchbox profile {profile:?} boots it",
                        file.display()
                    );
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(anyhow!("cannot start:\n  {}", problems.join("\n  "))) }
}

async fn wait_for_the_end(reload: impl Fn()) -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("listening to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => reload(),
        }
    }
    tracing::info!("stopping");
    Ok(())
}

async fn until(mut stopped: watch::Receiver<()>) {
    // The sender says nothing; it goes.
    while stopped.changed().await.is_ok() {}
}

fn all<E: Into<anyhow::Error>>(errors: Vec<E>) -> anyhow::Error {
    let lines: Vec<_> = errors.into_iter().map(|error| format!("{:#}", error.into())).collect();
    anyhow!("cannot start:\n  {}", lines.join("\n  "))
}

/// Another DHCP server on this host must see what XDP would take away from it, and in proxy mode the addresses are its
/// to give: a packet socket only listens in.
fn datapath(options: &Options) -> Datapath {
    match (options.datapath, options.mode) {
        (options::Datapath::Auto, options::Mode::Server) => Datapath::Auto,
        (options::Datapath::Auto, options::Mode::Proxy) | (options::Datapath::Socket, _) => Datapath::Socket,
        (options::Datapath::Xdp, _) => Datapath::Xdp,
        (options::Datapath::Generic, _) => Datapath::Generic,
    }
}

fn mode(mode: options::Mode) -> Mode {
    match mode {
        options::Mode::Server => Mode::Server,
        options::Mode::Proxy => Mode::Proxy,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Info and above, unless `RUST_LOG` says otherwise; to standard error.
fn start_logging(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// A connection of every machine of a large fleet needs more descriptors than the usual soft limit.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What the limit is then is enough for a small fleet.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
