//! The addresses and settings that the cases and the model of the maps share.

use core::{net::Ipv4Addr, num::NonZeroU32};

use crate::{
    layout::{Settings, UnknownMachines},
    mac::MacAddr,
};

/// The machine that every world knows and that the frames name.
pub const KNOWN: MacAddr = MacAddr([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);
/// Another machine that every world knows.
pub const OTHER: MacAddr = MacAddr([0x52, 0x54, 0x00, 0x12, 0x34, 0x57]);
/// A machine that no world knows.
pub const UNKNOWN: MacAddr = MacAddr([0x52, 0x54, 0x00, 0x65, 0x43, 0x21]);
/// The address of our server in every world.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The addresses that are ours in every world: the server's, another one of its interface, and the broadcast addresses of
/// their networks, 10.0.0.0/24 and 192.168.4.0/22.
pub const OURS: [Ipv4Addr; 4] =
    [SERVER, Ipv4Addr::new(192, 168, 4, 9), Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(192, 168, 7, 255)];
/// The VLANs that every world serves.
pub const VLANS: [u16; 2] = [100, 200];

/// The tokens in a small bucket. None is refilled while a test runs.
pub const SMALL_BURST: u64 = 4;

/// Returns settings with a bucket of [`SMALL_BURST`] tokens that takes days to refill.
#[must_use]
pub fn small_bucket(unknown: UnknownMachines) -> Settings {
    let day_ns = 86_400 * 1_000_000_000;
    let settings = Settings::new(unknown, NonZeroU32::MIN, NonZeroU32::MIN);
    Settings { refill_ns: day_ns, tolerance_ns: day_ns * (SMALL_BURST - 1), ..settings }
}
