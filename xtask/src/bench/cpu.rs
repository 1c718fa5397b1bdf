//! What a server costs: its own processor time, and the kernel's for the network.

use std::{fs, time::Duration};

use anyhow::Context;
use pxe_lab::Namespace;

/// `/proc` counts in hundredths of a second (`USER_HZ`, the same on every Linux architecture that we run on).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// User and system time of every process in the server's namespace. Packets that the kernel handles while one of
    /// them runs are in it, those that it sends most of all.
    pub(crate) process: f64,
    /// Softirq time of the whole machine, the client's receive path included. Some of it is in `process` as well:
    /// the sum is an upper bound, for every server alike.
    pub(crate) softirq: f64,
}

impl Cpu {
    /// Both together: what a comparison uses, so that nothing hides in the kernel.
    pub(crate) fn total(self) -> f64 {
        self.process + self.softirq
    }
}

/// Measures from its creation on.
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
    /// When `/proc` does not tell.
    pub(crate) fn start(namespace: &'n Namespace) -> anyhow::Result<Self> {
        Ok(Self { namespace, begun: read(namespace)? })
    }

    /// What was used since.
    ///
    /// # Errors
    ///
    /// When `/proc` does not tell.
    pub(crate) fn used(&self) -> anyhow::Result<Cpu> {
        let now = read(self.namespace)?;
        // A process that ended takes its time along.
        Ok(Cpu {
            process: (now.process - self.begun.process).max(0.0),
            softirq: (now.softirq - self.begun.softirq).max(0.0),
        })
    }
}

/// The resident memory of the processes in a namespace, in bytes.
///
/// # Errors
///
/// When `/proc` does not tell.
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

/// Waits for a moment in which the machine does nothing else, at most for so long: what an earlier measurement left to do
/// (closing sockets, freeing memory) is not the next one's.
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
        // Gone meanwhile: counted by its parent.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        ticks += process_ticks(&stat).with_context(|| format!("/proc/{process}/stat: {stat}"))?;
    }
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let softirq = machine_ticks(&stat).and_then(|ticks| ticks.get(6).copied()).context("/proc/stat has no softirq")?;
    Ok(Cpu { process: ticks as f64 / TICKS_PER_SECOND, softirq: softirq as f64 / TICKS_PER_SECOND })
}

/// User and system time of a process and of its children that have ended (proc_pid_stat(5), fields 14 to 17).
fn process_ticks(stat: &str) -> Option<u64> {
    // The name may hold anything but ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// user, nice, system, idle, iowait, irq, softirq, … of all processors.
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
