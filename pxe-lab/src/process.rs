//! A program that runs beside the test, with its output captured. It is ended when it is dropped.

use std::{
    fs::File,
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// The number of output lines in an error.
const TAIL_LINES: usize = 40;

/// A child process. Its standard output and error are read as they come, into one text.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    bytes: Vec<u8>,
    /// Pipes that are still open.
    readers: usize,
    /// The child has ended.
    ended: bool,
}

impl Process {
    /// Starts the command with nothing on its standard input. Error messages use the name.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        Self::spawn_to(name, command, [Stdio::piped(), Stdio::piped()])
    }

    /// Starts the command with its standard output and error connected to these. Only pipes made here are read.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn spawn_to(name: &str, command: &mut Command, [stdout, stderr]: [Stdio; 2]) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Self::start(name, command, None)
    }

    /// Starts a command whose standard input, output and error are a terminal. Reads what it writes from the other end of the terminal.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub(crate) fn spawn_on(name: &str, command: &mut Command, terminal: File) -> anyhow::Result<Self> {
        Self::start(name, command, Some(terminal))
    }

    fn start(name: &str, command: &mut Command, terminal: Option<File>) -> anyhow::Result<Self> {
        let mut child = command.process_group(0).spawn().with_context(|| format!("cannot start {command:?}"))?;
        let output = Arc::new(Output::default());
        if let Some(terminal) = terminal {
            read_along(&output, terminal);
        }
        if let Some(pipe) = child.stdout.take() {
            read_along(&output, pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            read_along(&output, pipe);
        }
        let id = Pid::from_raw(i32::try_from(child.id())?);
        let at_end = Arc::clone(&output);
        thread::spawn(move || {
            // WNOWAIT leaves the child to be waited for; an error means that this has happened.
            while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
            at_end.lock().ended = true;
            at_end.changed.notify_all();
        });
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all output so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().bytes).into_owned()
    }

    /// Waits for a whole line that contains `pattern`, from the beginning of the output, and returns it
    /// without its line end.
    ///
    /// # Errors
    ///
    /// Fails if the time is up, or if the process ends without such a line; the error holds its last lines.
    pub fn wait_for_line(&self, pattern: &str, within: Duration) -> anyhow::Result<String> {
        self.wait_for_any(&[pattern], within)
    }

    /// Waits for the first line that contains one of the patterns.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::wait_for_line`].
    pub fn wait_for_any(&self, patterns: &[&str], within: Duration) -> anyhow::Result<String> {
        self.wait_until(patterns[0], within, |bytes| find_line(bytes, patterns))
    }

    /// Waits until the output contains this text, in a whole line or not.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::wait_for_line`].
    pub fn wait_for_text(&self, text: &str, within: Duration) -> anyhow::Result<()> {
        self.wait_until(text, within, |bytes| String::from_utf8_lossy(bytes).contains(text).then_some(()))
    }

    fn wait_until<T>(&self, what: &str, within: Duration, find: impl Fn(&[u8]) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        let mut state = self.output.lock();
        loop {
            if let Some(found) = find(&state.bytes) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let problem = if state.readers == 0 {
                "ended".to_owned()
            } else if left.is_zero() {
                format!("has not within {} s", within.as_secs())
            } else {
                state = self.output.wait(state, left);
                continue;
            };
            bail!(
                "{} was expected to write {what:?} but {problem}. Its last lines:\n{}",
                self.name,
                tail(&state.bytes)
            );
        }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error holds its last lines.
    pub fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        let mut state = self.output.lock();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lines = tail(&state.bytes);
                bail!("{} has not ended within {} s. Its last lines:\n{lines}", self.name, within.as_secs());
            }
            state = self.output.wait(state, left);
        }
        // Reads the remaining output. Grandchildren may hold the pipes open for longer.
        let deadline = Instant::now() + Duration::from_secs(1);
        while state.readers > 0 && Instant::now() < deadline {
            state = self.output.wait(state, deadline.saturating_duration_since(Instant::now()));
        }
        drop(state);
        Ok(self.child.wait()?)
    }

    /// Returns `true` while the process runs.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot tell.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// Fails if it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Returns its last lines, for an error message.
    #[must_use]
    pub fn last_lines(&self) -> String {
        tail(&self.output.lock().bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // The child leads its own process group, so its children are killed with it.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, OutputState>, at_most: Duration) -> MutexGuard<'a, OutputState> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }
}

fn read_along(output: &Arc<Output>, mut pipe: impl Read + Send + 'static) {
    output.lock().readers += 1;
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            output.lock().bytes.extend_from_slice(&buffer[..count]);
            output.changed.notify_all();
        }
        output.lock().readers -= 1;
        output.changed.notify_all();
    });
}

/// Returns the first complete line that contains one of the patterns. Consoles end lines with CR LF.
fn find_line(bytes: &[u8], patterns: &[&str]) -> Option<String> {
    let end = bytes.iter().rposition(|&byte| byte == b'\n')?;
    String::from_utf8_lossy(&bytes[..end])
        .split('\n')
        .find(|line| patterns.iter().any(|pattern| line.contains(pattern)))
        .map(|line| line.trim_matches('\r').to_owned())
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn line_is_waited_for() {
        let process =
            Process::spawn("sh", Command::new("sh").args(["-c", "echo one; echo two >&2; sleep 60"])).unwrap();
        assert_eq!(process.wait_for_line("tw", SOON).unwrap(), "two");
        assert_eq!(process.wait_for_line("on", SOON).unwrap(), "one");
    }

    #[test]
    fn ended_process_is_not_waited_for() {
        let mut process = Process::spawn("sh", Command::new("sh").args(["-c", "echo said; exit 3"])).unwrap();
        let error = process.wait_for_line("never", SOON).unwrap_err().to_string();
        assert!(error.contains("ended") && error.contains("said"), "{error}");
        assert_eq!(process.wait(SOON).unwrap().code(), Some(3));
    }

    #[test]
    fn unfinished_line_does_not_count() {
        assert_eq!(find_line(b"a=1\r\nb=2", &["b"]), None);
        assert_eq!(find_line(b"a=1\r\nb=2\r\n", &["b"]), Some("b=2".to_owned()));
    }
}
