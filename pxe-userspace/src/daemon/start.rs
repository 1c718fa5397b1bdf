//! The start: reads the spec, assembles the parts and connects them.

use std::{
    net::UdpSocket,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, anyhow};
use pxe_common::bootp::BOOT_SERVER_PORT;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    budget::{self, Budget},
    cluster::{self, Cluster, Kubernetes},
    config::Config,
    configs::{Configs, log_missing_configs},
    images::{self, FetchMetrics, Keeper},
    limits,
    listeners::{Listeners, Scope, Servers},
    membership::{self, Membership},
    metrics::{self, Metered},
    parts::Daemon,
    preflight, secrets_line,
    secure_boot::UkiUpkeep,
    service_manager::ServiceManager,
    specs::Specs,
    up_check::{self, UpCheck},
    upkeep::{Audience, Upkeep},
    url_key,
};
use crate::{
    admin::{self, AdminContext, Health},
    artifacts::{FetchCommand, Records, Store, Verifier},
    capture::Tap,
    cluster_spec::{self, matchbox},
    dataplane::{self, Dataplane, counters::ReplyCounters, metrics::PortCounts, sharing::Sharing},
    descriptors,
    dhcp::Mode,
    fetch::Fetcher,
    http,
    journal::{self, Journal},
    memory, mistakes,
    model::{
        event::EventSink, images::SharedImages, inventory::Inventory, nodes::SharedNodes, own_sites::SharedOwnSites,
        policy_book::SharedPolicies, progress::ProgressBoard, strangers::SharedStrangers, visitors::SharedVisitors,
    },
    net::held_port,
    strangers,
    telemetry::Exporter,
    tftp,
};

/// The events that the journal may lag behind. A fleet of 10,000 machines causes about 30 for each.
const EVENT_CAPACITY: usize = 1 << 18;

/// Reads the spec, assembles the parts and starts serving.
pub(super) async fn start(config: &Config, service_manager: Arc<ServiceManager>) -> anyhow::Result<Daemon> {
    let begun = Instant::now();
    let configs = Configs::find(config.talos_config.as_deref(), &config.artifacts, config.http_port)
        .map_err(|problem| cannot_start(&[problem]))?;
    let (spec_configs, talos_configs) = (configs.of_spec(), configs.store());
    let Specs { inventory, catalog, faults, clusters, matchbox } =
        Specs::load(&config.cluster, config.matchbox.as_deref(), spec_configs.clone(), config.strict)?;
    let mut api = None;
    if let Some(kubernetes) = &config.kubernetes {
        let cluster = Cluster::start(kubernetes.settings.clone(), &config.state).await;
        let cluster = cluster.map_err(|error| cannot_start(&[error.to_string()]))?;
        let loader = cluster_spec::Loader::new().with_talos_configs(spec_configs);
        let (inventory, faults) = (Arc::clone(&inventory), Arc::clone(&faults.clusters));
        let mut spec = cluster_spec::Objects::new(loader, inventory, faults, config.strict);
        cluster.put_in_force(&mut spec);
        api = Some((cluster, spec));
    }
    let first = inventory.load_full();
    let store = Arc::new(Store::new(config.artifacts.clone()));
    let (records, trouble) = Records::open(Arc::clone(&store));
    trouble.iter().for_each(|trouble| tracing::warn!("{trouble}"));
    let records = Arc::new(records);
    let verifier = Verifier::start(Arc::clone(&records)).context("starting the thread that verifies files")?;
    let (policies, images) = (SharedPolicies::default(), SharedImages::default());

    let files =
        preflight::Files { store: Arc::clone(&store), command: fetch_command(config), is_offline: config.offline };
    let keeper = Arc::new(Keeper::new(images::Setup {
        records: Arc::clone(&records),
        inventory: Arc::clone(&inventory),
        images: Arc::clone(&images),
        command: files.command.clone(),
        offline: config.offline.then_some("pxed runs with --offline"),
    }));
    let preflight::Problems { fatal: mut problems, passing } =
        preflight::check(&first, &catalog.load(), &files, &config.addressing, config.strict);
    // A cluster that somebody creates with a mistake must not keep pxed from serving the next one.
    if api.is_some() {
        problems.drain(..).for_each(|problem| tracing::error!("{problem}"));
    }
    let ukis = UkiUpkeep {
        ukis: Arc::default(),
        secure_boot: config.secure_boot.clone(),
        inventory: Arc::clone(&inventory),
        images: Arc::clone(&images),
        store: Arc::clone(&store),
    };
    problems.extend(ukis.start().err());
    let fetcher = match config.offline {
        true => None,
        false => match Fetcher::new(config.fetch.clone(), records) {
            Ok(fetcher) => Some(Arc::new(fetcher)),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        },
    };
    let own_sites = SharedOwnSites::default();
    let progress = Arc::new(ProgressBoard::new(usize::MAX));
    let overheard = SharedStrangers::default();
    let exporter = config.otlp_endpoint.clone().map(|endpoint| Exporter::new(endpoint, Arc::clone(&config.node.name)));
    let (exporter, spans) = exporter.transpose().context("--otlp-endpoint")?.unzip();
    // In proxy mode, another server gives the addresses.
    let (begun_to_run, up) =
        (config.verify_up && config.mode == Mode::Server).then(|| mpsc::channel(up_check::CAPACITY)).unzip();
    let journal = Journal::new(Arc::clone(&inventory), Arc::clone(&policies), &config.state).map(|journal| {
        journal
            .with_own_sites(Arc::clone(&own_sites))
            .with_progress(Arc::clone(&progress))
            .with_strangers(overheard.clone())
            .with_spans(spans)
            .with_running(begun_to_run)
    });
    let journal = journal.map(|journal| match config.history {
        Some(limits) => journal.with_history(&config.state, limits),
        None => journal,
    });
    let admin = config.admin.open(&config.state).await;
    let (journal, admin) = match (journal, admin) {
        (Ok(journal), Ok(admin)) if problems.is_empty() => (Arc::new(journal), admin),
        (journal, admin) => {
            problems.extend(journal.err().map(|error| error.to_string()));
            problems.extend(admin.err().into_iter().flatten());
            return Err(cannot_start(&problems));
        }
    };

    // After the journal, which keeps another pxed out of the state directory.
    let guard = match config.mode {
        Mode::Server => Some(Arc::new(url_key::guard(&config.state)?)),
        Mode::Proxy => None,
    };
    let (events, receiver) = EventSink::channel(EVENT_CAPACITY);
    let replies = Arc::new(ReplyCounters::default());
    let (tftp_metrics, http_metrics) = (Arc::new(tftp::Metrics::default()), Arc::new(http::Metrics::default()));
    let visitors = SharedVisitors::default();
    let places = http::Places::default();
    let servers = Servers::new(
        http::Context {
            inventory: Arc::clone(&inventory),
            catalog: Arc::clone(&catalog),
            store: Arc::clone(&store),
            images: Arc::clone(&images),
            ukis: Arc::clone(&ukis.ukis),
            talos_configs: talos_configs.clone(),
            events: events.clone(),
            progress: Arc::clone(&progress),
            policies: Arc::clone(&policies),
            metrics: Arc::clone(&http_metrics),
            coverage: Default::default(),
            changes: Default::default(),
            places: places.clone(),
            visits: http::Visits::new(visitors.clone()),
            check_source: config.mode == Mode::Server,
            guard: guard.clone(),
            http_port: config.http_port,
        },
        tftp::Context::new(Arc::clone(&store), Arc::clone(&inventory), events.clone(), Arc::clone(&tftp_metrics))
            .with_policies(Arc::clone(&policies), config.mode == Mode::Server)
            .with_images(Arc::clone(&images))
            .with_progress(progress)
            .with_ports(config.tftp_ports),
    );
    let scope = if config.cluster.is_empty() && api.is_none() { Scope::HttpEverywhere } else { Scope::Sites };
    let listeners = Listeners::new(servers, scope, config.addressing.clone());
    let nodes = SharedNodes::default();
    let shared = membership::Shared {
        nodes: Arc::clone(&nodes),
        inventory: Arc::clone(&inventory),
        own_sites: Arc::clone(&own_sites),
    };
    let server = api.as_ref().map(|(cluster, _)| cluster.server());
    let membership = Membership::start(&config.node, shared, server, &config.state);
    let tap = Tap::default();
    let dataplane = Arc::new(Mutex::new(Dataplane::new(dataplane::Context {
        datapath: config.datapath,
        settings: config.settings,
        addressing: config.addressing.clone(),
        mode: config.mode,
        http_port: config.http_port,
        lease_seconds: config.lease_seconds,
        guard,
        inventory: Arc::clone(&inventory),
        policies,
        events: events.clone(),
        counters: Arc::clone(&replies),
        duplicate_answers: Arc::default(),
        trusted_relays: Arc::clone(&config.trusted_relays),
        sharing: membership.as_ref().map(|_| Arc::new(Sharing::new(Arc::clone(&nodes)))),
        tap: tap.clone(),
        dropped_strangers: Arc::new(strangers::of_dropped(Arc::clone(&inventory), overheard.clone())),
    })));

    let observed = Arc::clone(&dataplane);
    let fetch_metrics = FetchMetrics::default();
    let mut registry = metrics::registry(Metered {
        fetch: &fetch_metrics,
        images: &images,
        tftp: &tftp_metrics,
        http: &http_metrics,
        journal: &journal,
        events: &events,
        replies: &replies,
        nodes: &nodes,
        faults: &faults,
        confinement: &config.confinement,
        ports: move || PortCounts::of(&observed.lock().unwrap_or_else(PoisonError::into_inner)),
    });
    if let Some(exporter) = &exporter {
        exporter.register(registry.sub_registry_with_prefix("pxed"));
    }
    let api_state = api.as_ref().map(|(cluster, _)| cluster.state());
    let policy_in_api = api.as_mut().map(|(cluster, _)| {
        let registry = registry.sub_registry_with_prefix("pxed");
        cluster.register(registry);
        let world = cluster::World {
            journal: Arc::clone(&journal),
            objects: cluster.objects(),
            faults: Arc::clone(&faults.clusters),
            images: Arc::clone(&images),
            nodes: Arc::clone(&nodes),
            own_sites: Arc::clone(&own_sites),
            host: Arc::clone(&config.node.name),
            neighbour_at: super::neighbour::neighbour_at,
        };
        cluster.report(world, registry)
    });
    let health = Arc::new(Health::default());
    let (mode, told) = (config.mode, Arc::clone(&health));
    let tell_of_secrets = move |inventory: &Inventory| {
        let sentence = secrets_line::sentence(inventory, mode);
        if told.set_secrets(&sentence) {
            tracing::info!("secrets: {sentence}");
        }
    };
    tell_of_secrets(&first);
    let upkeep = Upkeep::new(
        (Arc::clone(&inventory), Arc::clone(&own_sites)),
        Arc::clone(&faults.clusters),
        listeners,
        dataplane,
        Budget::new(places),
        Arc::clone(&journal),
        Audience { health: Arc::clone(&health), service_manager: Arc::clone(&service_manager) },
    );
    let upkeep = Arc::new(upkeep.with_api(api_state.clone()));
    let problems = upkeep.start(&passing);
    if api.is_some() {
        problems.iter().for_each(|problem| tracing::error!("{problem}"));
    } else if !problems.is_empty() {
        return Err(cannot_start(&problems));
    }
    let listener = strangers::Listener::start(Arc::clone(&inventory), overheard.clone());
    let listener = listener
        .inspect_err(|error| {
            tracing::warn!("pxed cannot hear strangers, so that pxed strangers shows none: {error}");
        })
        .ok();
    let boot_server_port = if config.mode == Mode::Proxy { hold_boot_server_port() } else { None };
    limits::raise_neighbours(first.machines().len());
    upkeep.warn_of_few_places(first.machines().len());

    log_missing_configs(talos_configs.as_deref(), &first);
    let up_check = up.map(|running| {
        let check = UpCheck::new(Arc::clone(&journal), events.clone());
        tokio::spawn(check.run(running))
    });
    let context = AdminContext {
        journal: Arc::clone(&journal),
        images,
        nodes,
        visitors,
        strangers: overheard,
        registry: Arc::new(registry),
        health,
        confinement: Arc::clone(&config.confinement),
        faults,
        api: api_state,
        cluster: policy_in_api,
        captures: admin::CaptureSource { tap, http_port: config.http_port },
        mistakes: mistakes::warnings,
        neighbour_at: super::neighbour::neighbour_at,
    };
    let (running, stopped) = watch::channel(());
    let doors = admin.to_string();
    let admin = tokio::spawn(admin::serve(
        admin,
        budget::admin_connections(descriptors::limit()),
        context,
        until_gone(stopped.clone()),
    ));
    let images = tokio::spawn(images::run(Arc::clone(&keeper), fetcher, Arc::clone(&journal), fetch_metrics));
    let journal = tokio::spawn(journal::run(journal, receiver, until_gone(stopped)));
    let exporter = exporter.map(|exporter| tokio::spawn(exporter.run()));
    let membership = membership.map(|membership| (membership.leases(), tokio::spawn(membership.keep())));
    let mut watchers = Vec::new();
    let (after_look, runtime) = (Arc::clone(&upkeep), Handle::current());
    let on_change = move |_: &Inventory, after: &Inventory| {
        let _inside = runtime.enter();
        // First, since machines of the new inventory wait for it.
        keeper.reload();
        after_look.look_after();
        limits::raise_neighbours(after.machines().len());
        // At start this would be fatal. Now the other machines are already served.
        files.report(after);
        tell_of_secrets(after);
        log_missing_configs(talos_configs.as_deref(), after);
    };
    let mut cluster = None;
    if let Some((mut watched, spec)) = api {
        watched.follow(spec, on_change).context("starting the thread that reads the spec")?;
        cluster = Some(watched);
    } else if let Some(clusters) = clusters {
        watchers.push(cluster_spec::watch(clusters, on_change)?);
    }
    if let Some(matchbox) = matchbox {
        watchers.push(matchbox::watch(matchbox)?);
    }
    tracing::info!(
        machines = first.machines().len(),
        matchbox_groups = catalog.load().groups().len(),
        startup_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        admin = doors,
        file_descriptors = descriptors::limit(),
        "ready"
    );
    drop(first);
    memory::give_back();
    // A service that is missing now may come later, and a spec that is not there yet comes later: the status says so, and nobody waits for it.
    service_manager.ready();
    Ok(Daemon {
        upkeep,
        service_manager,
        ukis,
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
    })
}

/// Holds the port of ProxyDHCP's second question. Without it, machines that boot by HTTP or as a BIOS still boot.
fn hold_boot_server_port() -> Option<UdpSocket> {
    held_port::hold(BOOT_SERVER_PORT).unwrap_or_else(|error| {
        tracing::warn!(
            "UDP port {BOOT_SERVER_PORT} cannot be opened: {error}: firmware that asks there may get \"port unreachable\" \
             from this host before it gets its answer"
        );
        None
    })
}

/// Returns the command line of `pxed fetch` for the same spec.
fn fetch_command(config: &Config) -> FetchCommand {
    let (artifacts, upstreams) = (&config.artifacts, &config.fetch.upstreams);
    let authorities = config.fetch.ca_certificates.as_deref();
    match &config.kubernetes {
        Some(Kubernetes { typed, .. }) => FetchCommand::of_spec(typed, artifacts, upstreams, authorities),
        None => FetchCommand::new(&config.cluster, artifacts, upstreams, authorities),
    }
}

fn cannot_start(problems: &[String]) -> anyhow::Error {
    anyhow!("cannot start:\n  {}", problems.join("\n  "))
}

/// Waits until the sender is dropped; it never sends.
async fn until_gone(mut sender: watch::Receiver<()>) {
    while sender.changed().await.is_ok() {}
}
