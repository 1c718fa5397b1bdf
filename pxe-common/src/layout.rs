//! Names and layouts of the BPF maps that the XDP program and userspace share.

/// The hash map of known machines: [`MachineKey`] to [`MachineState`].
pub const MACHINES: &str = "MACHINES";
/// The hash set of addresses that we serve: IPv4 in network byte order (`[u8; 4]`) to `u8`.
pub const SERVERS: &str = "SERVERS";
/// The AF_XDP sockets, by receive queue.
pub const XSKS: &str = "XSKS";
/// The per-CPU counters, indexed by [`Counter`], each a `u64`.
pub const COUNTERS: &str = "COUNTERS";
/// The one [`Settings`] value, at index 0.
pub const SETTINGS: &str = "SETTINGS";
/// The name of the XDP program in the object.
pub const PROGRAM: &str = "pxed";

/// Room in [`MACHINES`] unless userspace asks for more at load time.
pub const MACHINES_CAPACITY: u32 = 131_072;
/// Receive queues that one interface can have.
pub const QUEUES_CAPACITY: u32 = 256;
/// Server addresses that one interface can have.
pub const SERVERS_CAPACITY: u32 = 256;
