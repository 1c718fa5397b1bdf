//! Network namespaces that delete themselves.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

use crate::requires;

/// Every name begins like this, then the process that owns it, then a counter.
const PREFIX: &str = "pxelab-";
const DIRECTORY: &str = "/run/netns";

/// A network namespace with its loopback interface up. Dropped, it is deleted, and with it every
/// interface in it; processes in it must be ended first (a [`crate::Process`] is, when dropped).
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. The label shows up in its name.
    ///
    /// # Errors
    ///
    /// [`requires::Skip`] without root or iproute2; else what `ip` said.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        requires::root()?;
        requires::tools(&["ip"])?;
        SWEEP.call_once(sweep);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Nobody here speaks IPv6; its neighbour discovery would only blur captures.
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. `ip netns exec` becomes the program, so that the child's
    /// process id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails; with its standard error.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.command(program).args(arguments))
    }

    /// `ip -n NAME …`.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub fn ip(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// The processes that run inside.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(ip(&["netns", "pids", &self.name])?.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// Writes a file below `/proc/sys` as it is inside.
    ///
    /// # Errors
    ///
    /// When there is no such setting.
    pub fn sysctl(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys").join(path);
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Runs `work` on a thread of its own that lives inside, so that the sockets that it opens do
    /// too. A panic in `work` goes on in the caller.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok::<_, nix::Error>(work())
            });
            match thread.join() {
                Ok(result) => result.with_context(|| format!("cannot enter the namespace {}", self.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The namespace as a file, for `setns(2)` on a thread that the caller owns.
    ///
    /// # Errors
    ///
    /// When it has been deleted.
    pub fn open(&self) -> anyhow::Result<File> {
        let path = Path::new(DIRECTORY).join(&self.name);
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// GETs a URL from inside; returns the status and the body.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn http_get(&self, url: &str) -> anyhow::Result<(u16, String)> {
        self.enter(|| {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut response = agent.get(url).call()?;
            let body = response.body_mut().read_to_string()?;
            anyhow::Ok((response.status().as_u16(), body))
        })?
        .with_context(|| format!("GET {url} in {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// `ip …` in our own namespace.
///
/// # Errors
///
/// What `ip` said.
pub fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new("ip").args(arguments))
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Errors
///
/// When it cannot be started or fails: the command line and what it said.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}{}", output.status, errors.trim(), text.trim());
    }
    Ok(text)
}

/// Deletes the namespaces of runs that were killed, and ends what still runs in them.
fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if owner(&name).is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
            && let Err(error) = remove_leftover(&name)
        {
            eprintln!("lab: cannot remove the leftover namespace {name}: {error:#}");
        }
    }
}

fn remove_leftover(name: &str) -> anyhow::Result<()> {
    for process in ip(&["netns", "pids", name])?.lines().filter_map(|line| line.trim().parse().ok()) {
        let process = nix::unistd::Pid::from_raw(process);
        match nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    ip(&["netns", "delete", name]).map(drop)
}

/// The process that made the namespace of this name, if the lab made it.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_from_the_name() {
        assert_eq!(owner("pxelab-4711-0-net"), Some(4711));
        assert_eq!(owner("pxelab-net"), None);
        assert_eq!(owner("somebody-4711-0"), None);
    }
}
