//! `pxed run`: everything put together.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    process::ExitCode,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use prometheus_client::registry::Registry;
use pxe_common::layout::{Settings, UnknownMachines};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub use super::options::Args;
use super::{
    limits,
    listeners::{Listeners, Scope},
    options::{self, LogFormat, Options},
    upkeep::{Upkeep, missing},
};
use crate::{
    admin::{self, AdminContext},
    artifacts::Store,
    dataplane::{
        self, Datapath, Dataplane,
        counters::{DataplaneMetrics, ReplyCounters},
    },
    dhcp::Mode,
    http,
    inventory::{Inventory, SharedInventory},
    journal::{self, EventSink, Journal, SharedPolicies},
    logging, memory,
    spec::{
        self,
        matchbox::{self, Catalog, SharedCatalog},
    },
    tftp,
};

/// Events that the journal may lag behind: a fleet of 10,000 makes about 30 each.
const EVENT_CAPACITY: usize = 1 << 18;

/// How often interfaces and servers are looked after.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(2);

/// What runs when we end has this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// A machine may send at once what its rate allows in this time.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Answers DHCP, TFTP and HTTP until it is told to stop by SIGINT or SIGTERM; SIGHUP reads the spec again.
///
/// # Errors
///
/// What keeps it from serving: every problem of the spec, the artifacts or the interfaces at once.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = args.resolve()?;
    start_logging(options.log_format);
    limits::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(serve(options));
    // A read from a disk that hangs must not keep us from ending.
    runtime.shutdown_timeout(FAREWELL);
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    // From here on a signal ends or reloads us in order; before, it would end us at once.
    let mut signals = Signals::listen()?;
    let mut loader = spec::Loader::new();
    let inventory = SharedInventory::default();
    if !options.cluster.is_empty() {
        let loaded = loader.load(&options.cluster)?;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        inventory.store(loaded.inventory);
    }
    let catalog = SharedCatalog::default();
    if let Some(directory) = &options.matchbox {
        let loaded = matchbox::load(directory)?;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        catalog.store(Arc::new(loaded.catalog));
    }
    let first = inventory.load_full();
    let store = Arc::new(Store::new(options.artifacts.clone()));
    let policies = SharedPolicies::default();

    let mut problems = check(&first, &catalog.load(), &store);
    let journal = Journal::new(Arc::clone(&inventory), Arc::clone(&policies), &options.state);
    let admin = TcpListener::bind(options.admin).await;
    let (journal, admin) = match (journal, admin) {
        (Ok(journal), Ok(admin)) if problems.is_empty() => (Arc::new(journal), admin),
        (journal, admin) => {
            problems.extend(journal.err().map(|error| error.to_string()));
            let listener = options.admin;
            problems.extend(admin.err().map(|error| {
                format!("admin listener on {listener}: {error}: choose another address or port with --admin")
            }));
            return Err(cannot_start(&problems));
        }
    };

    let (events, receiver) = EventSink::channel(EVENT_CAPACITY);
    let replies = Arc::new(ReplyCounters::default());
    let (tftp_metrics, http_metrics) = (Arc::new(tftp::Metrics::default()), Arc::new(http::Metrics::default()));
    let listeners = Listeners::new(
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
        tftp::Context::new(Arc::clone(&store), Arc::clone(&inventory), events.clone(), Arc::clone(&tftp_metrics)),
        if options.cluster.is_empty() { Scope::HttpEverywhere } else { Scope::Sites },
    );
    let dataplane = Arc::new(Mutex::new(Dataplane::new(dataplane::Context {
        datapath: datapath(&options),
        settings: settings(&options),
        mode: mode(options.mode),
        http_port: options.http_port,
        lease_seconds: options.lease_seconds,
        inventory: Arc::clone(&inventory),
        policies,
        events: events.clone(),
        counters: Arc::clone(&replies),
        repeats: Arc::default(),
    })));

    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("pxed");
    tftp_metrics.register(ours);
    http_metrics.register(ours);
    journal.register(&events, &mut registry);
    registry.register_collector(Box::new(DataplaneMetrics::new(Arc::clone(&dataplane), replies)));
    let ready = Arc::new(AtomicBool::new(false));
    let upkeep = Arc::new(Upkeep::new(Arc::clone(&inventory), listeners, dataplane, Arc::clone(&ready)));
    let problems = upkeep.reconcile();
    if !problems.is_empty() {
        return Err(cannot_start(&problems));
    }
    limits::raise_neighbours(first.machines().len());

    let admin_context = AdminContext { journal: Arc::clone(&journal), registry: Arc::new(registry), ready };
    let (stop, stopped) = watch::channel(());
    let admin = tokio::spawn(admin::serve(admin, admin_context, until(stopped.clone())));
    let journal = tokio::spawn(journal::run(journal, receiver, until(stopped)));
    let mut watchers = Vec::new();
    if !options.cluster.is_empty() {
        let (upkeep, runtime) = (Arc::clone(&upkeep), Handle::current());
        watchers.push(spec::watch(loader, options.cluster.clone(), inventory, move |_, after| {
            let _inside = runtime.enter();
            upkeep.look_after();
            limits::raise_neighbours(after.machines().len());
            // At start this would be fatal; now the other machines are being served.
            let (errors, warnings) = missing(after, &store);
            errors.iter().for_each(|missing| tracing::error!("{missing}"));
            warnings.iter().for_each(|missing| tracing::warn!("{missing}"));
        })?);
    }
    if let Some(directory) = &options.matchbox {
        watchers.push(matchbox::watch(directory.clone(), Arc::clone(&catalog))?);
    }
    tracing::info!(
        machines = first.machines().len(),
        matchbox_groups = catalog.load().groups().len(),
        startup_ms = begun.elapsed().as_millis(),
        admin = %options.admin,
        "ready"
    );
    drop(first);
    memory::give_back();

    let mut look = tokio::time::interval(LOOK_AFTER_EVERY);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Asked::Reload => watchers.iter().for_each(spec::Watcher::reload_now),
                Asked::End => break,
            },
            _ = look.tick() => {
                let upkeep = Arc::clone(&upkeep);
                tokio::task::spawn_blocking(move || upkeep.look_after()).await.context("looking after what serves")?;
            }
        }
    }

    tracing::info!("stopping");
    // No new boots; those that run may end, unless we are asked again; what they did is written down.
    drop(watchers);
    let ending = async {
        for http in upkeep.stop() {
            http.await.context("the HTTP server")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = ending => ended?,
        () = signals.end() => tracing::info!("asked again: breaking off what still runs"),
    }
    drop(stop);
    admin.await.context("the admin listener")??;
    journal.await.context("the journal")?.context("the journal")
}

/// What must be there before we start: interfaces, and what the machines will ask for. What a profile of a Matchbox asks for
/// is warned of alone, since old profiles lie about in such directories.
fn check(inventory: &Inventory, catalog: &Catalog, store: &Store) -> Vec<String> {
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
            let (errors, warnings) = missing(inventory, store);
            problems.extend(errors.iter().map(ToString::to_string));
            warnings.iter().for_each(|missing| tracing::warn!("{missing}"));
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
    problems
}

fn cannot_start(problems: &[String]) -> anyhow::Error {
    anyhow!("cannot start:\n  {}", problems.join("\n  "))
}

/// What a signal asks for.
enum Asked {
    Reload,
    End,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    async fn end(&mut self) {
        while matches!(self.next().await, Asked::Reload) {}
    }
}

async fn until(mut stopped: watch::Receiver<()>) {
    // The sender says nothing; it goes.
    while stopped.changed().await.is_ok() {}
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

fn settings(options: &Options) -> Settings {
    let unknown = match options.unknown {
        options::Unknown::Pass => UnknownMachines::Pass,
        options::Unknown::Drop => UnknownMachines::Drop,
    };
    match options.machine_rate {
        Some(per_second) => {
            let burst = per_second.saturating_mul(BURST_SECONDS);
            Settings::new(unknown, burst, per_second)
        }
        None => Settings::unlimited(unknown),
    }
}

fn mode(mode: options::Mode) -> Mode {
    match mode {
        options::Mode::Server => Mode::Server,
        options::Mode::Proxy => Mode::Proxy,
    }
}

/// Info and above, unless `RUST_LOG` says otherwise; to standard error.
fn start_logging(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| logging::Stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
