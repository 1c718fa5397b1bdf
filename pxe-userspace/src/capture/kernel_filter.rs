//! A classic BPF program that spares a capture the frames of other machines. What passes is selected again by `selection`.

use std::net::Ipv4Addr;

use pxe_common::{
    MacAddr,
    frame::{ETHERNET_LENGTH, PROTOCOL_UDP, ethertype},
};

use super::selection::{ARP, TCP};

/// The most cards of a machine that the program compares. With more, all IPv4 passes.
const MOST_CARDS: usize = 16;
/// The bytes of a segment of TCP that are copied: the headers, and what a capture keeps of HTTP.
const TCP_BYTES: u32 = 4352;

// Instructions (linux/filter.h).
const LDW: u16 = 0x20;
const LDH: u16 = 0x28;
const LDB: u16 = 0x30;
const LDH_X: u16 = 0x48;
const LDX_IP_HEADER: u16 = 0xb1;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// The end of a jump that is not known yet.
const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = u32::MAX - 1;

type Instruction = (u16, u8, u8, u32);

/// Returns the program for the machine with these cards and this address.
pub(super) fn filter(macs: &[MacAddr], address: Option<Ipv4Addr>) -> Vec<libc::sock_filter> {
    const IP: u32 = ETHERNET_LENGTH as u32;
    let mut program: Vec<Instruction> = Vec::new();
    // Jumps to the end if A is equal.
    let jump_if = |program: &mut Vec<Instruction>, value: u32, end: u32| {
        program.extend([(JEQ, 0, 1, value), (JUMP, 0, 0, end)]);
    };
    program.push((LDH, 0, 0, IP - 2));
    for tagged_or_arp in [ARP, ethertype::VLAN, ethertype::SERVICE_VLAN] {
        jump_if(&mut program, tagged_or_arp.into(), ACCEPT);
    }
    program.extend([(JEQ, 1, 0, ethertype::IPV4.into()), (JUMP, 0, 0, REJECT)]);
    // DHCP: the machine may be named inside alone. Of a fragment, the ports are not there.
    let ports = [67, 68, 4011];
    let length = 3 + 2 * (1 + 2 * ports.len());
    program.extend([(LDB, 0, 0, IP + 9), (JEQ, 0, length as u8, PROTOCOL_UDP.into())]);
    program.extend([(LDH, 0, 0, IP + 6), (JSET, length as u8 - 2, 0, 0x1fff), (LDX_IP_HEADER, 0, 0, IP)]);
    for at in [IP, IP + 2] {
        program.push((LDH_X, 0, 0, at));
        ports.iter().for_each(|&port| jump_if(&mut program, port, ACCEPT));
    }
    if let Some(address) = address {
        for at in [IP + 12, IP + 16] {
            program.push((LDW, 0, 0, at));
            jump_if(&mut program, address.to_bits(), ACCEPT);
        }
    }
    if macs.len() > MOST_CARDS {
        program.push((JUMP, 0, 0, ACCEPT));
    } else {
        for MacAddr([a, b, c, d, e, f]) in macs {
            for at in [0, 6] {
                let (first, last) = (u32::from_be_bytes([*a, *b, *c, *d]), u16::from_be_bytes([*e, *f]));
                program.extend([(LDW, 0, 0, at), (JEQ, 0, 3, first), (LDH, 0, 0, at + 4)]);
                jump_if(&mut program, last.into(), ACCEPT);
            }
        }
    }
    let reject = program.len();
    program.push((RET, 0, 0, 0));
    let accept = program.len();
    program.extend([(LDB, 0, 0, IP + 9), (JEQ, 0, 3, TCP.into()), (LDH, 0, 0, IP - 2)]);
    program.extend([(JEQ, 0, 1, ethertype::IPV4.into()), (RET, 0, 0, TCP_BYTES), (RET, 0, 0, u32::MAX)]);
    for (index, (code, _, _, k)) in program.iter_mut().enumerate() {
        let end = match (*code, *k) {
            (JUMP, ACCEPT) => accept,
            (JUMP, REJECT) => reject,
            _ => continue,
        };
        *k = (end - index - 1) as u32;
    }
    program.into_iter().map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixDatagram};

    use etherparse::PacketBuilder;
    use pxe_common::testing::FrameBuilder;

    use super::*;
    use crate::net::packet_observer::attach_filter;

    const MACHINE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
    const ADDRESS: [u8; 4] = [10, 0, 0, 5];

    fn ipv4(macs: ([u8; 6], [u8; 6]), addresses: ([u8; 4], [u8; 4]), is_tcp: bool, payload: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(addresses.0, addresses.1, 64);
        let payload = vec![b'x'; payload];
        match is_tcp {
            true => builder.tcp(8000, 5000, 1, 1).write(&mut frame, &payload).unwrap(),
            false => builder.udp(4000, 5000).write(&mut frame, &payload).unwrap(),
        }
        frame
    }

    /// The kernel runs a filter in the same way on every kind of socket, so a datagram socket serves for the test.
    #[test]
    fn frames_of_other_machines_stay_in_the_kernel() {
        let (far, us) = ([192, 0, 2, 1], [10, 0, 0, 1]);
        let dhcp = FrameBuilder::default().build();
        let mut fragment = ipv4((OTHER, OTHER), (far, us), false, 100);
        fragment[20] = 0x1f;
        let mut fragment_of_machine = ipv4((OTHER, OTHER), (ADDRESS, us), false, 100);
        fragment_of_machine[20] = 0x1f;
        let arp = [&[0xff; 6][..], &OTHER, &[8, 6], &[0; 46]].concat();
        let tagged = [&[0xff; 6][..], &OTHER, &[0x81, 0, 0, 7, 8, 0], &[0; 60]].concat();
        let ipv6 = [&MACHINE[..], &OTHER, &[0x86, 0xdd], &[0; 60]].concat();
        let whole = usize::MAX;
        let cases = [
            ("DHCP of anybody", dhcp, Some(whole)),
            ("ARP", arp, Some(whole)),
            ("tagged", tagged, Some(whole)),
            ("IPv6", ipv6, None),
            ("from its card", ipv4((MACHINE, OTHER), (far, us), false, 3000), Some(whole)),
            ("to its card", ipv4((OTHER, MACHINE), (far, us), false, 3000), Some(whole)),
            ("from its address", ipv4((OTHER, OTHER), (ADDRESS, us), false, 3000), Some(whole)),
            ("to its address", ipv4((OTHER, OTHER), (us, ADDRESS), false, 3000), Some(whole)),
            ("of others", ipv4((OTHER, OTHER), (far, us), false, 3000), None),
            ("fragment of others", fragment, None),
            ("its fragment", fragment_of_machine, Some(whole)),
            ("TCP of others", ipv4((OTHER, OTHER), (far, us), true, 3000), None),
            ("its TCP", ipv4((OTHER, OTHER), (us, ADDRESS), true, 9000), Some(TCP_BYTES as usize)),
        ];
        for cards in [1, MOST_CARDS, MOST_CARDS + 1] {
            let macs: Vec<_> = (0..cards).map(|card| MacAddr([0x52, 0x54, 0, card as u8, 0, 1])).collect();
            let (sender, receiver) = UnixDatagram::pair().unwrap();
            let filtered = OwnedFd::from(receiver.try_clone().unwrap());
            attach_filter(&filtered, &filter(&macs, Some(ADDRESS.into()))).unwrap();
            receiver.set_nonblocking(true).unwrap();
            for (name, frame, expected) in &cases {
                let is_ipv4 = frame[12..14] == [8, 0];
                let expected = if cards > MOST_CARDS && is_ipv4 {
                    Some(if frame[23] == 6 { TCP_BYTES as usize } else { whole })
                } else {
                    *expected
                };
                sender.send(frame).unwrap();
                let mut buffer = [0; 10_000];
                let received = receiver.recv(&mut buffer).ok();
                assert_eq!(received, expected.map(|bytes| bytes.min(frame.len())), "{name}, {cards} cards");
            }
        }
    }
}
