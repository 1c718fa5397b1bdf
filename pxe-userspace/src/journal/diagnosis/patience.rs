//! The times after which something is wrong.

use std::time::Duration;

use super::super::stage::Stage;

/// The time after which something is wrong at a stage that takes a healthy machine seconds. iPXE may wait 16 s for IPv6 router
/// advertisements, and a switch port without PortFast 30 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);
/// The same for kernels and initramfs images, which take longer on slow links, and for the start of Talos.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// Returns the time after which something is wrong with a machine that stays at this stage; `None` if it may stay there for ever.
#[must_use]
pub const fn patience(stage: Stage) -> Option<Duration> {
    match stage {
        Stage::Discovering
        | Stage::Offered
        | Stage::Addressed
        | Stage::LoadingLoader
        | Stage::LoaderDone
        | Stage::IpxeDiscovering
        | Stage::IpxeAddressed
        | Stage::Scripted
        | Stage::KernelDone => Some(PATIENCE),
        Stage::LoadingKernel | Stage::LoadingInitramfs => Some(LONG_PATIENCE),
        // It waits for a file or a person, or runs, perhaps without ever asking.
        Stage::NeverSeen
        | Stage::AwaitingFiles
        | Stage::Booting
        | Stage::Running
        | Stage::Up
        | Stage::SentToDisk
        | Stage::OnDisk
        | Stage::Failed => None,
    }
}
