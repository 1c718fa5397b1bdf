//! Option negotiation: what client and server agree on before the first block (RFC 2347).

use std::{io::Write as _, time::Duration};

use super::packet::{HEADER_LENGTH, OACK, Options};

/// The block size of RFC 1350, in bytes.
const DEFAULT_BLOCK_SIZE: u16 = 512;
/// The most blocks in flight. More gains nothing on a local network, and one segmented send carries 64.
const WINDOW_LIMIT: u16 = 64;
/// The most bytes in flight: a window of 64 blocks in Ethernet's usual frames.
const IN_FLIGHT_LIMIT: usize = WINDOW_LIMIT as usize * (1468 + HEADER_LENGTH);
/// IPv4 header, UDP header and TFTP header, in bytes.
const OVERHEAD: u16 = 20 + 8 + HEADER_LENGTH as u16;

/// The agreed terms of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The length of the file in bytes.
    pub length: u64,
    /// The bytes of every block but the last, which has fewer.
    pub block_size: u16,
    /// The blocks that are sent before an acknowledgement is awaited.
    pub window: u16,
    /// The wait for an acknowledgement, if the client set one.
    pub timeout: Option<Duration>,
    /// The file is sent in netascii.
    pub netascii: bool,
    /// The acknowledged options with our values. If there are none, the first block goes out at once.
    acknowledged: Options,
}

impl Options {
    /// Returns the bytes that the client wants in flight, at most.
    pub(super) fn in_flight(self) -> usize {
        self.datagram() * usize::from(self.window_size.unwrap_or(1).clamp(1, WINDOW_LIMIT))
    }

    /// Returns the same options with a window of no more than this many bytes, or of one block.
    pub(super) fn with_window_within(self, bytes: usize) -> Self {
        let most = u16::try_from(bytes / self.datagram()).unwrap_or(u16::MAX).max(1);
        Self { window_size: self.window_size.map(|asked| asked.min(most)), ..self }
    }

    fn datagram(self) -> usize {
        HEADER_LENGTH + usize::from(self.block_size.unwrap_or(DEFAULT_BLOCK_SIZE))
    }
}

impl Terms {
    /// Answers the options of a request for a file of `length` bytes. `mtu` is the size of an IP packet that reaches the client
    /// unfragmented. A block is never fragmented: firmware with little memory loses fragments first.
    #[must_use]
    pub fn negotiate(options: Options, length: u64, mtu: u16) -> Self {
        let Options { block_size, transfer_size, timeout, window_size } = options;
        let block_size = block_size.map(|asked| asked.min(mtu.saturating_sub(OVERHEAD)).max(8));
        let datagram = HEADER_LENGTH + usize::from(block_size.unwrap_or(DEFAULT_BLOCK_SIZE));
        let most = WINDOW_LIMIT.min((IN_FLIGHT_LIMIT / datagram) as u16);
        let window_size = window_size.map(|asked| asked.min(most).max(1));
        Self {
            length,
            block_size: block_size.unwrap_or(DEFAULT_BLOCK_SIZE),
            window: window_size.unwrap_or(1).max(1),
            timeout: timeout.map(|seconds| Duration::from_secs(seconds.into())),
            netascii: false,
            acknowledged: Options { block_size, transfer_size, timeout, window_size },
        }
    }

    /// The same for a transfer in netascii. `tsize` is ignored: it is the length on the wire, which is not known before the whole file
    /// was read and encoded.
    #[must_use]
    pub fn negotiate_netascii(options: Options, length: u64, mtu: u16) -> Self {
        let options = Options { transfer_size: false, ..options };
        Self { netascii: true, ..Self::negotiate(options, length, mtu) }
    }

    /// Returns `true` if an option acknowledgement precedes the first block.
    #[must_use]
    pub fn has_options(&self) -> bool {
        self.acknowledged != Options::default()
    }

    /// Returns `true` if the client is told the length of the file.
    #[must_use]
    pub fn tells_length(&self) -> bool {
        self.acknowledged.transfer_size
    }

    /// Returns the number of blocks. The last is shorter than the others: empty, if the length is a multiple of the block size. In
    /// netascii, returns the largest number that there can be, if every byte becomes two.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let length = if self.netascii { self.length.saturating_mul(2) } else { self.length };
        length / u64::from(self.block_size) + 1
    }

    /// Returns the option acknowledgement.
    #[must_use]
    pub fn option_acknowledgement(&self) -> Vec<u8> {
        let Options { block_size, transfer_size, timeout, window_size } = self.acknowledged;
        let mut packet = OACK.to_be_bytes().to_vec();
        let mut option = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                // Writing to memory cannot fail.
                let _ = write!(packet, "{name}\0{value}\0");
            }
        };
        option("blksize", block_size.map(u64::from));
        option("tsize", transfer_size.then_some(self.length));
        option("timeout", timeout.map(u64::from));
        option("windowsize", window_size.map(u64::from));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_by_request() {
        let none = Options::default();
        let (size, window, mtu) = (
            |bytes| Options { block_size: Some(bytes), ..none },
            |blocks| Options { window_size: Some(blocks), ..none },
            1500,
        );
        type Case = (&'static str, Options, u16, (u16, u16), &'static [u8]);
        let cases: &[Case] = &[
            ("no options", none, mtu, (512, 1), b"\0\x06"),
            ("block size that fits", size(1468), mtu, (1468, 1), b"\0\x06blksize\x001468\0"),
            ("block size that does not fit", size(65464), mtu, (1468, 1), b"\0\x06blksize\x001468\0"),
            ("jumbo frames", size(65464), 9000, (8968, 1), b"\0\x06blksize\x008968\0"),
            ("loopback", size(65464), 65535, (65464, 1), b"\0\x06blksize\x0065464\0"),
            ("absurd MTU", size(1468), 20, (8, 1), b"\0\x06blksize\x008\0"),
            ("window", window(4), mtu, (512, 4), b"\0\x06windowsize\x004\0"),
            (
                "window of large blocks",
                Options { window_size: Some(64), ..size(65464) },
                9000,
                (8968, 10),
                b"\0\x06blksize\x008968\0windowsize\x0010\0",
            ),
            (
                "window of huge blocks",
                Options { window_size: Some(64), ..size(65464) },
                65535,
                (65464, 1),
                b"\0\x06blksize\x0065464\0windowsize\x001\0",
            ),
            ("window too large", window(65535), mtu, (512, 64), b"\0\x06windowsize\x0064\0"),
            (
                "all options",
                Options { block_size: Some(1024), transfer_size: true, timeout: Some(2), window_size: Some(8) },
                mtu,
                (1024, 8),
                b"\0\x06blksize\x001024\0tsize\x00100000\0timeout\x002\0windowsize\x008\0",
            ),
        ];
        for &(name, options, mtu, (block_size, window), acknowledgement) in cases {
            let terms = Terms::negotiate(options, 100_000, mtu);
            assert_eq!((terms.block_size, terms.window), (block_size, window), "{name}");
            assert_eq!(terms.option_acknowledgement(), acknowledgement, "{name}");
            assert_eq!(terms.has_options(), options != none, "{name}");
        }
    }

    #[test]
    fn window_is_cut_to_the_bytes_that_a_shared_socket_allows() {
        let asked = |block_size, window_size| Options { block_size, window_size, ..Options::default() };
        // Block size and window that are asked for; bytes in flight; window that is left.
        type Case = ((Option<u16>, Option<u16>), usize, Option<u16>);
        let cases: &[Case] = &[
            ((None, None), 516, None),
            ((Some(1468), None), 1472, None),
            ((Some(1468), Some(4)), 5888, Some(4)),
            ((Some(1468), Some(5)), 7360, Some(4)),
            ((Some(1468), Some(64)), 94_208, Some(4)),
            ((Some(1468), Some(65535)), 94_208, Some(4)),
            ((Some(512), Some(64)), 33_024, Some(11)),
            ((Some(8), Some(64)), 768, Some(64)),
            ((Some(8968), Some(8)), 71_776, Some(1)),
            ((Some(65464), Some(1)), 65_468, Some(1)),
        ];
        for &((block_size, window_size), in_flight, left) in cases {
            let options = asked(block_size, window_size);
            assert_eq!(options.in_flight(), in_flight, "{options:?}");
            assert_eq!(options.with_window_within(5888), asked(block_size, left), "{options:?}");
        }
    }

    #[test]
    fn netascii_leaves_the_length_out() {
        let asked = Options { block_size: Some(1024), transfer_size: true, ..Options::default() };
        let terms = Terms::negotiate_netascii(asked, 100_000, 1500);
        assert_eq!(terms.option_acknowledgement(), b"\0\x06blksize\x001024\0");
        assert!(!terms.tells_length());
        let only_length = Options { transfer_size: true, ..Options::default() };
        assert!(
            !Terms::negotiate_netascii(only_length, 100_000, 1500).has_options(),
            "the first block goes out at once"
        );
    }

    #[test]
    fn last_block_is_shorter_than_the_others() {
        let blocks = |length| Terms::negotiate(Options::default(), length, 1500).blocks();
        assert_eq!([0, 1, 511, 512, 513, 1024].map(blocks), [1, 1, 1, 2, 2, 3]);
    }
}
