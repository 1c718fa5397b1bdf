//! perfdhcp, ISC's load generator: complete four-way exchanges at a fixed rate, through a relay's address.

use std::time::Duration;

use anyhow::Context;
use pxe_lab::{Namespace, Process};

use crate::bench::{
    lab::{FIRST_MAC, INTERFACE},
    peers::unpacked::Unpacked,
};

/// The time that perfdhcp waits for the last replies.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The number of machines that take turns.
    pub(super) machines: u32,
    /// Exchanges started per second.
    pub(super) rate: u32,
    pub(super) seconds: u32,
}

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// DISCOVERs sent.
    pub(super) begun: u64,
    /// ACKs received.
    pub(super) completed: u64,
    /// From DISCOVER to OFFER, in milliseconds, sorted; empty unless asked for.
    pub(super) offer_ms: Vec<f64>,
}

impl Outcome {
    /// Returns the part of the exchanges that was not completed.
    pub(super) fn lost(&self) -> f64 {
        if self.begun == 0 { 1.0 } else { 1.0 - self.completed as f64 / self.begun as f64 }
    }

    /// Returns the milliseconds within which this part of the offers came.
    pub(super) fn offers_within(&self, part: f64) -> Option<f64> {
        let last = self.offer_ms.len().checked_sub(1)?;
        self.offer_ms.get((last as f64 * part).round() as usize).copied()
    }
}

/// Runs perfdhcp in the client's namespace. With `latencies` it keeps every packet, which makes it slower.
///
/// # Errors
///
/// Fails if perfdhcp cannot be run or its report cannot be read.
pub(super) fn run(kea: &Unpacked, client: &Namespace, load: Load, latencies: bool) -> anyhow::Result<Outcome> {
    let Load { machines, rate, seconds } = load;
    let mac = FIRST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let mut command = kea.command(client, "perfdhcp")?;
    command.args(["-4", "-l", INTERFACE, "-b", &format!("mac={mac}"), "-R", &machines.to_string()]);
    command.args(["-r", &rate.to_string(), "-p", &seconds.to_string(), "-W", &LAST_REPLIES.as_micros().to_string()]);
    if latencies {
        command.args(["-x", "t"]);
    }
    let mut process = Process::spawn("perfdhcp", &mut command)?;
    // The exit code only says whether anything was lost; the report says how much.
    process.wait(Duration::from_secs(u64::from(seconds) + 60))?;
    let report = process.output();
    read(&report).with_context(|| format!("perfdhcp said: {}", report.lines().take(40).collect::<Vec<_>>().join("\n")))
}

fn read(report: &str) -> Option<Outcome> {
    let section = |title: &str| report.split_once(title).map(|(_, rest)| rest.split("***").next().unwrap_or(rest));
    let count = |section: &str, key: &str| section.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    let offers = section("***Statistics for: DISCOVER-OFFER***")?;
    let acks = section("***Statistics for: REQUEST-ACK***")?;
    let stamps = section("***Timestamps for packets: DISCOVER-OFFER***").unwrap_or_default();
    let mut offer_ms: Vec<_> = stamps.lines().filter_map(latency_ms).collect();
    offer_ms.sort_by(f64::total_cmp);
    Some(Outcome { begun: count(offers, "sent packets:")?, completed: count(acks, "received packets:")?, offer_ms })
}

/// Parses `sent / received: 000000.000079 / 000000.000626`, in seconds since perfdhcp began.
fn latency_ms(line: &str) -> Option<f64> {
    let (sent, received) = line.strip_prefix("sent / received:")?.split_once('/')?;
    let (sent, received): (f64, f64) = (sent.trim().parse().ok()?, received.trim().parse().ok()?);
    Some((received - sent) * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_read() {
        let report = "***Rate statistics***\nRate: 1 4-way\n\n***Statistics for: DISCOVER-OFFER***\nsent packets: 10\n\
            received packets: 9\n\n***Statistics for: REQUEST-ACK***\nsent packets: 9\nreceived packets: 8\n\n\
            ***Timestamps for packets: DISCOVER-OFFER***\nsent / received: 000000.000079 / 000000.000579\n\
            sent / received: 000000.001000 / 000000.003000\n";
        let outcome = read(report).unwrap();
        assert_eq!((outcome.begun, outcome.completed), (10, 8));
        assert!((outcome.lost() - 0.2).abs() < 1e-9);
        assert_eq!(outcome.offers_within(0.0).map(|ms| (ms * 10.0).round()), Some(5.0));
        assert_eq!(outcome.offers_within(1.0).map(f64::round), Some(2.0));
        assert_eq!(read("nothing"), None);
    }
}
