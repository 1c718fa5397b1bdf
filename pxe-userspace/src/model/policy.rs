//! Boot policies, and the ways to a machine's own disk.

use serde::Serialize;
use utoipa::ToSchema;

/// The rule by which a machine boots from the network or from its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Until it has been seen to run from its own disk.
    #[default]
    Auto,
    /// At every power-on.
    Always,
    /// Until it has been given its kernel once. After that it is sent to its disk.
    Once,
    /// Never: it is sent to its disk.
    Hold,
}

/// The way in which a machine is sent to its own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRoute {
    /// On UEFI, iPXE exits with an error, so that the firmware tries its next boot entry. On a BIOS, iPXE starts the first
    /// disk itself, and exits if that fails.
    #[default]
    Auto,
    /// iPXE exits with an error, for firmware that then continues with its boot order.
    Exit,
    /// iPXE starts the first disk, for firmware that would try the network again.
    Sanboot,
    /// The request for the script gets 404, after which iPXE gives up.
    NotFound,
}

/// The place that a machine boots from when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It gets its loader, script and kernel.
    Network,
    /// It gets its address and is told to boot from its own disk.
    Disk,
}
