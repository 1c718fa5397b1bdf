//! The connection to the API server.

use std::{
    env,
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::sync::{Mutex, watch};

use super::bounded::Bounded;
use crate::named_file;

/// The time that a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// The time that a connection may be silent while an answer is awaited. Watches are told to end sooner.
const SILENCE: Duration = Duration::from_secs(90);
/// The time that reading the settings may take. They may name a program that prints a token.
const READ_SETTINGS: Duration = Duration::from_secs(15);
/// The least time between two readings of the settings.
const RENEWAL: Duration = Duration::from_secs(5);

/// The variable that tells a process that it runs in a pod.
pub(super) const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The way to the API server, and what is read there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The kubeconfig. Without it, the pod's service account is used, or else `$KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces whose objects count; empty for all.
    pub namespaces: Vec<String>,
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig cannot be read or understood.
    #[error("{place}: {reason}: name a kubeconfig with --kubeconfig FILE, or run in a pod with a service account")]
    Kubeconfig {
        /// The file, or the places that were looked at.
        place: String,
        /// The cause.
        reason: String,
    },
    /// The pod has no usable service account.
    #[error(
        "the service account of this pod: {0}: set automountServiceAccountToken, or name a kubeconfig with --kubeconfig FILE"
    )]
    ServiceAccount(String),
    /// The credentials or certificates cannot be used.
    #[error("cannot connect to {url}: {reason}")]
    Unusable {
        /// The address of the API server.
        url: String,
        /// The cause.
        reason: String,
    },
}

/// The API server, with a client that is replaced when its credentials have expired.
pub struct ApiServer {
    settings: Settings,
    connected: ArcSwap<Connected>,
    /// The time of the last reading of the settings, successful or not.
    renewed: Mutex<Instant>,
    /// The number of requests outside the watches that got no answer.
    doubts: watch::Sender<u64>,
}

/// A client, and what the settings said when it was made.
struct Connected {
    client: Client,
    namespace: Arc<str>,
    url: Arc<str>,
}

impl ApiServer {
    /// Reads the settings and makes a client. Nothing is sent yet. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the settings cannot be read or make no sense.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        let connected = ArcSwap::from_pointee(Connected::new(&settings).await?);
        Ok(Self { settings, connected, renewed: Mutex::new(Instant::now()), doubts: watch::Sender::default() })
    }

    /// Returns the client. It should be asked for before each request, since it may have been replaced.
    #[must_use]
    pub fn client(&self) -> Client {
        self.connected.load().client.clone()
    }

    /// Returns the address, for people.
    #[must_use]
    pub fn url(&self) -> Arc<str> {
        Arc::clone(&self.connected.load().url)
    }

    /// Returns the namespace that pxed itself belongs to: that of its service account, or of the kubeconfig's context.
    #[must_use]
    pub fn namespace(&self) -> Arc<str> {
        Arc::clone(&self.connected.load().namespace)
    }

    /// Returns the namespaces whose objects count; empty for all.
    #[must_use]
    pub fn watched_namespaces(&self) -> &[String] {
        &self.settings.namespaces
    }

    /// Reads the settings again and replaces the client, after the server has refused its credentials (401). Soon after another reading
    /// it does nothing.
    ///
    /// # Errors
    ///
    /// If the settings cannot be read or make no sense any more. The client stays.
    pub async fn renew(&self) -> Result<(), ConnectError> {
        let mut renewed = self.renewed.lock().await;
        if renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        let connected = Connected::new(&self.settings).await;
        *renewed = Instant::now();
        self.connected.store(Arc::new(connected?));
        Ok(())
    }
}

impl ApiServer {
    /// Tells the watches that a request got no answer: they may hang as well, which they cannot tell from having no news.
    pub(super) fn doubt(&self) {
        self.doubts.send_modify(|doubts| *doubts += 1);
    }

    /// Returns the number of requests outside the watches that got no answer, as it changes.
    pub(super) fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Connected {
    async fn new(settings: &Settings) -> Result<Self, ConnectError> {
        let mut config = match tokio::time::timeout(READ_SETTINGS, config(settings)).await {
            Ok(config) => config?,
            Err(_) => {
                let reason = format!("nothing within {} s", READ_SETTINGS.as_secs());
                return Err(ConnectError::Kubeconfig { place: place(settings), reason });
            }
        };
        let of_environment = ["HTTPS_PROXY", "https_proxy"].map(|name| env::var(name).unwrap_or_default());
        config.proxy_url = of_kubeconfig(config.proxy_url, &of_environment);
        if let Some(proxy) = &config.proxy_url {
            let reason = format!(
                "its kubeconfig has the proxy-url {proxy}, and pxed reaches it only without a proxy: remove proxy-url"
            );
            return Err(ConnectError::Unusable { url: config.cluster_url.to_string(), reason });
        }
        config.connect_timeout = Some(CONNECT);
        (config.read_timeout, config.write_timeout) = (Some(SILENCE), Some(SILENCE));
        config.reset_reader_on_write = true;
        // Repetitions are paced here, so that nobody waits longer than intended.
        config.default_retry = false;
        let url: Arc<str> = Arc::from(config.cluster_url.to_string().trim_end_matches('/'));
        let namespace = Arc::from(&*config.default_namespace);
        // A program that prints a token may take its time.
        let client = tokio::task::spawn_blocking(move || {
            ClientBuilder::try_from(config).map(|builder| builder.with_layer(&tower::layer::layer_fn(Bounded)).build())
        });
        let unusable = |reason| ConnectError::Unusable { url: url.to_string(), reason };
        let client = match tokio::time::timeout(READ_SETTINGS, client).await {
            Ok(Ok(client)) => client.map_err(|error| unusable(words(&error)))?,
            Ok(Err(error)) => return Err(unusable(error.to_string())),
            Err(_) => return Err(unusable(format!("no credentials within {} s", READ_SETTINGS.as_secs()))),
        };
        Ok(Self { client, namespace, url })
    }
}

async fn config(settings: &Settings) -> Result<Config, ConnectError> {
    let failed = |error: KubeconfigError| ConnectError::Kubeconfig { place: place(settings), reason: words(&error) };
    let options = KubeConfigOptions::default();
    if settings.kubeconfig.is_none() && env::var_os(IN_CLUSTER).is_some() {
        return Config::incluster_env().map_err(|error| ConnectError::ServiceAccount(words(&error)));
    }
    let path = settings.kubeconfig.clone();
    let read = tokio::task::spawn_blocking(move || read(path.as_deref())).await;
    let kubeconfig = read
        .map_err(|error| error.to_string())
        .flatten()
        .map_err(|reason| ConnectError::Kubeconfig { place: place(settings), reason })?;
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)
}

/// Reads a kubeconfig, or that of the environment. kube would wait for the other end of a FIFO, so all files are looked at first.
fn read(path: Option<&Path>) -> Result<Kubeconfig, String> {
    let usual = || {
        let named = env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let in_home = || env::home_dir().map(|home| home.join(".kube/config"));
        named.map_or_else(|| Vec::from_iter(in_home()), |paths| env::split_paths(&paths).collect())
    };
    path.map_or_else(usual, |path| vec![path.to_owned()]).iter().try_for_each(|path| check(path))?;
    let kubeconfig = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(|error| words(&error))?;
    let authorities = kubeconfig.clusters.iter().filter_map(|it| it.cluster.as_ref()?.certificate_authority.as_ref());
    let credentials = kubeconfig.auth_infos.iter().filter_map(|it| it.auth_info.as_ref());
    let credentials = credentials.flat_map(|it| [&it.client_certificate, &it.client_key, &it.token_file]).flatten();
    authorities.chain(credentials).try_for_each(|path| check(Path::new(path)))?;
    Ok(kubeconfig)
}

fn check(path: &Path) -> Result<(), String> {
    match named_file::check(path) {
        // kube says so in its own words, and goes without a file of the environment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        checked => checked.map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// Returns the proxy that a kubeconfig names. The proxy of the environment is for downloads: kube would take it also for a server that
/// `NO_PROXY` names, and does not take it in a pod.
fn of_kubeconfig(proxy: Option<http::Uri>, of_environment: &[String]) -> Option<http::Uri> {
    proxy
        .filter(|proxy| !of_environment.iter().any(|other| other.parse().is_ok_and(|other: http::Uri| other == *proxy)))
}

/// Returns the place of the kubeconfig, for people.
fn place(settings: &Settings) -> String {
    match (&settings.kubeconfig, env::var("KUBECONFIG")) {
        (Some(path), _) => format!("--kubeconfig {}", path.display()),
        (None, Ok(paths)) if !paths.is_empty() => format!("KUBECONFIG={paths}"),
        (None, _) => "~/.kube/config".to_owned(),
    }
}

/// Returns the message of an error with those of its causes that it does not repeat.
#[must_use]
pub fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn connect(path: PathBuf) -> Result<ApiServer, ConnectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = Settings { kubeconfig: Some(path), ..Settings::default() };
        runtime.block_on(ApiServer::connect(settings))
    }

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {server: \
                              \"http://127.0.0.1:6443/\"}\ncontexts:\n- name: a\n  context: {cluster: a, user: u, \
                              namespace: pxe}\nusers:\n- name: u\n  user: {token: t}\n";

    #[test]
    fn kubeconfig_names_server_and_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        fs::write(&path, KUBECONFIG).unwrap();
        let server = connect(path.clone()).unwrap();
        assert_eq!((&*server.url(), &*server.namespace()), ("http://127.0.0.1:6443", "pxe"));
        fs::write(&path, KUBECONFIG.replace(", namespace: pxe", "")).unwrap();
        assert_eq!(&*connect(path).unwrap().namespace(), "default");
    }

    #[test]
    fn unusable_kubeconfig_is_told_with_its_place_and_the_cause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        let refused = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            connect(path.clone()).unwrap_err().to_string()
        };
        let cases: [(Option<String>, &str); 6] = [
            (None, "No such file"),
            (Some("a: [".to_owned()), "YAML"),
            (Some(KUBECONFIG.replace("current-context: a", "current-context: b")), "context"),
            (Some(KUBECONFIG.replace("user: {token: t}", "user: {tokenFile: /nowhere}")), "/nowhere"),
            (Some(KUBECONFIG.replace("http://127.0.0.1:6443/", "not a url")), "url"),
            (Some(String::new()), "context"),
        ];
        for (text, cause) in cases {
            let message = refused(text.as_deref());
            assert!(message.contains(cause), "{message}");
            assert!(message.contains("kubeconfig") || message.contains("cannot connect to"), "{message}");
        }
    }

    #[test]
    fn proxy_of_the_environment_is_not_for_the_api_server() {
        let proxy = || Some("http://proxy.example:3128".parse::<http::Uri>().unwrap());
        let environment = |value: &str| [String::new(), value.to_owned()];
        assert_eq!(of_kubeconfig(proxy(), &environment("http://proxy.example:3128/")), None);
        assert_eq!(of_kubeconfig(proxy(), &environment("http://other.example:3128")), proxy());
        assert_eq!(of_kubeconfig(None, &environment("http://proxy.example:3128")), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        let cluster = "server: \"http://127.0.0.1:6443/\", proxy-url: \"http://proxy.example:3128\"";
        fs::write(&path, KUBECONFIG.replace("server: \"http://127.0.0.1:6443/\"", cluster)).unwrap();
        let message = connect(path).unwrap_err().to_string();
        assert!(message.contains("proxy.example") && message.contains("remove proxy-url"), "{message}");
    }

    #[test]
    fn words_tell_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] io::Error);
        let error = Outer(Inner(io::Error::other("deepest")));
        assert_eq!(words(&error), "outer: inner: deepest");
    }
}
