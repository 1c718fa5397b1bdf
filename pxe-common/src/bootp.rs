//! The fixed part of a BOOTP or DHCP message (RFC 2131 §2), and the UDP ports.

/// The UDP port of DHCP and BOOTP servers and relay agents (RFC 2131 §4.1).
pub const SERVER_PORT: u16 = 67;
/// The UDP port of DHCP and BOOTP clients (RFC 2131 §4.1).
pub const CLIENT_PORT: u16 = 68;
/// The UDP port of PXE boot servers, where ProxyDHCP's second question goes (PXE 2.1 §2.2.3).
pub const BOOT_SERVER_PORT: u16 = 4011;

/// Byte ranges of the BOOTP header (RFC 2131 §2).
pub mod field {
    use core::ops::Range;

    /// The direction: [`BOOTREQUEST`](super::BOOTREQUEST) or [`BOOTREPLY`](super::BOOTREPLY).
    pub const OP: usize = 0;
    /// The hardware type, for example [`ETHERNET`](super::ETHERNET).
    pub const HTYPE: usize = 1;
    /// The hardware address length.
    pub const HLEN: usize = 2;
    /// The transaction.
    pub const XID: Range<usize> = 4..8;
    /// The seconds since the client began to ask, as far as it counts them.
    pub const SECS: Range<usize> = 8..10;
    /// The broadcast flag and fifteen reserved bits.
    pub const FLAGS: Range<usize> = 10..12;
    /// The client's address, if it has one and can answer ARP for it.
    pub const CIADDR: Range<usize> = 12..16;
    /// The address given to the client.
    pub const YIADDR: Range<usize> = 16..20;
    /// The server to fetch the boot file from.
    pub const SIADDR: Range<usize> = 20..24;
    /// The relay agent.
    pub const GIADDR: Range<usize> = 24..28;
    /// The client's hardware address, padded to sixteen bytes.
    pub const CHADDR: Range<usize> = 28..44;
    /// The boot server's name, or options (RFC 2132 §9.3).
    pub const SNAME: Range<usize> = 44..108;
    /// The boot file's name, or options.
    pub const FILE: Range<usize> = 108..236;
    /// The mark that options follow.
    pub const COOKIE: Range<usize> = 236..240;
    /// The beginning of the options.
    pub const OPTIONS: usize = 240;
}

/// The value of [`field::COOKIE`] (RFC 2131 §3).
pub const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The broadcast bit of [`field::FLAGS`].
pub const BROADCAST_FLAG: u16 = 0x8000;
/// `op` of a message from a client.
pub const BOOTREQUEST: u8 = 1;
/// `op` of a message from a server.
pub const BOOTREPLY: u8 = 2;
/// `htype` of Ethernet.
pub const ETHERNET: u8 = 1;
