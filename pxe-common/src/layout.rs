//! Names and layouts of the BPF maps that the XDP program and userspace share.

use core::num::NonZeroU32;

use crate::mac::MacAddr;

/// The hash map of known machines: [`MachineKey`] to [`Bucket`]. A bucket gives its tokens to frames of the machine itself.
pub const MACHINES: &str = "MACHINES";
/// The hash set of addresses that requests for us are sent to, besides 255.255.255.255: the interface's own addresses and
/// the broadcast addresses of its networks. IPv4 in network byte order (`[u8; 4]`) to `u8`.
pub const ADDRESSES: &str = "ADDRESSES";
/// The VLANs that are served: an array indexed by VLAN, with `u8` values that are not 0 if the VLAN is served.
pub const VLANS: &str = "VLANS";
/// Known machines that asked on a VLAN that is not served: [`MachineKey`] to VLAN (`u16`). Userspace empties it.
pub const STRAYS: &str = "STRAYS";
/// The buckets of requests that come from elsewhere, through relays or with forged addresses: an LRU hash map from [`SenderKey`] to [`Bucket`].
pub const SENDERS: &str = "SENDERS";
/// The bucket of all such requests together: an array with one [`Bucket`] for each processor.
pub const ELSEWHERE: &str = "ELSEWHERE";
/// The AF_XDP sockets, by receive queue.
pub const XSKS: &str = "XSKS";
/// The per-CPU counters, indexed by [`Counter`](crate::Counter), each a `u64`.
pub const COUNTERS: &str = "COUNTERS";
/// The one [`Settings`] value, at index 0.
pub const SETTINGS: &str = "SETTINGS";
/// The network cards whose frames about DHCP the program traces: [`MachineKey`] to `u8`.
pub const TRACED: &str = "TRACED";
/// The number of cards in [`TRACED`] (`u32`), at index 0. While it is 0, tracing costs this one word.
pub const TRACING: &str = "TRACING";
/// The ring of traced frames, each a [`Trace`](crate::Trace).
pub const TRACES: &str = "TRACES";
/// The number of traced frames (`u64`) for which the ring had no room: an array with one value for each processor.
pub const TRACES_LOST: &str = "TRACES_LOST";
/// The bucket of dropped requests of unknown machines that are handed to userspace: an array with one [`Bucket`] for each processor.
pub const UNSEEN: &str = "UNSEEN";
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
/// Room in [`SENDERS`]. Whoever is forgotten for another one has a full bucket again, so that nobody can use up another's.
pub const SENDERS_CAPACITY: u32 = 32_768;
/// Receive queues that one interface can have.
pub const QUEUES_CAPACITY: u32 = 256;
/// Room in [`ADDRESSES`]. Hosts of load balancers have a thousand addresses on an interface.
pub const ADDRESSES_CAPACITY: u32 = 4096;

/// The numbers of VLANs, of which 0 and 4095 are not used (IEEE 802.1Q §9.6).
pub const VLAN_NUMBERS: u32 = 4096;
/// Room in [`STRAYS`]. Further machines are noted when userspace has emptied it.
pub const STRAYS_CAPACITY: u32 = 1024;
/// Room in [`TRACED`].
pub const TRACED_CAPACITY: u32 = 256;
/// The bytes of [`TRACES`]: some 40 frames.
pub const TRACES_BYTES: u32 = 1 << 16;
/// The limit of dropped requests that a processor hands to userspace: 16 each second, and as many at once.
pub const UNSEEN_LIMIT: Limit = Limit { refill_ns: 1_000_000_000 / 16, tolerance_ns: 1_000_000_000 / 16 * 15 };

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

/// The key of [`SENDERS`]: the Ethernet source of requests that are not a machine's own, and the machine that they name. Without a machine, it is the
/// key of all requests from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SenderKey {
    sender: MacAddr,
    machine: MacAddr,
}

impl SenderKey {
    /// Returns the key of the requests from an address that name this machine.
    #[must_use]
    pub const fn about(sender: MacAddr, machine: MacAddr) -> Self {
        Self { sender, machine }
    }

    /// Returns the key of all requests from an address.
    #[must_use]
    pub const fn all_of(sender: MacAddr) -> Self {
        // No machine has this address.
        Self { sender, machine: MacAddr([0; 6]) }
    }
}

/// A token bucket. All zeros is a full one.
///
/// Userspace adds that of a machine with the default value and `BPF_NOEXIST`, and never writes it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// The time at which the bucket will be full again, in nanoseconds of `CLOCK_MONOTONIC`.
    pub full_at_ns: u64,
}

/// The size of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The time in which one token returns, in nanoseconds. 0: no limit.
    pub refill_ns: u64,
    /// The debt of refill time, in nanoseconds, up to which the bucket still gives a token: the time for all its tokens but one.
    pub tolerance_ns: u64,
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

    /// Returns the limit of a machine's own requests, and that of the requests about it from one address elsewhere.
    #[inline(always)]
    #[must_use]
    pub const fn of_machine(&self) -> Limit {
        Limit { refill_ns: self.refill_ns, tolerance_ns: self.tolerance_ns }
    }

    /// Returns the limit of all requests from one address elsewhere, a relay for example: those of 1,024 machines, and 2,048 at once.
    #[inline(always)]
    #[must_use]
    pub const fn of_sender(&self) -> Limit {
        Limit { refill_ns: self.refill_ns >> 10, tolerance_ns: self.refill_ns.saturating_mul(2) }
    }

    /// Returns the limit of all requests from elsewhere that a processor receives: those of 2,048 machines, and as many at once. It leaves most of a
    /// receive ring, and of a worker's time, to the machines' own requests.
    #[inline(always)]
    #[must_use]
    pub const fn of_elsewhere(&self) -> Limit {
        Limit { refill_ns: self.refill_ns >> 11, tolerance_ns: self.refill_ns }
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

    use super::{Bucket, MachineKey, SenderKey, Settings};

    // SAFETY: repr(C), integers and bytes only, no implicit padding (asserted below).
    unsafe impl aya::Pod for MachineKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Bucket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SenderKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}

const _: () = {
    assert!(size_of::<MachineKey>() == 8);
    assert!(size_of::<Bucket>() == 8);
    assert!(size_of::<SenderKey>() == 12);
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
        // A relay forwards 8,192 requests a second, and all relays twice as many.
        assert_eq!(1_000_000_000 / settings.of_sender().refill_ns, 8_192);
        assert_eq!(1_000_000_000 / settings.of_elsewhere().refill_ns, 16_384);
        for limit in [settings.of_sender(), settings.of_elsewhere()] {
            assert_eq!(limit.tolerance_ns / limit.refill_ns, 2_048);
        }
    }
}
