//! Processor time of a server: its processes' own, and the kernel's for the network.

use std::{fs, time::Duration};

use anyhow::Context;
use pxe_lab::Namespace;

/// The unit of `/proc`: hundredths of a second (`USER_HZ`, the same on every Linux architecture that we run on).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// User and system time of every process in the server's namespace. It includes packets that the kernel handles
    /// while one of them runs, above all those that it sends.
    pub(crate) process: f64,
    /// Softirq time of the whole machine, including the client's receive path. Some of it is in `process` as well:
    /// the sum is an upper bound, equally for every server.
    pub(crate) softirq: f64,
}

impl Cpu {
    /// Returns the sum of both. Comparisons use it, so that no cost hides in the kernel.
    pub(crate) fn total(self) -> f64 {
        self.process + self.softirq
    }
}

/// A measurement that begins when it is created.
#[derive(Debug)]
pub(crate) struct Meter<'n> {
    namespace: &'n Namespace,
    begun: Cpu,
}

impl<'n> Meter<'n> {
    /// Starts to measure the processes in this namespace.
    ///
    /// # Errors
    ///
    /// Fails if `/proc` cannot be read.
    pub(crate) fn start(namespace: &'n Namespace) -> anyhow::Result<Self> {
        Ok(Self { namespace, begun: read(namespace)? })
    }

    /// Returns the time used since the start.
    ///
    /// # Errors
    ///
    /// Fails if `/proc` cannot be read.
    pub(crate) fn used(&self) -> anyhow::Result<Cpu> {
        let now = read(self.namespace)?;
        // The time of a process that has ended is no longer counted.
        Ok(Cpu {
            process: (now.process - self.begun.process).max(0.0),
            softirq: (now.softirq - self.begun.softirq).max(0.0),
        })
    }
}

/// Returns the resident memory of the processes in a namespace, in bytes.
///
/// # Errors
///
/// Fails if `/proc` cannot be read.
pub(crate) fn resident_bytes(namespace: &Namespace) -> anyhow::Result<u64> {
    let mut total = 0;
    for process in namespace.processes()? {
        let text = fs::read_to_string(format!("/proc/{process}/status")).context("a process ended")?;
        let kibibytes = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = kibibytes.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        total += kibibytes.unwrap_or(0) * 1024;
    }
    Ok(total)
}

/// Waits until the machine is idle, but no longer than `at_most`. Work that an earlier measurement left behind
/// (closing sockets, freeing memory) must not count towards the next one.
pub(crate) fn settle(at_most: Duration) {
    let deadline = std::time::Instant::now() + at_most;
    while std::time::Instant::now() < deadline {
        let Some(before) = busy_ticks() else { return };
        std::thread::sleep(Duration::from_millis(200));
        if busy_ticks().is_none_or(|after| after.saturating_sub(before) <= 2) {
            return;
        }
    }
}

fn read(namespace: &Namespace) -> anyhow::Result<Cpu> {
    let mut ticks = 0;
    for process in namespace.processes()? {
        // The process has ended meanwhile; its parent counts it.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        ticks += process_ticks(&stat).with_context(|| format!("/proc/{process}/stat: {stat}"))?;
    }
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let softirq = machine_ticks(&stat).and_then(|ticks| ticks.get(6).copied()).context("/proc/stat has no softirq")?;
    Ok(Cpu { process: ticks as f64 / TICKS_PER_SECOND, softirq: softirq as f64 / TICKS_PER_SECOND })
}

/// Returns user and system time of a process and of its ended children (proc_pid_stat(5), fields 14 to 17).
fn process_ticks(stat: &str) -> Option<u64> {
    // The name may contain any character, but ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// Returns the ticks of all processors: user, nice, system, idle, iowait, irq, softirq, …
fn machine_ticks(stat: &str) -> Option<Vec<u64>> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    line.split_whitespace().map(|field| field.parse().ok()).collect()
}

fn busy_ticks() -> Option<u64> {
    let ticks = machine_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    Some(ticks.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, ticks)| ticks).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 3 4 20 0 1 0 5 6";
        assert_eq!(process_ticks(stat), Some(37));
        assert_eq!(process_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn line_of_all_processors_is_read() {
        assert_eq!(machine_ticks("cpu  1 2 3 4 5 6 7 8\ncpu0 1"), Some(vec![1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(machine_ticks("intr 1"), None);
    }
}
