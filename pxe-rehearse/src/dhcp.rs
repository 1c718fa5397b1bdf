//! The simulator's own DHCP codec (RFC 2131, RFC 2132).
//!
//! It shares nothing with the responder's: what one side gets wrong, the other side must not repeat.

use std::net::Ipv4Addr;

use pxe_common::MacAddr;

/// Where clients listen.
pub(super) const CLIENT_PORT: u16 = 68;
/// Where servers listen.
pub(super) const SERVER_PORT: u16 = 67;
/// Where a ProxyDHCP boot server listens (PXE 2.1 §2.2.4).
pub(super) const PROXY_PORT: u16 = 4011;

/// Option codes that the simulator names.
pub(super) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const DOMAIN_NAME: u8 = 15;
    pub(crate) const VENDOR_SPECIFIC: u8 = 43;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_SECONDS: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const PARAMETER_LIST: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_SIZE: u8 = 57;
    pub(crate) const VENDOR_CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const USER_CLASS: u8 = 77;
    pub(crate) const ARCHITECTURE: u8 = 93;
    pub(crate) const UNDI: u8 = 94;
    pub(crate) const UUID: u8 = 97;
    pub(crate) const IPXE: u8 = 175;
    pub(crate) const END: u8 = 255;
}

/// Option 53 (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageType {
    Discover,
    Offer,
    Request,
    Ack,
    Nak,
    /// One that a server has no business sending.
    Other(u8),
}

impl MessageType {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            5 => Self::Ack,
            6 => Self::Nak,
            other => Self::Other(other),
        }
    }
}

/// A BOOTREQUEST, as a machine sends it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) xid: u32,
    pub(super) secs: u16,
    pub(super) broadcast: bool,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) chaddr: MacAddr,
    /// In the order of the firmware.
    pub(super) options: Vec<(u8, Vec<u8>)>,
    /// The whole message is padded to this many bytes.
    pub(super) pad_to: usize,
}

const HEADER: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = 1;
        bytes[1] = 1;
        bytes[2] = 6;
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10] = if self.broadcast { 0x80 } else { 0 };
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[28..34].copy_from_slice(&self.chaddr.0);
        bytes.extend(COOKIE);
        for (code, value) in &self.options {
            // No firmware sends an option that needs splitting.
            let value = &value[..value.len().min(255)];
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(code::END);
        if bytes.len() < self.pad_to {
            bytes.resize(self.pad_to, 0);
        }
        bytes
    }
}

/// A BOOTREPLY, as a machine understands it.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) xid: u32,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) siaddr: Ipv4Addr,
    pub(super) chaddr: MacAddr,
    sname: Vec<u8>,
    file: Vec<u8>,
    /// Split options are joined (RFC 3396); those in `sname` and `file` are read where option 52 says so.
    options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    /// Reads a UDP payload.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a person.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or("shorter than a BOOTP header")?;
        if header[0] != 2 {
            return Err("not a BOOTREPLY");
        }
        if header[1] != 1 || header[2] != 6 {
            return Err("not for an Ethernet address");
        }
        let options = rest.strip_prefix(&COOKIE).ok_or("no magic cookie: BOOTP, not DHCP")?;
        let mut reply = Self {
            xid: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            yiaddr: address(&header[16..20]),
            siaddr: address(&header[20..24]),
            chaddr: MacAddr([header[28], header[29], header[30], header[31], header[32], header[33]]),
            sname: until_nul(&header[44..108]),
            file: until_nul(&header[108..236]),
            options: Vec::new(),
        };
        reply.read_options(options)?;
        let overload = reply.option(code::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
        if overload & 1 != 0 {
            reply.file.clear();
            reply.read_options(&header[108..236])?;
        }
        if overload & 2 != 0 {
            reply.sname.clear();
            reply.read_options(&header[44..108])?;
        }
        Ok(reply)
    }

    fn read_options(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some((&code, rest)) = bytes.split_first() {
            bytes = match code {
                code::END => break,
                code::PAD => rest,
                _ => {
                    let (&length, rest) = rest.split_first().ok_or("an option without a length")?;
                    let (value, rest) =
                        rest.split_at_checked(length.into()).ok_or("an option longer than the message")?;
                    match self.options.iter_mut().find(|(known, _)| *known == code) {
                        Some((_, joined)) => joined.extend(value),
                        None => self.options.push((code, value.to_vec())),
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    pub(super) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    /// The first address of an option that holds addresses.
    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code).and_then(|value| value.get(..4)).map(address)
    }

    /// An option that holds text, without the NUL that some servers append.
    pub(super) fn text(&self, code: u8) -> Option<String> {
        self.option(code)
            .map(|value| String::from_utf8_lossy(&until_nul(value)).into_owned())
            .filter(|text| !text.is_empty())
    }

    /// Option 53. A reply without it is BOOTP's, which PXE takes for neither offer nor acknowledgement.
    pub(super) fn message_type(&self) -> Option<MessageType> {
        self.option(code::MESSAGE_TYPE).and_then(|value| value.first()).map(|&number| MessageType::from_number(number))
    }

    /// The boot file: option 67, else the header's field.
    pub(super) fn boot_file(&self) -> Option<String> {
        self.text(code::BOOT_FILE)
            .or_else(|| Some(String::from_utf8_lossy(&self.file).into_owned()).filter(|text| !text.is_empty()))
    }

    /// Where the boot file is: `siaddr`, else option 66 or `sname` where they hold an address, else the
    /// server itself.
    pub(super) fn next_server(&self) -> Option<Ipv4Addr> {
        let named = || {
            let text =
                self.text(code::TFTP_SERVER).unwrap_or_else(|| String::from_utf8_lossy(&self.sname).into_owned());
            text.parse().ok()
        };
        Some(self.siaddr)
            .filter(|address| !address.is_unspecified())
            .or_else(named)
            .or_else(|| self.address(code::SERVER_ID))
    }

    /// Whether option 60 begins with this text.
    pub(super) fn vendor_class_is(&self, text: &str) -> bool {
        self.option(code::VENDOR_CLASS).is_some_and(|value| value.starts_with(text.as_bytes()))
    }

    /// Whether the PXE discovery control in option 43 says to fetch the boot file that this message
    /// names, without asking a boot server (PXE 2.1, table 2-1, tag 6, bit 3).
    pub(super) fn skips_discovery(&self) -> bool {
        let mut bytes = self.option(code::VENDOR_SPECIFIC).unwrap_or_default();
        while let [tag, length, rest @ ..] = bytes {
            let Some((value, after)) = rest.split_at_checked(usize::from(*length)) else { return false };
            if *tag == 6 {
                return value.first().is_some_and(|control| control & 8 != 0);
            }
            bytes = after;
        }
        false
    }

    /// What the message says, for the printed step.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str(name);
                text.push(' ');
                text.push_str(&value);
            }
        };
        let shown = |address: Ipv4Addr| (!address.is_unspecified()).then(|| address.to_string());
        add("address", shown(self.yiaddr));
        add("server", self.address(code::SERVER_ID).map(|address| address.to_string()));
        add("next server", shown(self.siaddr));
        add("file", self.boot_file());
        add("class", self.text(code::VENDOR_CLASS));
        add("message", self.text(code::MESSAGE));
        text
    }
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    match bytes {
        [a, b, c, d, ..] => Ipv4Addr::new(*a, *b, *c, *d),
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
