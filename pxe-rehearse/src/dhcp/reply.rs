//! Replies of servers, as a machine reads them.

use std::{net::Ipv4Addr, ops::Range};

use dhcproto::v4::{
    DhcpOption, MessageType, OptionCode,
    borrowed::{self, DhcpOptionIterator},
};
use pxe_common::MacAddr;

use super::guard;

/// The fields that may hold options (RFC 2131 §2).
const SNAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// The way in which a client reads a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As RFC 2132 §9.3 says and EDK2 does: option 52 puts options into `file` and `sname`, and option 67 comes before
    /// the field `file`.
    Standard,
    /// As iPXE does (`src/net/dhcppkt.c`): `file` comes before option 67, `sname` before option 66, and option 52 is not known.
    Ipxe,
}

/// A BOOTREPLY, as a machine understands it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) xid: u32,
    pub(crate) chaddr: MacAddr,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) siaddr: Ipv4Addr,
    /// Option 53. A reply without it is BOOTP's, which PXE takes for neither offer nor acknowledgement.
    pub(crate) message_type: Option<MessageType>,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// Option 1.
    pub(crate) subnet_mask: Option<Ipv4Addr>,
    /// The first of option 3.
    pub(crate) router: Option<Ipv4Addr>,
    /// The first of option 6.
    pub(crate) dns: Option<Ipv4Addr>,
    /// Option 51.
    pub(crate) lease_seconds: Option<u32>,
    /// Option 12.
    pub(crate) host_name: Option<String>,
    /// Option 15.
    pub(crate) domain_name: Option<String>,
    /// The field `file` or option 67, whichever the client prefers.
    pub(crate) boot_file: Option<String>,
    /// The server of the boot file: `siaddr`, else option 66 or `sname` if it is an address, else the server itself.
    pub(crate) next_server: Option<Ipv4Addr>,
    /// Option 66.
    server_name: Option<String>,
    /// Option 56.
    message: Option<String>,
    /// Option 60.
    vendor_class: Vec<u8>,
    /// Option 43.
    vendor_options: Vec<u8>,
}

impl Reading {
    /// Returns the value of a field that an option can replace.
    fn prefer(self, field: Option<String>, option: Option<String>) -> Option<String> {
        match self {
            Self::Standard => option.or(field),
            Self::Ipxe => field.or(option),
        }
    }
}

impl Reply {
    /// Reads a UDP payload.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the payload, for people.
    pub(crate) fn decode(payload: &[u8], reading: Reading) -> Result<Self, String> {
        let header = guard::open(payload)?;
        let mut options = guard::split(&payload[OPTIONS..])?;
        // Read here, because dhcproto's owned message drops a text that fills its field without a NUL.
        let (mut file, mut sname) = (text(&payload[FILE]), text(&payload[SNAME]));
        if reading == Reading::Standard {
            let overload = overload(&options);
            // RFC 2131 §4.1: `file` is read before `sname`.
            if overload & 1 != 0 {
                options.extend(guard::split(&payload[FILE])?);
                file = None;
            }
            if overload & 2 != 0 {
                options.extend(guard::split(&payload[SNAME])?);
                sname = None;
            }
        }
        // RFC 3396: an option that comes several times is one value. dhcproto joins neighbours only.
        options.sort_by_key(|option| option.first().copied());
        let mut reply = Self {
            xid: header.xid(),
            chaddr: guard::addressee(payload).unwrap_or_default(),
            yiaddr: header.yiaddr(),
            siaddr: header.siaddr(),
            message_type: None,
            server: None,
            subnet_mask: None,
            router: None,
            dns: None,
            lease_seconds: None,
            host_name: None,
            domain_name: None,
            boot_file: None,
            next_server: None,
            server_name: None,
            message: None,
            vendor_class: Vec::new(),
            vendor_options: Vec::new(),
        };
        for option in DhcpOptionIterator::new(&options.concat()) {
            reply.take(option)?;
        }
        reply.boot_file = reading.prefer(file, reply.boot_file.take());
        let named = reading.prefer(sname, reply.server_name.take()).and_then(|name| name.parse().ok());
        let siaddr = Some(reply.siaddr).filter(|address| !address.is_unspecified());
        reply.next_server = siaddr.or(named).or(reply.server);
        Ok(reply)
    }

    /// Takes in an option that machines act on. The others are never decoded, so none of them can end the process.
    fn take(&mut self, option: borrowed::DhcpOption<'_>) -> Result<(), String> {
        let code = option.code();
        match code {
            // Texts stay raw: dhcproto accepts UTF-8 only, firmware accepts anything.
            OptionCode::Hostname => self.host_name = text(option.data()),
            OptionCode::DomainName => self.domain_name = text(option.data()),
            OptionCode::VendorExtensions => self.vendor_options = option.data().to_vec(),
            OptionCode::Message => self.message = text(option.data()),
            OptionCode::ClassIdentifier => self.vendor_class = option.data().to_vec(),
            OptionCode::TFTPServerName => self.server_name = text(option.data()),
            OptionCode::BootfileName => self.boot_file = text(option.data()),
            OptionCode::SubnetMask
            | OptionCode::Router
            | OptionCode::DomainNameServer
            | OptionCode::AddressLeaseTime
            | OptionCode::MessageType
            | OptionCode::ServerIdentifier => {
                // EDK2 discards the whole message for most of these (`Dhcp4Option.c`).
                let malformed = |error| format!("the value of option {} is malformed: {error}", u8::from(code));
                self.take_value(option.into_option().map_err(malformed)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_value(&mut self, option: DhcpOption) {
        match option {
            DhcpOption::SubnetMask(mask) => self.subnet_mask = Some(mask),
            DhcpOption::Router(addresses) => self.router = addresses.first().copied(),
            DhcpOption::DomainNameServer(addresses) => self.dns = addresses.first().copied(),
            DhcpOption::AddressLeaseTime(seconds) => self.lease_seconds = Some(seconds),
            DhcpOption::MessageType(kind) => self.message_type = Some(kind),
            DhcpOption::ServerIdentifier(address) => self.server = Some(address),
            _ => {}
        }
    }

    /// Returns `true` if option 60 begins with this text.
    pub(crate) fn vendor_class_is(&self, text: &str) -> bool {
        self.vendor_class.starts_with(text.as_bytes())
    }

    /// Returns `true` if the PXE discovery control in option 43 says to fetch the boot file that this message names,
    /// without asking a boot server (PXE 2.1, table 2-1, tag 6, bit 3).
    pub(crate) fn skips_discovery(&self) -> bool {
        let mut bytes = &self.vendor_options[..];
        while let [tag, length, rest @ ..] = bytes {
            let Some((value, after)) = rest.split_at_checked(usize::from(*length)) else { return false };
            if *tag == 6 {
                return value.first().is_some_and(|control| control & 8 != 0);
            }
            bytes = after;
        }
        false
    }

    /// Describes the message for the printed step.
    pub(crate) fn describe(&self) -> String {
        let shown = |address: Ipv4Addr| (!address.is_unspecified()).then(|| address.to_string());
        let parts = [
            ("address", shown(self.yiaddr)),
            ("server", self.server.map(|address| address.to_string())),
            ("next server", shown(self.siaddr)),
            ("file", self.boot_file.clone()),
            ("class", text(&self.vendor_class)),
            ("message", self.message.clone()),
        ];
        let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the value of option 52 (RFC 2132 §9.3).
fn overload(options: &[&[u8]]) -> u8 {
    const OVERLOAD: u8 = 52;
    let value = |option: &&[u8]| match option {
        [OVERLOAD, 1, value] => Some(*value),
        _ => None,
    };
    options.iter().find_map(value).unwrap_or(0)
}

/// Returns a text up to its NUL, which some servers append to options too. An empty one is none.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(bytes).into_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
