//! The times after which something is wrong.

use std::time::Duration;

/// The time after which something is wrong at a stage that takes a healthy machine seconds. iPXE may wait 16 s for IPv6 router
/// advertisements, and a switch port without PortFast 30 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);
/// The same for kernels and initramfs images, which take longer on slow links, and for the start of Talos.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(180);
