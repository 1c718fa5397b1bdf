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

/// Parses any usual spelling, in either case.
///
/// ```
/// use pxe_common::MacAddr;
///
/// let mac: MacAddr = "52:54:00:ab:cd:ef".parse()?;
/// assert_eq!("52-54-00-AB-CD-EF".parse(), Ok(mac));
/// assert_eq!("5254.00ab.cdef".parse(), Ok(mac));
/// assert_eq!("525400abcdef".parse(), Ok(mac));
/// assert!("52:54:00:ab:cd".parse::<MacAddr>().is_err());
/// # Ok::<(), pxe_common::mac::ParseMacError>(())
/// ```
impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut address = [0; 6];
        let mut digits = 0;
        let mut separator = None;
        let mut last_was_separator = true;
        for byte in text.bytes() {
            if let Some(digit) = (byte as char).to_digit(16) {
                let slot = address.get_mut(digits / 2).ok_or(ParseMacError)?;
                *slot = (*slot << 4) | digit as u8;
                digits += 1;
                last_was_separator = false;
            } else {
                let group = match byte {
                    b':' | b'-' => 2,
                    b'.' => 4,
                    _ => return Err(ParseMacError),
                };
                let mixed = *separator.get_or_insert(byte) != byte;
                if mixed || last_was_separator || digits % group != 0 {
                    return Err(ParseMacError);
                }
                last_was_separator = true;
            }
        }
        if digits == 12 && !last_was_separator { Ok(Self(address)) } else { Err(ParseMacError) }
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
        for text in ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00ab.cdef", "525400ABcdef"] {
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
            "52.54.00.ab.cd.ef",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError), "{text}");
        }
    }
}
