//! Cuts a window of TFTP, which the kernel sends as one large datagram and cuts last (UDP GSO), into the datagrams that the machine receives.
//! A packet socket sees it before that.

use pxe_common::frame::{IPV4_LENGTH, PROTOCOL_UDP, UDP_LENGTH, ethertype};

use super::selection::network_layer;
use crate::net::frame::{folded, sum};

/// The opcode of DATA, and the bytes in front of a block (RFC 1350).
const DATA: u16 = 3;
const TFTP_HEADER: usize = 4;
/// The smallest block (RFC 2348).
const SMALLEST_BLOCK: usize = 8;

/// Returns the frames of the datagrams, or `None` if the frame is not a window of TFTP.
///
/// The length of a block is where the next block begins: each has the number after the one before. A single block whose content looks so is one in
/// 2³² for each length, or made to look so, and then only the capture of its sender is wrong.
pub(super) fn of_window(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (start, ethertype) = network_layer(frame)?;
    let ip = frame.get(start..)?.first_chunk::<IPV4_LENGTH>()?;
    if ethertype != ethertype::IPV4 || ip[0] != 0x45 || ip[9] != PROTOCOL_UDP {
        return None;
    }
    let payload_start = start + IPV4_LENGTH + UDP_LENGTH;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    // The kernel's padding is not payload. The length in the header may be 0, if the kernel has not written it yet.
    let end = if total == 0 { frame.len() } else { frame.len().min(start + total) };
    let payload = frame.get(payload_start..end)?;
    let segment = segment_length(payload)?;
    let headers = frame.get(..payload_start)?;
    Some(payload.chunks(segment).map(|datagram| datagram_of(headers, start, datagram)).collect())
}

/// Returns the length of each datagram but the last.
fn segment_length(payload: &[u8]) -> Option<usize> {
    let first = block_number(payload)?;
    (TFTP_HEADER + SMALLEST_BLOCK..=payload.len().checked_sub(TFTP_HEADER)?).find(|&length| {
        let mut next = first;
        payload.chunks(length).skip(1).all(|datagram| {
            next = next.wrapping_add(1);
            // Behind 65535 comes 0, or 1 for some.
            block_number(datagram).is_some_and(|number| number == next || (next == 0 && number == 1))
        })
    })
}

fn block_number(datagram: &[u8]) -> Option<u16> {
    let [a, b, c, d] = *datagram.first_chunk()?;
    (u16::from_be_bytes([a, b]) == DATA).then_some(u16::from_be_bytes([c, d]))
}

/// Returns a frame with these headers, whose lengths and checksums are those of the payload.
fn datagram_of(headers: &[u8], ip_start: usize, payload: &[u8]) -> Vec<u8> {
    let mut frame = [headers, payload].concat();
    let udp_start = ip_start + IPV4_LENGTH;
    let udp_length = UDP_LENGTH + payload.len();
    let (lengths, total) = (udp_length as u16, (IPV4_LENGTH + udp_length) as u16);
    frame[ip_start + 2..ip_start + 4].copy_from_slice(&total.to_be_bytes());
    frame[ip_start + 10..ip_start + 12].fill(0);
    let checksum = folded(sum(&frame[ip_start..udp_start]));
    frame[ip_start + 10..ip_start + 12].copy_from_slice(&checksum.to_be_bytes());
    frame[udp_start + 4..udp_start + 6].copy_from_slice(&lengths.to_be_bytes());
    frame[udp_start + 6..udp_start + 8].fill(0);
    let pseudo = u64::from(PROTOCOL_UDP) + u64::from(lengths) + sum(&frame[ip_start + 12..udp_start]);
    let checksum = match folded(pseudo + sum(&frame[udp_start..])) {
        0 => u16::MAX,
        checksum => checksum,
    };
    frame[udp_start + 6..udp_start + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 5], 64);
        builder.udp(40_000, 1024).write(&mut frame, payload).unwrap();
        frame
    }

    fn block(number: u16, content: &[u8]) -> Vec<u8> {
        [&[0, 3], &number.to_be_bytes()[..], content].concat()
    }

    proptest! {
        #[test]
        fn window_is_cut_into_its_blocks(
            size in 8_usize..1469,
            count in 2_u16..40,
            last in 0_usize..1469,
            first in any::<u16>(),
            byte in any::<u8>(),
        ) {
            prop_assume!((size + 32) * usize::from(count) < 60_000);
            let blocks: Vec<_> = (0..count).map(|index| {
                let length = if index + 1 == count { last.min(size) } else { size };
                block(first.wrapping_add(index), &vec![byte; length])
            }).collect();
            let window = frame(&blocks.concat());
            let frames = of_window(&window).unwrap();
            prop_assert_eq!(frames.len(), blocks.len());
            for (frame, block) in frames.iter().zip(&blocks) {
                let packet = SlicedPacket::from_ethernet(frame).unwrap();
                let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("IPv4") };
                let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("UDP") };
                let header = ip.header().to_header();
                prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                prop_assert_eq!(udp.payload(), &block[..]);
                let udp_header = udp.to_header();
                prop_assert_eq!(udp_header.checksum, udp_header.calc_checksum_ipv4(&header, block).unwrap());
            }
        }

        #[test]
        fn anything_is_no_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let _ = of_window(&bytes);
            bytes.truncate(80);
            let mut frame = frame(&[block(1, b"12345678"), block(2, &bytes)].concat());
            // In the headers, or in the first block.
            let at = at.index(frame.len().min(60));
            frame[at] = byte;
            let _ = of_window(&frame);
        }
    }

    #[test]
    fn single_datagrams_stay_as_they_are() {
        for payload in
            [block(1, &[7; 1468]), block(1, b""), b"\0\x06blksize\x001468\0".to_vec(), vec![0; 1000], Vec::new()]
        {
            assert_eq!(of_window(&frame(&payload)), None, "{payload:?}");
        }
    }
}
