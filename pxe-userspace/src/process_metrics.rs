//! The process as metrics, under the names that every Prometheus client uses, and the version of the program.

use std::{fmt, fs};

use nix::sys::resource::{UsageWho, getrusage};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use crate::metrics::Families;

/// The ticks per second in `/proc`. The kernel has promised this number to user space on every architecture that pxed is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time, memory and start time of this process.
#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let times = [usage.user_time(), usage.system_time()];
            let seconds: f64 = times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum();
            families.counter_of_seconds("process_cpu_seconds", "Processor time of the process", seconds)?;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = |field| kilobytes(&status, field).map(|kilobytes| kilobytes.saturating_mul(1_024));
        if let Some(bytes) = memory("VmRSS:") {
            families.gauge("process_resident_memory_bytes", "Memory of the process that is resident", bytes)?;
        }
        if let Some(bytes) = memory("VmSize:") {
            families.gauge("process_virtual_memory_bytes", "Address space of the process", bytes)?;
        }
        let (own, host) = (fs::read_to_string("/proc/self/stat"), fs::read_to_string("/proc/stat"));
        if let Some(seconds) = own.ok().zip(host.ok()).and_then(|(own, host)| started(&own, &host)) {
            let help = "Time at which the process was started, in seconds since 1970";
            families.gauge_of_seconds("process_start_time_seconds", help, seconds)?;
        }
        Ok(())
    }
}

/// Returns a field of `/proc/self/status`.
fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the start of a process in seconds since 1970, from its own `stat` and the host's.
fn started(own: &str, host: &str) -> Option<f64> {
    // The name of the program is in parentheses and may contain anything. The start is the twentieth field behind it.
    let ticks: f64 = own.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let booted: f64 = host.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + ticks / TICKS_PER_SECOND)
}

/// The version of the program.
#[derive(Debug)]
pub struct BuildMetrics;

impl Collector for BuildMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let mut family = families.gauges("build_info", "The version of pxed and what it was built for, always 1")?;
        family.member(&[("version", env!("CARGO_PKG_VERSION")), ("architecture", std::env::consts::ARCH)], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_is_read_behind_a_name_of_any_kind() {
        let fields = (4..22).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let own = format!("12 (a) 1 (b)) S {fields} 250 99");
        assert_eq!(started(&own, "cpu 1 2\nbtime 1000\nprocesses 3\n"), Some(1_002.5));
        for (own, host) in [("", "btime 1\n"), ("12 (a) S 1", "btime 1\n"), (&own, "cpu 1\n"), (&own, "btime x\n")] {
            assert_eq!(started(own, host), None, "{own} {host}");
        }
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t  1234 kB\n", "VmRSS:"), Some(1_234));
        assert_eq!(kilobytes("VmRSS:\n", "VmRSS:"), None);
    }

    #[test]
    fn process_tells_what_it_uses() {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 1e6);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
