//! Names and layouts of the BPF maps that the XDP program and userspace share.

use core::num::NonZeroU32;

use crate::mac::MacAddr;

/// The hash map of known machines: [`MachineKey`] to [`MachineState`].
pub const MACHINES: &str = "MACHINES";
/// The hash set of addresses that requests for us are sent to, besides 255.255.255.255: the interface's own addresses and
/// the broadcast addresses of its networks. IPv4 in network byte order (`[u8; 4]`) to `u8`.
pub const ADDRESSES: &str = "ADDRESSES";
/// The VLANs that are served: an array indexed by VLAN, with `u8` values that are not 0 if the VLAN is served.
pub const VLANS: &str = "VLANS";
/// Known machines that asked on a VLAN that is not served: [`MachineKey`] to VLAN (`u16`). Userspace empties it.
pub const STRAYS: &str = "STRAYS";
/// The AF_XDP sockets, by receive queue.
pub const XSKS: &str = "XSKS";
/// The per-CPU counters, indexed by [`Counter`](crate::Counter), each a `u64`.
pub const COUNTERS: &str = "COUNTERS";
/// The one [`Settings`] value, at index 0.
pub const SETTINGS: &str = "SETTINGS";
/// The name of the XDP program in the object.
pub const PROGRAM: &str = "pxed";
/// The global (`u8`) that sets how much the program logs through aya-log. It is set before the program is loaded, so
/// that the verifier removes what is not wanted.
pub const LOG_LEVEL: &str = "LOG_LEVEL";
/// [`LOG_LEVEL`]: nothing. The default; costs nothing.
pub const LOG_SILENT: u8 = 0;
/// [`LOG_LEVEL`]: each request of a known machine that is not answered. aya-log's number for warnings.
pub const LOG_WARN: u8 = 2;
/// [`LOG_LEVEL`]: also each malformed frame. aya-log's number for debugging.
pub const LOG_DEBUG: u8 = 4;

/// Room in [`MACHINES`] unless userspace asks for more at load time.
pub const MACHINES_CAPACITY: u32 = 131_072;
/// Receive queues that one interface can have.
pub const QUEUES_CAPACITY: u32 = 256;
/// Room in [`ADDRESSES`]. Hosts of load balancers have a thousand addresses on an interface.
pub const ADDRESSES_CAPACITY: u32 = 4096;

/// The numbers of VLANs, of which 0 and 4095 are not used (IEEE 802.1Q §9.6).
pub const VLAN_NUMBERS: u32 = 4096;
/// Room in [`STRAYS`]. Further machines are noted when userspace has emptied it.
pub const STRAYS_CAPACITY: u32 = 1024;

/// The key of [`MACHINES`]: a hardware address, padded so that the kernel hashes whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct MachineKey {
    mac: MacAddr,
    zero: [u8; 2],
}

impl From<MacAddr> for MachineKey {
    fn from(mac: MacAddr) -> Self {
        Self { mac, zero: [0; 2] }
    }
}

impl From<MachineKey> for MacAddr {
    fn from(key: MachineKey) -> Self {
        key.mac
    }
}

/// The value of [`MACHINES`]: the token bucket of one machine. All zeros is a full bucket.
///
/// Userspace adds a machine with the default value and `BPF_NOEXIST`, and never writes it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MachineState {
    /// The time at which the bucket will be full again, in nanoseconds of `CLOCK_MONOTONIC`.
    pub full_at_ns: u64,
}

/// The fate of requests from machines that the XDP program does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownMachines {
    /// They go up the network stack, where another server may answer.
    #[default]
    Pass,
    /// They are dropped; nobody on this host sees them.
    Drop,
}

/// The settings that can change while the program runs.
///
/// All zeros, which the map holds until userspace writes it, means: no rate limit, and requests of unknown machines pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// The time in which one token returns to a machine's bucket, in nanoseconds. 0: no limit.
    pub refill_ns: u64,
    /// The debt of refill time, in nanoseconds, up to which a bucket still gives a token: the time for all its tokens
    /// but one.
    pub tolerance_ns: u64,
    /// Not 0: drop the requests of unknown machines.
    pub drop_unknown: u32,
    /// Padding, so that no byte is undefined.
    pub zero: u32,
}

impl Settings {
    /// Returns settings with a bucket of `burst` requests for each machine, of which `per_second` return each second.
    #[must_use]
    pub const fn new(unknown: UnknownMachines, burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        let refill_ns = 1_000_000_000 / per_second.get() as u64;
        Self {
            refill_ns,
            tolerance_ns: refill_ns * (burst.get() as u64 - 1),
            drop_unknown: matches!(unknown, UnknownMachines::Drop) as u32,
            zero: 0,
        }
    }

    /// Returns settings without a rate limit.
    #[must_use]
    pub const fn unlimited(unknown: UnknownMachines) -> Self {
        Self { refill_ns: 0, tolerance_ns: 0, drop_unknown: matches!(unknown, UnknownMachines::Drop) as u32, zero: 0 }
    }

    /// Returns the fate of requests from unknown machines.
    #[must_use]
    pub const fn unknown(&self) -> UnknownMachines {
        if self.drop_unknown == 0 { UnknownMachines::Pass } else { UnknownMachines::Drop }
    }
}

/// Unknown machines pass. A machine may send 32 requests at once and 8 each second: firmware sends about one each second,
/// and a whole boot takes fewer than twenty.
impl Default for Settings {
    fn default() -> Self {
        Self::new(UnknownMachines::Pass, NonZeroU32::MIN.saturating_add(31), NonZeroU32::MIN.saturating_add(7))
    }
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya's Pod is an unsafe trait")]

    use super::{MachineKey, MachineState, Settings};

    // SAFETY: repr(C), integers and bytes only, no implicit padding (asserted below).
    unsafe impl aya::Pod for MachineKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for MachineState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}

const _: () = {
    assert!(size_of::<MachineKey>() == 8);
    assert!(size_of::<MachineState>() == 8);
    assert!(size_of::<Settings>() == 8 + 8 + 4 + 4);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_allow_32_requests_at_once_and_8_a_second_by_default() {
        let settings = Settings::default();
        assert_eq!(settings.refill_ns, 125_000_000);
        assert_eq!(settings.tolerance_ns, 31 * 125_000_000);
        assert_eq!(settings.unknown(), UnknownMachines::Pass);
    }
}
