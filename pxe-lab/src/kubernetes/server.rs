//! kube-apiserver with etcd in a network namespace of its own.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{
    binaries::{Binaries, binaries},
    identity::{ISSUER, Identity},
    kubeconfig::{self, Account},
};
use crate::{namespace::Namespace, process::Process, topology};

/// The server's address, which every connected namespace reaches.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 255, 1);
/// The server's port.
pub const PORT: u16 = 6443;
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";

/// The interface by which a connected namespace reaches the server.
pub const NODE_INTERFACE: &str = "api0";

/// The time limit for a start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A real API server: kube-apiserver 1.20 with RBAC on etcd. There are no controllers: nothing but the server's own admission
/// makes or deletes objects, so that what an owner has lost stays (see [`super::operator`]). It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    binaries: Binaries,
    identity: Mutex<Identity>,
    /// Dropped before the namespace in which they run.
    processes: Mutex<Processes>,
    /// The namespace of the server.
    pub namespace: Namespace,
    /// The namespaces that are connected, by name, in the order of their links.
    links: Mutex<Vec<String>>,
    directory: TempDir,
}

#[derive(Debug, Default)]
struct Processes {
    apiserver: Option<Process>,
    etcd: Option<Process>,
}

impl ApiServer {
    /// Starts a server without objects, and waits until it is ready. No namespace reaches it until it is connected
    /// ([`Self::connect`]).
    ///
    /// # Errors
    ///
    /// Fails with [`crate::requires::Skip`] without root or if the programs cannot be made; the first call on a machine makes them,
    /// which takes minutes. Fails with its last lines if it does not become ready.
    pub fn start() -> anyhow::Result<Self> {
        crate::requires::root()?;
        let binaries = binaries()?;
        let directory = TempDir::new()?;
        let namespace = Namespace::new("api")?;
        namespace.ip(&["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"])?;
        let identity = Identity::new(directory.path(), &ADDRESS.to_string())?;
        let administrator = json!({
            "client-certificate": identity.file("administrator.pem"), "client-key": identity.file("administrator.key"),
        });
        let text = kubeconfig::text(&url(), &identity.file("authority.pem"), &administrator, "default");
        fs::write(directory.path().join("administrator.kubeconfig"), text)?;
        let (identity, links) = (Mutex::new(identity), Mutex::default());
        let server = Self { binaries, identity, processes: Mutex::default(), namespace, links, directory };
        server.launch()?;
        Ok(server)
    }

    /// Ends the server and etcd in order. Its data stays.
    ///
    /// # Errors
    ///
    /// Fails if they do not run, or do not end.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut processes = lock(&self.processes);
        let Processes { apiserver, etcd } = &mut *processes;
        for (name, process) in [("kube-apiserver", apiserver), ("etcd", etcd)] {
            let mut process = process.take().with_context(|| format!("{name} does not run"))?;
            process.signal(Signal::SIGTERM)?;
            process.wait(START)?;
        }
        Ok(())
    }

    /// Kills the server, but not etcd: clients see their connections reset, and then refused.
    pub fn kill(&self) {
        lock(&self.processes).apiserver = None;
    }

    /// Starts what has been ended again, with the same data, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::start`].
    pub fn start_again(&self) -> anyhow::Result<()> {
        self.launch()
    }

    /// Makes every token that exists worthless: the server is started again with another signing key.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::start`].
    pub fn revoke_tokens(&self) -> anyhow::Result<()> {
        lock(&self.identity).replace_signing_key()?;
        self.kill();
        self.start_again()
    }

    /// Stops the server's processes without ending them: connections stay open and nothing is answered. [`Self::resume`] ends it.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Gives a namespace the interface [`NODE_INTERFACE`], by which it reaches the server at [`ADDRESS`].
    ///
    /// # Errors
    ///
    /// Fails with the output of `ip`.
    pub fn connect(&self, node: &Namespace) -> anyhow::Result<()> {
        let mut links = lock(&self.links);
        let number = links.len();
        let (here, there) = (format!("10.98.{number}.1"), format!("10.98.{number}.2/24"));
        let port = format!("node{number}");
        topology::veth(node, NODE_INTERFACE, &self.namespace, &port)?;
        self.namespace.ip(&["address", "add", &format!("{here}/24"), "dev", &port])?;
        node.ip(&["address", "add", &there, "dev", NODE_INTERFACE])?;
        node.ip(&["route", "add", &format!("{ADDRESS}/32"), "via", &here, "dev", NODE_INTERFACE])?;
        links.push(node.name().to_owned());
        Ok(())
    }

    /// Cuts the link to a connected namespace: packets vanish, and no connection is reset.
    ///
    /// # Errors
    ///
    /// Fails if the namespace is not connected, or with the output of `ip`.
    pub fn partition(&self, node: &Namespace) -> anyhow::Result<()> {
        self.set_link(node, "down")
    }

    /// Restores a link that was cut.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::partition`].
    pub fn heal(&self, node: &Namespace) -> anyhow::Result<()> {
        self.set_link(node, "up")
    }

    /// Returns the administrator's kubeconfig, whose context has the namespace `default`.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("administrator.kubeconfig")
    }

    /// Makes a ServiceAccount unless it exists (and its namespace), and a kubeconfig with a token for a day. It may do nothing until
    /// a role is bound to it: [`Self::apply`] the objects.
    ///
    /// # Errors
    ///
    /// Fails with the server's answer.
    pub fn account(&self, namespace: &str, name: &str) -> anyhow::Result<Account> {
        self.apply(
            &json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}},
            ]})
            .to_string(),
        )?;
        let directory = self.directory.path();
        let file = |extension: &str| directory.join(format!("account-{namespace}-{name}.{extension}"));
        let account = Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kubeconfig: file("kubeconfig"),
            token: file("token"),
        };
        account.set_token(&self.token(&account, Duration::from_secs(24 * 3600))?)?;
        let user = json!({"tokenFile": account.token});
        let text = kubeconfig::text(&url(), &directory.join("authority.pem"), &user, namespace);
        fs::write(&account.kubeconfig, text)?;
        Ok(account)
    }

    /// Returns a new token of a ServiceAccount that the server takes for this time. It may take a token that it has seen for ten
    /// seconds longer, because it remembers that long which tokens are good.
    ///
    /// # Errors
    ///
    /// Fails with the server's answer.
    pub fn token(&self, account: &Account, lifetime: Duration) -> anyhow::Result<String> {
        let Account { namespace, name, .. } = account;
        let uid = self.kubectl(&["-n", namespace, "get", "serviceaccount", name, "-o", "jsonpath={.metadata.uid}"])?;
        let end = SystemTime::now() + lifetime - super::identity::LEEWAY;
        lock(&self.identity).token(namespace, name, &uid, end)
    }

    /// Runs `kubectl` as the administrator, and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        crate::namespace::output(self.kubectl_command(&self.kubeconfig()).args(arguments))
    }

    /// Runs `kubectl` with the rights of a ServiceAccount, and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails with what it says.
    pub fn kubectl_as(&self, account: &Account, arguments: &[&str]) -> anyhow::Result<String> {
        crate::namespace::output(self.kubectl_command(account.kubeconfig()).args(arguments))
    }

    /// Applies objects in YAML or JSON (`kubectl apply`), as the administrator.
    ///
    /// # Errors
    ///
    /// Fails with what kubectl says.
    pub fn apply(&self, objects: &str) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new_in(self.directory.path())?;
        fs::write(file.path(), objects)?;
        // The server validates. kubectl of this version would miss required fields that have a default.
        self.kubectl(&["apply", "--validate=false", "-f", &file.path().to_string_lossy()]).map(drop)
    }

    /// Defines the four kinds of talos-operator, and waits until the server serves them.
    ///
    /// # Errors
    ///
    /// Fails with what kubectl says.
    pub fn define_resources(&self) -> anyhow::Result<()> {
        self.apply(&super::crds::definitions())?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).map(drop)
    }

    /// Returns an object.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<serde_json::Value> {
        let text = self.kubectl(&["-n", namespace, "get", kind, name, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {kind} {namespace}/{name}"))
    }

    /// Runs `work` with the administrator's client, on a thread of its own in the server's namespace: for what kubectl is too slow for.
    ///
    /// # Errors
    ///
    /// Fails like `work`.
    pub fn with_client<T, F>(&self, work: impl FnOnce(Client) -> F + Send) -> anyhow::Result<T>
    where
        T: Send,
        F: Future<Output = anyhow::Result<T>>,
    {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
                work(Client::try_from(config)?).await
            })
        })?
    }

    /// Returns the last lines of the server's log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let processes = lock(&self.processes);
        processes.apiserver.as_ref().map_or_else(|| "kube-apiserver does not run".to_owned(), Process::last_lines)
    }

    /// Deletes etcd's history, so that a watch from an old version is refused with 410.
    ///
    /// # Errors
    ///
    /// Fails if the server does not come back.
    pub fn forget_history(&self) -> anyhow::Result<()> {
        // The server keeps the last changes of each kind in memory. After a start it has none of them.
        self.kill();
        self.start_again()
    }

    fn kubectl_command(&self, kubeconfig: &Path) -> Command {
        let mut command = self.namespace.command(self.binaries.kubectl());
        command.env("HOME", self.directory.path()).arg("--kubeconfig").arg(kubeconfig);
        command
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let processes = lock(&self.processes);
        processes.apiserver.as_ref().context("kube-apiserver does not run")?.signal(signal)
    }

    fn set_link(&self, node: &Namespace, state: &str) -> anyhow::Result<()> {
        let links = lock(&self.links);
        let number = links.iter().position(|name| name == node.name());
        let number = number.with_context(|| format!("{} is not connected", node.name()))?;
        self.namespace.ip(&["link", "set", &format!("node{number}"), state]).map(drop)
    }

    fn launch(&self) -> anyhow::Result<()> {
        {
            let mut processes = lock(&self.processes);
            if processes.etcd.is_none() {
                let mut etcd = self.namespace.command(self.binaries.etcd());
                etcd.arg("--data-dir").arg(self.directory.path().join("etcd")).args(["--log-level", "error"]);
                etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
                etcd.args(["--listen-peer-urls", ETCD_PEER, "--initial-advertise-peer-urls", ETCD_PEER]);
                etcd.args(["--initial-cluster", &format!("default={ETCD_PEER}")]);
                processes.etcd = Some(Process::spawn("etcd", &mut etcd)?);
            }
            if processes.apiserver.is_none() {
                let mut server = self.apiserver_command();
                processes.apiserver = Some(Process::spawn("kube-apiserver", &mut server)?);
            }
        }
        self.wait_until_ready()
    }

    fn apiserver_command(&self) -> Command {
        let identity = lock(&self.identity);
        let file = |name: &str| identity.file(name).to_string_lossy().into_owned();
        let mut command = self.namespace.command(self.binaries.apiserver());
        command.args([
            format!("--etcd-servers={ETCD}"),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--secure-port={PORT}"),
            format!("--advertise-address={ADDRESS}"),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("authority.pem")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--service-account-key-file={}", file("accounts.pub")),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
        ]);
        command
    }

    /// Waits until it answers, has its own roles, and has made the namespace `default`.
    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let ready = self.with_client(|client| async move {
                let mut ready = true;
                for path in ["/readyz", "/api/v1/namespaces/default"] {
                    let request = http::Request::get(path).body(Vec::new())?;
                    ready &= client.request_text(request).await.is_ok();
                }
                Ok(ready)
            })?;
            if ready {
                return Ok(());
            }
            let mut processes = lock(&self.processes);
            let Processes { apiserver, etcd } = &mut *processes;
            for process in [etcd, apiserver].into_iter().flatten() {
                if !process.is_running()? {
                    bail!("the API server ended. Its last lines:\n{}", process.last_lines());
                }
            }
            drop(processes);
            if Instant::now() >= deadline {
                bail!("kube-apiserver is not ready. Its last lines:\n{}", self.last_lines());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Returns the server's URL.
fn url() -> String {
    format!("https://{ADDRESS}:{PORT}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
