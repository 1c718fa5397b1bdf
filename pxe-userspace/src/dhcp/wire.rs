//! Numbers of the wire format: option codes, message types, lengths.

/// The length to which replies are padded (RFC 1542 §2.1): older clients and relays drop shorter ones.
pub const MINIMUM_LENGTH: usize = 300;
/// The length of the IPv4 and UDP headers, which option 57 includes (RFC 2132 §9.10: its minimum, 576, is the IP datagram that
/// every host accepts).
pub const IP_UDP_HEADERS: usize = 28;

/// Option codes (RFC 2132 unless said otherwise).
pub mod code {
    /// Filler without a length.
    pub const PAD: u8 = 0;
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// DNS servers.
    pub const DNS: u8 = 6;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// Broadcast address.
    pub const BROADCAST: u8 = 28;
    /// Vendor-specific information: here the PXE options (PXE 2.1 table 2-1).
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// Requested address.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Duration of the lease in seconds.
    pub const LEASE_SECONDS: u8 = 51;
    /// `file` (1), `sname` (2) or both (3) hold options.
    pub const OVERLOAD: u8 = 52;
    /// Message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Parameter request list: the options that the client wants.
    pub const PARAMETERS: u8 = 55;
    /// The reason for a DHCPNAK.
    pub const MESSAGE: u8 = 56;
    /// The longest message that the client accepts.
    pub const MAXIMUM_SIZE: u8 = 57;
    /// T1 in seconds.
    pub const RENEWAL_SECONDS: u8 = 58;
    /// T2 in seconds.
    pub const REBINDING_SECONDS: u8 = 59;
    /// Vendor class: `PXEClient…`, `HTTPClient…`.
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// TFTP server name.
    pub const TFTP_SERVER: u8 = 66;
    /// Boot file name.
    pub const BOOT_FILE: u8 = 67;
    /// User class (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Relay agent information (RFC 3046).
    pub const RELAY_INFORMATION: u8 = 82;
    /// Client system architectures (RFC 4578).
    pub const ARCHITECTURES: u8 = 93;
    /// Client machine identifier (RFC 4578).
    pub const MACHINE_ID: u8 = 97;
    /// Subnet selection (RFC 3011).
    pub const SUBNET_SELECTION: u8 = 118;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    /// The end of a field's options.
    pub const END: u8 = 255;
}

/// DHCP message type (RFC 2132 §9.6). Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPOFFER.
    Offer,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
    /// Any other.
    Other(u8),
}

impl From<u8> for MessageType {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            other => Self::Other(other),
        }
    }
}

impl From<MessageType> for u8 {
    fn from(message: MessageType) -> Self {
        match message {
            MessageType::Discover => 1,
            MessageType::Offer => 2,
            MessageType::Request => 3,
            MessageType::Decline => 4,
            MessageType::Ack => 5,
            MessageType::Nak => 6,
            MessageType::Release => 7,
            MessageType::Inform => 8,
            MessageType::Other(number) => number,
        }
    }
}
