//! Raises kernel limits to what the fleet needs.

use std::{fs, io, path::Path};

/// The limits of the kernel's neighbour table. One table serves every network namespace, but only the initial namespace
/// shows its limits.
const NEIGHBOURS: &str = "/proc/sys/net/ipv4/neigh/default";
/// The kernel's defaults of `gc_thresh1` to `gc_thresh3`.
const DEFAULT: Thresholds = Thresholds { keep: 128, soft: 512, hard: 1_024 };
/// Room for neighbours outside the fleet: routers, relays, other networks of the host.
const OTHERS: u32 = 1_024;

/// Raises the limits of the kernel's neighbour table (arp(7)) so that every machine fits. With the default limit of 1,024
/// entries, packets to the machines of a larger fleet are dropped as soon as all are powered on. Never lowers a limit. If a
/// limit cannot be raised, logs a warning with the command to run.
pub(super) fn raise_neighbours(machines: usize) {
    let machines = u32::try_from(machines).unwrap_or(u32::MAX);
    let directory = Path::new(NEIGHBOURS);
    let current = match Thresholds::read(directory) {
        Ok(current) => current,
        // In a container, the network namespace is usually not the initial one.
        Err(_) if DEFAULT.raised_for(machines).is_none() => return,
        Err(error) => {
            let wanted = DEFAULT.raised_for(machines).unwrap_or(DEFAULT);
            return tracing::warn!(
                "cannot read the size of the kernel's neighbour table ({NEIGHBOURS}: {error}). Its default is too small for \
                 {machines} machines at once. Run on the host: {}",
                wanted.command()
            );
        }
    };
    let Some(wanted) = current.raised_for(machines) else { return };
    match wanted.write(directory) {
        Ok(()) => tracing::info!(
            "raised the kernel's neighbour table to {} entries (from {}) for {machines} machines",
            wanted.hard,
            current.hard
        ),
        Err(error) => tracing::warn!(
            "the kernel's neighbour table holds {} entries, too few for {machines} machines at once, and cannot be raised \
             ({NEIGHBOURS}: {error}). Run: {}",
            current.hard,
            wanted.command()
        ),
    }
}

/// The thresholds of the neighbour table's garbage collection (arp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thresholds {
    /// `gc_thresh1`: below it, no entry is removed.
    keep: u32,
    /// `gc_thresh2`: above it, entries that were not used for five seconds are removed.
    soft: u32,
    /// `gc_thresh3`: the maximum number of entries.
    hard: u32,
}

impl Thresholds {
    /// Returns the thresholds that a fleet of this size needs, or `None` if the current ones suffice.
    fn raised_for(self, machines: u32) -> Option<Self> {
        let fleet = machines.saturating_add(OTHERS);
        if machines <= OTHERS / 2 || self.soft >= fleet && self.hard >= fleet {
            return None;
        }
        Some(Self {
            keep: self.keep.max(machines),
            soft: self.soft.max(fleet),
            hard: self.hard.max(fleet.saturating_mul(2)),
        })
    }

    fn read(directory: &Path) -> io::Result<Self> {
        let read = |name| {
            let text = fs::read_to_string(directory.join(name))?;
            text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self { keep: read("gc_thresh1")?, soft: read("gc_thresh2")?, hard: read("gc_thresh3")? })
    }

    fn write(self, directory: &Path) -> io::Result<()> {
        let Self { keep, soft, hard } = self;
        [("gc_thresh3", hard), ("gc_thresh2", soft), ("gc_thresh1", keep)]
            .into_iter()
            .try_for_each(|(name, value)| fs::write(directory.join(name), value.to_string()))
    }

    /// Returns the command that sets the thresholds.
    fn command(self) -> String {
        let Self { keep, soft, hard } = self;
        let name = "net.ipv4.neigh.default.gc_thresh";
        format!("sysctl -w {name}1={keep} {name}2={soft} {name}3={hard}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_raised_to_the_fleet_and_never_lowered() {
        assert_eq!(DEFAULT.raised_for(0), None);
        assert_eq!(DEFAULT.raised_for(512), None);
        let raised = DEFAULT.raised_for(10_000).unwrap();
        assert_eq!(raised, Thresholds { keep: 10_000, soft: 11_024, hard: 22_048 });
        assert_eq!(raised.raised_for(10_000), None, "raising them twice changes nothing");
        let generous = Thresholds { keep: 1, soft: 100_000, hard: 200_000 };
        assert_eq!(generous.raised_for(50_000), None);
        assert_eq!(generous.raised_for(150_000).unwrap().hard, 302_048);
        assert!(DEFAULT.raised_for(u32::MAX).is_some());
    }

    #[test]
    fn thresholds_are_read_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Thresholds::read(directory.path()).is_err());
        let thresholds = Thresholds { keep: 1, soft: 2, hard: 3 };
        thresholds.write(directory.path()).unwrap();
        assert_eq!(Thresholds::read(directory.path()).unwrap(), thresholds);
    }
}
