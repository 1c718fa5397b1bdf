//! A Debian system of the test's own, which its own systemd runs in a network namespace of the lab.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pxe_lab::{Namespace, Process, build, namespace::output, requires, suite::eventually};
use tempfile::TempDir;

/// The packages of the system besides Debian's essential ones.
const PACKAGES: &str = "dbus,init-system-helpers,systemd,systemd-sysv";

/// The needs of pxed's service from the machine around the container.
const CAPABILITIES: &str = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK";

/// The time limit for a step on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running system. It is ended and deleted when it is dropped.
pub(crate) struct System {
    leader: Pid,
    nspawn: Process,
    root: TempDir,
}

impl System {
    /// Makes a system and starts it in the namespace.
    ///
    /// # Errors
    ///
    /// Fails if a program is missing, or if systemd does not come up.
    pub(crate) fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        requires::root()?;
        requires::tools(&["systemd-nspawn", "nsenter", "tar"])?;
        let base = base()?;
        let root = tempfile::Builder::new().prefix("packaging-").tempdir_in(cache()?)?;
        output(Command::new("tar").args(["-xpf"]).arg(&base).arg("-C").arg(root.path()))?;
        fs::write(root.path().join("etc/machine-id"), "5c6e1d0f8a5b4c3e9f1a2b3c4d5e6f70\n")?;
        // It would wait for interfaces that nobody manages.
        let units = root.path().join("etc/systemd/system");
        symlink("/dev/null", units.join("systemd-networkd-wait-online.service"))?;
        let mut command = Command::new("systemd-nspawn");
        command.args(["--boot", "--register=no", "--keep-unit", "--console=pipe", "--quiet", "--machine=packaging"]);
        command.arg(format!("--directory={}", root.path().display()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", namespace.name()));
        command.args(["--system-call-filter=openat2 bpf perf_event_open", &format!("--capability={CAPABILITIES}")]);
        let nspawn = Process::spawn("systemd-nspawn", &mut command)?;
        let mut system = Self { leader: Pid::from_raw(0), nspawn, root };
        eventually("the system is up", SOON, || {
            // Its first child is one that prepares the container.
            let children = format!("/proc/{0}/task/{0}/children", system.nspawn.id());
            let children = fs::read_to_string(&children).context("systemd-nspawn has ended")?;
            let Some(leader) = children.split_whitespace().next().and_then(|child| child.parse().ok()) else {
                return Ok(false);
            };
            system.leader = Pid::from_raw(leader);
            let state = system.command("systemctl").arg("is-system-running").output()?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            // A container lacks some of what units of the base system want.
            Ok(state == "running" || state == "degraded")
        })
        .with_context(|| system.nspawn.last_lines())?;
        Ok(system)
    }

    /// Returns a path in the system.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Returns `true` if the system has this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Returns a command that will run in the system.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.leader)).args(["--all", "--", program]);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }

    /// Runs a program in the system to its end, and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails if it fails; the error holds its output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Returns a property of the service.
    pub(crate) fn service(&self, property: &str) -> anyhow::Result<String> {
        let value = self.run("systemctl", &["show", "--value", "--property", property, "pxed.service"])?;
        Ok(value.trim().to_owned())
    }

    /// Waits until a property of the service satisfies `is_right`, and returns it.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error holds the service's log.
    pub(crate) fn wait_for(&self, property: &str, is_right: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut value = String::new();
        eventually(&format!("{property} of the service"), SOON, || {
            value = self.service(property)?;
            Ok(is_right(&value))
        })
        .with_context(|| format!("{property} is {value:?}\n{}", self.log()))?;
        Ok(value)
    }

    /// Returns the log of the service.
    pub(crate) fn log(&self) -> String {
        let arguments = ["--unit=pxed.service", "--no-pager", "--output=cat"];
        self.run("journalctl", &arguments).unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // The kernel ends every process of the container with its init.
        if self.leader.as_raw() > 0 {
            let _ = kill(self.leader, Signal::SIGKILL);
        }
        let _ = self.nspawn.wait(SOON);
    }
}

fn cache() -> anyhow::Result<PathBuf> {
    let cache = build::target().join("lab-cache");
    fs::create_dir_all(&cache)?;
    Ok(cache)
}

/// Returns the archive of a fresh system of this machine's release, which is made once.
fn base() -> anyhow::Result<PathBuf> {
    let release = output(Command::new("sh").args(["-c", ". /etc/os-release; echo ${VERSION_CODENAME-}"]))?;
    let release = release.trim();
    ensure!(!release.is_empty(), requires::Skip("/etc/os-release names no release of Debian".to_owned()));
    let archive = cache()?.join(format!("debian-{release}.tar"));
    // Another test program may be making it.
    let lock = File::create(archive.with_extension("lock"))?;
    lock.lock()?;
    if !archive.exists() {
        requires::tools(&["mmdebstrap"])?;
        make(release, &archive)?;
    }
    Ok(archive)
}

fn make(release: &str, archive: &Path) -> anyhow::Result<()> {
    let partial = archive.with_extension("partial.tar");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), release]).arg(&partial);
    output(&mut command)?;
    fs::rename(&partial, archive).context("the archive of the Debian system")
}
