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

/// The prefix of every name; the owner's process id and a counter follow.
const PREFIX: &str = "pxelab-";
const DIRECTORY: &str = "/run/netns";

/// A network namespace with its loopback interface up. Dropping it deletes it with every
/// interface in it. Processes in it must be ended first (dropping a [`crate::Process`] does so).
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace whose name contains the label.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without root or iproute2, or with the output of `ip`.
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
        // Nothing in the lab uses IPv6; its neighbour discovery would only clutter captures.
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(namespace)
    }

    /// Returns its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a command that will run inside. `ip netns exec` becomes the program, so the child's
    /// process id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside to its end, and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started or fails; the error holds its standard error.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Runs `ip -n NAME …` and returns its output.
    ///
    /// # Errors
    ///
    /// Fails with the output of `ip`.
    pub fn ip(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Returns the processes that run inside.
    ///
    /// # Errors
    ///
    /// Fails with the output of `ip`.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(ip(&["netns", "pids", &self.name])?.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// Writes a file below the namespace's `/proc/sys`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such setting.
    pub fn sysctl(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys").join(path);
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Runs `work` on a thread of its own inside, so that its sockets belong to the namespace. A panic in `work`
    /// resumes in the caller.
    ///
    /// # Errors
    ///
    /// Fails if the namespace cannot be entered.
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

    /// Returns the namespace as a file, for `setns(2)` on a thread that the caller owns.
    ///
    /// # Errors
    ///
    /// Fails if it has been deleted.
    pub fn open(&self) -> anyhow::Result<File> {
        let path = Path::new(DIRECTORY).join(&self.name);
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// GETs a URL from inside, and returns the status and the body.
    ///
    /// # Errors
    ///
    /// Fails if nobody answers.
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

/// Runs `ip …` in the caller's namespace.
///
/// # Errors
///
/// Fails with the output of `ip`.
pub fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new("ip").args(arguments))
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Errors
///
/// Fails if it cannot be started or fails; the error holds the command line and its output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}{}", output.status, errors.trim(), text.trim());
    }
    Ok(text)
}

/// Deletes the namespaces of killed runs, and ends the processes in them.
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

/// Returns the process that created the namespace of this name, if the lab did.
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
