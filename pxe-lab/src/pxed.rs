//! A running `pxed`.

use std::{
    collections::BTreeMap,
    fs,
    os::{fd::BorrowedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{access, build, kubernetes, kubernetes::Account, namespace::Namespace, process::Process, suite};

/// The admin listener, on the loopback interface of the server's namespace.
pub const ADMIN: &str = "127.0.0.1:8001";

/// The time limit for a start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A wrapper ([`Launch::wrapper`]) that hides what Debian's packages could contribute, iPXE and systemd's EFI stub, as on a host that has
/// neither. A namespace's commands have mounts of their own.
pub const BARE_HOST: [&str; 4] = [
    "sh",
    "-ec",
    "for d in /usr/lib/ipxe /usr/lib/systemd/boot; do if [ -d $d ]; then mount -t tmpfs none $d; fi; done; exec \"$@\"",
    "sh",
];

/// Gives a command the service account in the directory that is its first argument, as a pod has it.
const IN_POD: &str = "mount -t tmpfs none /run; at=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p $at; mount --bind \"$1\" $at; \
                      shift; exec \"$@\"";

/// One `pxed run`. It is ended when it is dropped.
#[derive(Debug)]
pub struct Pxed<'n> {
    namespace: &'n Namespace,
    /// The process, with its log.
    pub process: Process,
    directory: TempDir,
    /// The kubeconfig of a pxed that has its spec from the API server.
    kubeconfig: Option<PathBuf>,
}

/// A special way to start pxed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Launch<'a> {
    /// A command that becomes pxed, whose command line follows: `["prlimit", "--nofile=256"]`.
    pub wrapper: &'a [&'a str],
    /// The standard output and error. By default they are read as they come.
    pub output: Option<BorrowedFd<'a>>,
    /// Files of the state directory, by their names.
    pub state: &'a [(&'a str, &'a [u8])],
    /// The state directory, if it is not a new one.
    pub state_directory: Option<&'a Path>,
    /// A kubeconfig: pxed has its spec from the API server, and `spec` is not used.
    pub kubeconfig: Option<&'a Path>,
    /// The directory of a service account: pxed has it as in a pod, and its spec from the API server.
    pub service_account: Option<&'a Path>,
}

/// Every sample of `/metrics`, by its name with labels: `pxed_x{a="b"}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl<'n> Pxed<'n> {
    /// Starts `pxed run` in the namespace with this cluster spec and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be built, ends, or does not become ready; the error holds its last lines.
    pub fn start(namespace: &'n Namespace, spec: &str, artifacts: &Path, extra: &[&str]) -> anyhow::Result<Self> {
        let mut pxed = Self::launch(namespace, spec, artifacts, extra)?;
        pxed.wait_until_ready()?;
        Ok(pxed)
    }

    /// Starts it without waiting, for tests in which it must fail.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be built or started.
    pub fn launch(namespace: &'n Namespace, spec: &str, artifacts: &Path, extra: &[&str]) -> anyhow::Result<Self> {
        Self::launch_by(namespace, spec, artifacts, extra, &Launch::default())
    }

    /// Starts it in a special way, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be built or started.
    pub fn launch_by(
        namespace: &'n Namespace,
        spec: &str,
        artifacts: &Path,
        extra: &[&str],
        launch: &Launch<'_>,
    ) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        fs::write(directory.path().join("cluster.yaml"), spec)?;
        let state = directory.path().join("state");
        match launch.state_directory {
            Some(other) => symlink(other, &state)?,
            None => fs::create_dir(&state)?,
        }
        for (name, content) in launch.state {
            fs::write(state.join(name), content)?;
        }
        let mut command = run(namespace, directory.path(), artifacts, extra, launch)?;
        let output = || match launch.output {
            Some(output) => output.try_clone_to_owned().map(Stdio::from),
            None => Ok(Stdio::piped()),
        };
        let process = Process::spawn_to("pxed", &mut command, [output()?, output()?])?;
        Ok(Self { namespace, process, directory, kubeconfig: launch.kubeconfig.map(Path::to_owned) })
    }

    /// Starts `pxed run` in the namespace with its spec from the API server, and waits until it is ready. The namespace must be
    /// connected to the server.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::start`].
    pub fn start_in_cluster(
        namespace: &'n Namespace,
        account: &Account,
        artifacts: &Path,
        extra: &[&str],
    ) -> anyhow::Result<Self> {
        let launch = Launch { kubeconfig: Some(account.kubeconfig()), ..Launch::default() };
        let mut pxed = Self::launch_by(namespace, "", artifacts, extra, &launch)?;
        pxed.wait_until_ready()?;
        Ok(pxed)
    }

    /// Starts pxed again with the same spec and state. The previous process must have ended.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::start`].
    pub fn start_again(&mut self, artifacts: &Path, extra: &[&str]) -> anyhow::Result<()> {
        let launch = Launch { kubeconfig: self.kubeconfig.as_deref(), ..Launch::default() };
        let mut command = run(self.namespace, self.directory.path(), artifacts, extra, &launch)?;
        self.process = Process::spawn("pxed", &mut command)?;
        self.wait_until_ready()
    }

    /// Returns the namespace that it runs in.
    #[must_use]
    pub fn namespace(&self) -> &'n Namespace {
        self.namespace
    }

    /// Replaces the cluster spec by another, atomically.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn rewrite_spec(&self, spec: &str) -> anyhow::Result<()> {
        let next = self.directory.path().join("next");
        fs::write(&next, spec)?;
        fs::rename(next, self.spec_path()).context("cannot replace the cluster spec")
    }

    /// Returns the path of the cluster spec.
    #[must_use]
    pub fn spec_path(&self) -> PathBuf {
        self.directory.path().join("cluster.yaml")
    }

    /// Returns the path of the Unix socket of the admin API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Returns the path of the state directory.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// GETs a path of the admin listener.
    ///
    /// # Errors
    ///
    /// Fails without an answer, or if its status is not 200.
    pub fn admin(&self, path: &str) -> anyhow::Result<String> {
        let (status, body) = self.namespace.http_get(&format!("http://{ADMIN}{path}"))?;
        ensure!(status == 200, "GET {path}: {status}: {body}");
        Ok(body)
    }

    /// Returns `GET /metrics`.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::admin`].
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics::parse(&self.admin("/metrics")?))
    }

    /// Returns `GET /api/v1/machines`.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::admin`], and if the answer is not JSON.
    pub fn machines(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.admin("/api/v1/machines")?).context("GET /api/v1/machines")
    }

    /// Returns `GET /api/v1/machines/{mac}`.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::admin`], and if the answer is not JSON.
    pub fn machine(&self, mac: &str) -> anyhow::Result<serde_json::Value> {
        let path = format!("/api/v1/machines/{mac}");
        serde_json::from_str(&self.admin(&path)?).with_context(|| format!("GET {path}"))
    }

    /// Polls until `holds` returns `true`, for conditions without an event to wait for.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error holds `what` and the last lines of the log.
    pub fn eventually(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        suite::eventually(what, within, || holds(self)).with_context(|| self.process.last_lines())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails if it ends, or does not become ready; the error holds its last lines.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if matches!(self.namespace.http_get(&format!("http://{ADMIN}/readyz")), Ok((200, _))) {
                return Ok(());
            }
            let running = self.process.is_running()?;
            if !running || Instant::now() >= deadline {
                let problem = if running { "is not ready" } else { "ended" };
                // Its last output is still in the pipe.
                let _ = self.process.wait(Duration::from_secs(1));
                bail!("pxed {problem}. Its last lines:\n{}", self.process.last_lines());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(
    namespace: &Namespace,
    directory: &Path,
    artifacts: &Path,
    extra: &[&str],
    launch: &Launch<'_>,
) -> anyhow::Result<Command> {
    let pxed = build::pxed()?.path;
    let mut command = match (launch.service_account, launch.wrapper) {
        (Some(volume), _) => {
            let mut command = namespace.command("sh");
            command.args(["-ec", IN_POD, "sh"]).arg(volume).arg(pxed);
            command.env("KUBERNETES_SERVICE_HOST", kubernetes::ADDRESS.to_string());
            command.env("KUBERNETES_SERVICE_PORT", kubernetes::PORT.to_string());
            command
        }
        (None, []) => namespace.command(pxed),
        (None, [program, arguments @ ..]) => {
            let mut command = namespace.command(program);
            command.args(arguments).arg(pxed);
            command
        }
    };
    // No test asks the internet: one with a mirror of its own says `--offline=false`.
    command.env("PXED_OFFLINE", "true");
    command.args(["run", "--admin", ADMIN]);
    // Namespaces share the file system.
    command.arg("--admin-socket").arg(directory.join("admin.sock"));
    match (launch.kubeconfig, launch.service_account) {
        (Some(kubeconfig), _) => command.args(["--kubernetes", "--kubeconfig"]).arg(kubeconfig),
        (None, Some(_)) => command.arg("--kubernetes"),
        (None, None) => command.arg("--cluster").arg(directory.join("cluster.yaml")),
    };
    command.arg("--artifacts").arg(artifacts).arg("--state").arg(directory.join("state")).args(extra);
    let is_open = access::open(command.get_args().chain([directory.as_os_str()]));
    if !extra.contains(&"--user") {
        // A home directory of root's keeps everybody else out of what is below it.
        let user = if is_open { access::USER } else { 0 };
        command.env("PXED_USER", user.to_string());
    }
    Ok(command)
}

impl Metrics {
    /// Reads the Prometheus text format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Returns the sum of the samples of this name whose labels include every one of `labels` (`verdict="pass"`),
    /// or zero if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matches = |sample: &str| {
            let (sample_name, sample_labels) = sample.split_once('{').unwrap_or((sample, ""));
            sample_name == name && labels.iter().all(|label| sample_labels.contains(label))
        };
        self.0.iter().filter(|(sample, _)| matches(sample)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_other_labels() {
        let metrics =
            Metrics::parse("# TYPE a counter\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 7\nab 1\n# EOF\n");
        assert_eq!(metrics.sum("a", &["x=\"1\""]), 5.0);
        assert_eq!(metrics.sum("a", &[]), 12.0);
        assert_eq!(metrics.sum("none", &[]), 0.0);
    }
}
