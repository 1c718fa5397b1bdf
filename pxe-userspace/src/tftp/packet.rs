//! The wire format: requests, acknowledgements, errors (RFC 1350 §5), and the options of a request (RFC 2347).

/// Read request.
const RRQ: u16 = 1;
/// Write request.
const WRQ: u16 = 2;
/// Data.
pub const DATA: u16 = 3;
/// Acknowledgement.
pub const ACK: u16 = 4;
/// Error.
pub const ERROR: u16 = 5;
/// Option acknowledgement (RFC 2347).
pub const OACK: u16 = 6;

/// The largest block that RFC 2348 allows, in bytes.
pub const BLOCK_SIZE_LIMIT: u16 = 65464;
/// The length of opcode and block number in front of a block, in bytes.
pub const HEADER_LENGTH: usize = 4;

/// Error codes (RFC 1350 §5, RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// The message says what is wrong.
    Undefined = 0,
    /// File not found.
    NotFound = 1,
    /// Access violation.
    AccessViolation = 2,
    /// Illegal TFTP operation.
    IllegalOperation = 4,
    /// The client refuses the options.
    OptionsRefused = 8,
}

/// A packet that a client sends. Paths and messages are bytes as they came, in no particular encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Read request.
    Read(Request<'a>),
    /// Write request.
    Write {
        /// The requested path.
        path: &'a [u8],
    },
    /// Acknowledgement of a block.
    Ack(u16),
    /// The client gives up.
    Error {
        /// One of [`ErrorCode`], or any other number.
        code: u16,
        /// A message for people.
        message: &'a [u8],
    },
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The requested path.
    pub path: &'a [u8],
    /// The requested translation of bytes.
    pub mode: TransferMode,
    /// The requested options.
    pub options: Options,
}

/// Transfer modes (RFC 1350 §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferMode {
    /// Bytes are sent as they are.
    Octet,
    /// Lines of text, encoded for the wire and decoded by the client. It is the default of some clients (tftp-hpa).
    Netascii,
    /// `mail`, which is obsolete, or any other mode.
    Other,
}

/// The options of a request that are known and valid. Others are ignored (RFC 2347).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `blksize` in bytes, 8 to 65464 (RFC 2348).
    pub block_size: Option<u16>,
    /// `tsize`: the client asks for the length of the file (RFC 2349).
    pub transfer_size: bool,
    /// `timeout` in seconds, 1 to 255 (RFC 2349).
    pub timeout: Option<u8>,
    /// `windowsize` in blocks, from 1 (RFC 7440).
    pub window_size: Option<u16>,
}

/// A datagram is not a packet that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than the fixed fields need.
    #[error("{0} bytes are too few for a TFTP packet")]
    Short(usize),
    /// The opcode is not one that is sent to a server.
    #[error("opcode {0} is not one that a TFTP client sends")]
    Opcode(u16),
    /// A string lacks its terminating NUL.
    #[error("path or mode does not end")]
    Unterminated,
}

impl<'a> Packet<'a> {
    /// Parses a datagram.
    ///
    /// # Errors
    ///
    /// The datagram is not a packet that a client sends.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::Short(datagram.len());
        let (opcode, rest) = split_u16(datagram).ok_or(short)?;
        match opcode {
            RRQ => {
                let (path, rest) = split_string(rest).ok_or(Malformed::Unterminated)?;
                let (mode, rest) = split_string(rest).ok_or(Malformed::Unterminated)?;
                Ok(Self::Read(Request { path, mode: TransferMode::parse(mode), options: Options::parse(rest) }))
            }
            WRQ => {
                let (path, _) = split_string(rest).ok_or(Malformed::Unterminated)?;
                Ok(Self::Write { path })
            }
            ACK => split_u16(rest).map(|(block, _)| Self::Ack(block)).ok_or(short),
            ERROR => {
                let (code, rest) = split_u16(rest).ok_or(short)?;
                // Some firmware leaves the NUL out.
                let message = rest.split(|&byte| byte == 0).next().unwrap_or_default();
                Ok(Self::Error { code, message })
            }
            opcode => Err(Malformed::Opcode(opcode)),
        }
    }
}

impl TransferMode {
    fn parse(text: &[u8]) -> Self {
        if text.eq_ignore_ascii_case(b"octet") {
            Self::Octet
        } else if text.eq_ignore_ascii_case(b"netascii") {
            Self::Netascii
        } else {
            Self::Other
        }
    }
}

impl Options {
    fn parse(mut rest: &[u8]) -> Self {
        let mut options = Self::default();
        while let Some((name, value, tail)) =
            split_string(rest).and_then(|(name, tail)| split_string(tail).map(|(value, tail)| (name, value, tail)))
        {
            rest = tail;
            let Some(number) = decimal(value) else { continue };
            // The first of several counts: RFC 2347 forbids repeating an option.
            if name.eq_ignore_ascii_case(b"blksize") && number >= 8 {
                let block_size = u16::try_from(number).unwrap_or(u16::MAX).min(BLOCK_SIZE_LIMIT);
                options.block_size.get_or_insert(block_size);
            } else if name.eq_ignore_ascii_case(b"tsize") {
                options.transfer_size = true;
            } else if name.eq_ignore_ascii_case(b"timeout") && number >= 1 {
                if let Ok(seconds) = u8::try_from(number) {
                    options.timeout.get_or_insert(seconds);
                }
            } else if name.eq_ignore_ascii_case(b"windowsize") && number >= 1 {
                options.window_size.get_or_insert(u16::try_from(number).unwrap_or(u16::MAX));
            }
        }
        options
    }
}

/// Builds an error packet.
#[must_use]
pub fn error_packet(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_LENGTH + message.len() + 1);
    packet.extend_from_slice(&ERROR.to_be_bytes());
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend_from_slice(message.as_bytes());
    packet.push(0);
    packet
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u16::from_be_bytes(*number), rest))
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Parses a decimal number. One that is too large for 64 bits becomes the largest.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_on_the_wire() {
        let none = Options::default();
        let read =
            |path: &'static str, mode, options| Ok(Packet::Read(Request { path: path.as_bytes(), mode, options }));
        let cases: &[(&str, &[u8], Result<Packet<'_>, Malformed>)] = &[
            ("RFC 1350 read", b"\0\x01boot.efi\0octet\0", read("boot.efi", TransferMode::Octet, none)),
            ("netascii", b"\0\x01a\0NETascii\0", read("a", TransferMode::Netascii, none)),
            ("mail", b"\0\x01a\0mail\0", read("a", TransferMode::Other, none)),
            ("no mode", b"\0\x01a\0\0", read("a", TransferMode::Other, none)),
            ("a mode that is none", b"\0\x01a\0octet \0", read("a", TransferMode::Other, none)),
            ("garbage behind the mode", b"\0\x01a\0octet\0garbage", read("a", TransferMode::Octet, none)),
            ("garbage that ends", b"\0\x01a\0octet\0\xff\0\x01\0\xfe", read("a", TransferMode::Octet, none)),
            ("padding", b"\0\x01a\0octet\0\0\0\0\0\0", read("a", TransferMode::Octet, none)),
            ("a name of 255 alone", b"\0\x01\xff\0octet\0", Ok(Packet::Read(Request { path: b"\xff", mode: TransferMode::Octet, options: none }))),
            (
                "extremes",
                b"\0\x01a\0netascii\0blksize\x008\0windowsize\x0065535\0timeout\x00255\0",
                read(
                    "a",
                    TransferMode::Netascii,
                    Options { block_size: Some(8), transfer_size: false, timeout: Some(255), window_size: Some(65535) },
                ),
            ),
            (
                "zeros, and a valid value behind an invalid one",
                b"\0\x01a\0octet\0blksize\x000\0timeout\x000\0windowsize\x000\0blksize\x00512\0",
                read("a", TransferMode::Octet, Options { block_size: Some(512), ..none }),
            ),
            (
                "tsize twice",
                b"\0\x01a\0octet\0tsize\x000\0tsize\x005\0",
                read("a", TransferMode::Octet, Options { transfer_size: true, ..none }),
            ),
            (
                "OVMF's first question",
                b"\0\x01ipxe.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0",
                read(
                    "ipxe.efi",
                    TransferMode::Octet,
                    Options { block_size: Some(1468), transfer_size: true, timeout: None, window_size: Some(4) },
                ),
            ),
            (
                "upper case, unknown option",
                b"\0\x01a\0OCTET\0BLKSIZE\x001432\0multicast\0\0TSIZE\x000\0Timeout\x003\0",
                read(
                    "a",
                    TransferMode::Octet,
                    Options { block_size: Some(1432), transfer_size: true, timeout: Some(3), window_size: None },
                ),
            ),
            (
                "invalid values are ignored",
                b"\0\x01a\0octet\0blksize\x007\0timeout\x00256\0windowsize\x000\0tsize\0-1\0blksize\0\0blksize\x001e3\0",
                read("a", TransferMode::Octet, none),
            ),
            (
                "large values are clamped, the first of two counts",
                b"\0\x01a\0octet\0blksize\x0099999999999999999999999\0windowsize\x0070000\0windowsize\x001\0",
                read("a", TransferMode::Octet, Options { block_size: Some(65464), window_size: Some(65535), ..none }),
            ),
            ("option without its value", b"\0\x01a\0octet\0blksize\0", read("a", TransferMode::Octet, none)),
            ("option without its NUL", b"\0\x01a\0octet\0blksize\x00512", read("a", TransferMode::Octet, none)),
            ("empty path", b"\0\x01\0octet\0", read("", TransferMode::Octet, none)),
            ("write", b"\0\x02a\0octet\0", Ok(Packet::Write { path: b"a" })),
            ("acknowledgement", b"\0\x04\xff\xfe", Ok(Packet::Ack(0xfffe))),
            ("acknowledgement, padded", b"\0\x04\0\x01\0\0\0", Ok(Packet::Ack(1))),
            ("error", b"\0\x05\0\x08aborted\0", Ok(Packet::Error { code: 8, message: b"aborted" })),
            ("error without NUL", b"\0\x05\0\0x", Ok(Packet::Error { code: 0, message: b"x" })),
            ("nothing", b"", Err(Malformed::Short(0))),
            ("half an opcode", b"\0", Err(Malformed::Short(1))),
            ("half an acknowledgement", b"\0\x04\0", Err(Malformed::Short(3))),
            ("path without its NUL", b"\0\x01boot", Err(Malformed::Unterminated)),
            ("mode without its NUL", b"\0\x01boot\0octet", Err(Malformed::Unterminated)),
            ("data", b"\0\x03\0\x01x", Err(Malformed::Opcode(3))),
            ("option acknowledgement", b"\0\x06tsize\x001\0", Err(Malformed::Opcode(6))),
            ("opcode in the wrong byte order", b"\x01\0a\0octet\0", Err(Malformed::Opcode(256))),
        ];
        for (name, datagram, expected) in cases {
            assert_eq!(Packet::parse(datagram), *expected, "{name}");
        }
    }

    #[test]
    fn error_is_read_as_it_was_written() {
        let packet = error_packet(ErrorCode::NotFound, "no such file");
        assert_eq!(packet, b"\0\x05\0\x01no such file\0");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_survived(datagram in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Packet::parse(&datagram);
        }

        #[test]
        fn options_keep_their_ranges(
            tail in prop::collection::vec(
                ("(?i:blksize|tsize|timeout|windowsize|junk)", prop_oneof!["[0-9]{0,22}", ".{0,6}"]), 0..6),
        ) {
            let text: String = tail.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
            let options = Options::parse(text.as_bytes());
            prop_assert!(options.block_size.is_none_or(|bytes| (8..=BLOCK_SIZE_LIMIT).contains(&bytes)));
            prop_assert!(options.window_size != Some(0) && options.timeout != Some(0));
        }
    }
}
