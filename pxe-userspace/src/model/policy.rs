//! Whether a machine boots from the network, and which way it goes to its disk.

use serde::Serialize;

/// Whether a machine boots from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Until it has been seen to run from its own disk.
    #[default]
    Auto,
    /// At every power-on.
    Always,
    /// Until it was given its kernel once; afterwards it is sent to its disk.
    Once,
    /// Not at all: it is sent to its disk.
    Hold,
}

/// Which way a machine is sent to its own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRoute {
    /// UEFI leaves iPXE with an error, so that the firmware tries its next boot entry; a BIOS starts the
    /// first disk itself, and leaves where it cannot.
    #[default]
    Auto,
    /// Leaves iPXE with an error, for firmware that goes on with its boot order then.
    Exit,
    /// Starts the first disk out of iPXE, for firmware that would try the network again.
    Sanboot,
    /// There is no script: 404, after which iPXE gives up by itself.
    NotFound,
}

/// Where a machine that asks to boot is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It gets its loader, script, kernel.
    Network,
    /// It gets its address, and is told to boot from its own disk.
    Disk,
}
