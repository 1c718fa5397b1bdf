//! Kernel settings of the whole machine for the time of a measurement.

use std::fs;

use anyhow::Context;

/// The socket buffer that an administrator sets for a storm.
const TUNED_BUFFER: u32 = 16 << 20;
/// Room for the hardware addresses of the largest fleet: one table serves all namespaces.
const NEIGHBOURS: u32 = 1 << 18;

/// Settings that are restored when this is dropped.
#[derive(Debug)]
pub(crate) struct Settings {
    before: Vec<(&'static str, String)>,
}

impl Settings {
    /// Sets 16 MiB of buffer for sockets that request none.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(crate) fn large_socket_buffers() -> anyhow::Result<Self> {
        Self::set(&["core/rmem_max", "core/rmem_default", "core/wmem_max", "core/wmem_default"], TUNED_BUFFER)
    }

    /// Raises the limit of the neighbour table (1,024 by default): no server reaches more machines than that on one cable.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(crate) fn many_neighbours() -> anyhow::Result<Self> {
        Self::set(
            &["ipv4/neigh/default/gc_thresh3", "ipv4/neigh/default/gc_thresh2", "ipv4/neigh/default/gc_thresh1"],
            NEIGHBOURS,
        )
    }

    fn set(names: &[&'static str], value: u32) -> anyhow::Result<Self> {
        let mut settings = Self { before: Vec::new() };
        for name in names {
            let file = format!("/proc/sys/net/{name}");
            settings.before.push((name, fs::read_to_string(&file).with_context(|| file.clone())?));
            fs::write(&file, value.to_string()).with_context(|| file.clone())?;
        }
        Ok(settings)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // Restore in reverse: a default must not exceed its maximum, nor one threshold the next.
        for (name, value) in self.before.drain(..).rev() {
            if let Err(error) = fs::write(format!("/proc/sys/net/{name}"), value.trim()) {
                eprintln!("xtask: cannot set net/{name} back to {}: {error}", value.trim());
            }
        }
    }
}
