//! Containers of pxed's image, unpacked by umoci and run by runc as Kubernetes would.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{dist, namespace::Namespace, namespace::output, process::Process, requires};

/// The user of the image.
pub const USER: u32 = 65_532;

/// The capabilities that pxed needs, as `securityContext.capabilities.add` names them.
pub const CAPABILITIES: [&str; 6] = ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "BPF", "PERFMON", "IPC_LOCK"];

/// The largest amount of locked memory without `CAP_IPC_LOCK`, which is what a node usually allows.
const LOCKED_MEMORY: u64 = 8 << 20;

/// An unpacked image.
#[derive(Debug)]
pub struct Image {
    directory: TempDir,
}

/// The security context of a container, and what it sees of the host.
#[derive(Clone, Debug)]
pub struct Security<'a> {
    /// `runAsUser`; by default the image's.
    pub user: u32,
    /// `capabilities.add`, after `drop: [ALL]`.
    pub capabilities: Vec<&'a str>,
    /// `allowPrivilegeEscalation`.
    pub may_escalate: bool,
}

impl Default for Security<'_> {
    fn default() -> Self {
        Self { user: USER, capabilities: CAPABILITIES.into(), may_escalate: true }
    }
}

/// A running container. It is deleted when it is dropped.
#[derive(Debug)]
pub struct Container {
    /// runc in the foreground, with pxed's output.
    pub process: Process,
    name: String,
    root: PathBuf,
    _bundle: TempDir,
}

impl Image {
    /// Builds the image and unpacks it.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without root, umoci or runc, and if the image cannot be built or read.
    pub fn unpack() -> anyhow::Result<Self> {
        requires::root()?;
        requires::tools(&["umoci", "runc", "tar"])?;
        let archive = dist::image()?;
        let directory = TempDir::new()?;
        let layout = directory.path().join("layout");
        fs::create_dir(&layout)?;
        output(Command::new("tar").arg("-C").arg(&layout).arg("-xf").arg(&archive))?;
        let index: Value = serde_json::from_reader(File::open(layout.join("index.json"))?)?;
        let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
        let image = format!("{}:{}", layout.display(), tag.as_str().context("the image has no tag")?);
        output(Command::new("umoci").args(["unpack", "--image", &image]).arg(directory.path().join("bundle")))?;
        Ok(Self { directory })
    }

    /// Returns the file of the image at this absolute path.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join("bundle/rootfs").join(path.trim_start_matches('/'))
    }

    /// Starts a container in the network of a namespace. Its root is read-only; `mounts` are pairs of a host's path and the container's.
    /// `arguments` follow the image's entry point.
    ///
    /// # Errors
    ///
    /// Fails if runc cannot be started.
    pub fn start(
        &self,
        namespace: &Namespace,
        security: &Security<'_>,
        mounts: &[(&Path, &str)],
        arguments: &[&str],
    ) -> anyhow::Result<Container> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("pxelab-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let bundle = TempDir::new()?;
        let unpacked = File::open(self.directory.path().join("bundle/config.json"))?;
        let config = configuration(
            serde_json::from_reader(unpacked)?,
            &self.file("/"),
            &format!("/run/netns/{}", namespace.name()),
            security,
            mounts,
            arguments,
        )
        .context("umoci's configuration is not as expected")?;
        fs::write(bundle.path().join("config.json"), config.to_string())?;
        let root = bundle.path().join("state");
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(&root).args(["run", "--bundle"]).arg(bundle.path()).arg(&name);
        Ok(Container { process: Process::spawn("pxed in a container", &mut runc)?, name, root, _bundle: bundle })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It ends the program, too. If it fails, the container has ended and is gone already.
        let mut runc = Command::new("runc");
        let _ = runc.arg("--root").arg(&self.root).args(["delete", "--force", &self.name]).output();
    }
}

/// Returns umoci's configuration as Kubernetes would have it: with this security context, in this network, without a terminal.
fn configuration(
    mut config: Value,
    root: &Path,
    network: &str,
    security: &Security<'_>,
    mounts: &[(&Path, &str)],
    arguments: &[&str],
) -> Option<Value> {
    let entry_point = config["process"]["args"].as_array()?.first()?.clone();
    let arguments: Vec<_> = [entry_point].into_iter().chain(arguments.iter().map(|&word| word.into())).collect();
    let capabilities: Vec<_> = security.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    let process = config["process"].as_object_mut()?;
    process.insert("terminal".to_owned(), false.into());
    process.insert("args".to_owned(), arguments.into());
    process.insert("noNewPrivileges".to_owned(), (!security.may_escalate).into());
    process.insert("user".to_owned(), json!({"uid": security.user, "gid": security.user}));
    // Docker's way: a user who is not root begins without any, and has those of the file. containerd leaves them permitted, which asks less
    // of the image.
    let sets = if security.user == 0 { &["bounding", "effective", "permitted"][..] } else { &["bounding"] };
    let sets: serde_json::Map<_, _> = sets.iter().map(|&set| (set.to_owned(), json!(capabilities))).collect();
    process.insert("capabilities".to_owned(), sets.into());
    process.insert(
        "rlimits".to_owned(),
        json!([{"type": "RLIMIT_MEMLOCK", "soft": LOCKED_MEMORY, "hard": LOCKED_MEMORY}]),
    );
    config["root"] = json!({"path": root, "readonly": true});
    let all = config["mounts"].as_array_mut()?;
    all.retain(|mount| mount["type"] != "cgroup");
    all.extend(mounts.iter().map(|(host, container)| {
        json!({"destination": container, "type": "bind", "source": host, "options": ["bind", "nosuid", "nodev", "noexec"]})
    }));
    let linux = config["linux"].as_object_mut()?;
    linux.remove("resources");
    let namespaces = linux.get_mut("namespaces")?.as_array_mut()?;
    namespaces.retain(|namespace| !["network", "user", "cgroup"].iter().any(|kind| namespace["type"] == **kind));
    namespaces.push(json!({"type": "network", "path": network}));
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    Some(config)
}
