//! Hardware addresses.

use core::{fmt, str::FromStr};

/// An Ethernet (EUI-48) hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address that every station on a link accepts.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Returns `true` if the group bit is set (IEEE 802): multicast or broadcast, never one machine.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Returns `true` if every bit is zero, as firmware with an erased EEPROM reports.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

/// Lower-case, separated by colons, which is also how the JSON interfaces write it.
impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a hardware address of six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address: twelve hexadecimal digits, optionally separated by ':', '-' or '.'")
    }
}

impl core::error::Error for ParseMacError {}

/// Parses any usual spelling, in either case: six groups of two digits, of which a leading zero may be missing (as BSD prints them),
/// three of four, two of six, or twelve digits.
///
/// ```
/// use pxe_common::MacAddr;
///
/// let mac: MacAddr = "52:54:00:0b:cd:ef".parse()?;
/// assert_eq!("52-54-00-0B-CD-EF".parse(), Ok(mac));
/// assert_eq!("52:54:0:b:cd:ef".parse(), Ok(mac));
/// assert_eq!("5254.000b.cdef".parse(), Ok(mac));
/// assert_eq!("525400-0bcdef".parse(), Ok(mac));
/// assert_eq!("5254000bcdef".parse(), Ok(mac));
/// assert!("52:54:00:0b:cd".parse::<MacAddr>().is_err());
/// # Ok::<(), pxe_common::mac::ParseMacError>(())
/// ```
impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let separator = text.bytes().find(|byte| matches!(byte, b':' | b'-' | b'.')).unwrap_or(b':');
        let groups = || text.as_bytes().split(|byte| *byte == separator);
        let width = match groups().count() {
            1 => 12,
            2 => 6,
            3 => 4,
            6 => 2,
            _ => return Err(ParseMacError),
        };
        let mut address = 0_u64;
        for group in groups() {
            let lacks_zero = width == 2 && group.len() == 1 && separator != b'.';
            if group.len() != width && !lacks_zero {
                return Err(ParseMacError);
            }
            address <<= 4 * width;
            let mut value = 0_u64;
            for byte in group {
                let digit = (*byte as char).to_digit(16).ok_or(ParseMacError)?;
                value = (value << 4) | u64::from(digit);
            }
            address |= value;
        }
        let [_, _, a, b, c, d, e, f] = address.to_be_bytes();
        Ok(Self([a, b, c, d, e, f]))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn mac_address_is_the_same_in_every_spelling() {
        let expected = MacAddr([0x52, 0x54, 0x00, 0xab, 0xcd, 0xef]);
        for text in [
            "52:54:00:ab:cd:ef",
            "52-54-00-AB-CD-EF",
            "52.54.00.ab.cd.ef",
            "52:54:0:ab:cd:ef",
            "5254.00ab.cdef",
            "5254:00ab:cdef",
            "525400-abcdef",
            "525400ABcdef",
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "52:54:00:ab:cd:ef");
    }

    #[test]
    fn mac_address_that_is_malformed_is_refused() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:01",
            "52:54:00:ab:cd:eg",
            ":52:54:00:ab:cd:ef",
            "52:54:00:ab:cd:ef:",
            "52::54:00:ab:cd:ef",
            "52:54-00:ab:cd:ef",
            "5:254:00:ab:cd:ef",
            "52.54.0.ab.cd.ef",
            "5254.00ab.cd.ef",
            "525400abcde",
            "525400abcdef0",
            "5254:0ab:cdef",
            "+2:54:00:ab:cd:ef",
            "52:54:00:ab:cd:é",
            "-",
            ":::::",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError), "{text}");
        }
    }
}
