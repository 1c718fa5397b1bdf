//! For any input, the responder survives, and its reply is sound: it fits, it is complete, and an independent decoder reads the same
//! in it.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{self, Decodable as _, Decoder, DhcpOption, OptionCode};
use proptest::{collection::vec, prelude::*, sample::Index};
use pxe_common::bootp::field;
use pxe_userspace::{
    dhcp::{
        Arrival, Mode, ReplyRoute, Sent, Server,
        decode::{Options, Query, decode},
        encode::MAXIMUM_LENGTH,
        respond,
        wire::{MessageType, code},
    },
    model::{architecture::Architecture, inventory::Machine, policy::Disposition},
};

use common::{captures, client_packets, machine, server};

/// One change to a packet.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Truncate(Index),
    Extend(Vec<u8>),
    /// An option before the first one, mostly of a code that matters.
    Option(u8, Vec<u8>),
    Address(usize, Ipv4Addr),
}

fn change() -> impl Strategy<Value = Change> {
    let codes = prop::sample::select(vec![50, 51, 52, 53, 54, 55, 57, 60, 61, 77, 82, 93, 97, 118, 175]);
    let fields = prop::sample::select(vec![field::CIADDR.start, field::YIADDR.start, field::GIADDR.start]);
    let addresses = prop_oneof![
        Just(Ipv4Addr::UNSPECIFIED),
        Just(Ipv4Addr::new(10, 99, 0, 168)),
        Just(Ipv4Addr::new(10, 99, 0, 1)),
        any::<[u8; 4]>().prop_map(Ipv4Addr::from),
    ];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<Index>().prop_map(Change::Truncate),
        1 => vec(any::<u8>(), 0..600).prop_map(Change::Extend),
        3 => (codes, vec(any::<u8>(), 0..=255)).prop_map(|(code, value)| Change::Option(code, value)),
        2 => (fields, addresses).prop_map(|(at, address)| Change::Address(at, address)),
    ]
}

fn apply(mut packet: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Byte(at, byte) if !packet.is_empty() => {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            Change::Truncate(at) if !packet.is_empty() => packet.truncate(at.index(packet.len())),
            Change::Extend(bytes) => packet.extend(bytes),
            Change::Option(code, value) if packet.len() > field::OPTIONS => {
                let option = [vec![code, value.len() as u8], value].concat();
                packet.splice(field::OPTIONS..field::OPTIONS, option);
            }
            Change::Address(at, address) if packet.len() > field::OPTIONS => {
                packet[at..at + 4].copy_from_slice(&address.octets());
            }
            _ => {}
        }
    }
    packet
}

fn captured_packets() -> Vec<Vec<u8>> {
    captures().iter().flat_map(|path| client_packets(path)).map(|packet| packet.payload).collect()
}

#[derive(Clone, Debug)]
struct Setting {
    server: Server,
    machine: Machine,
    arrival: Arrival,
    disposition: Disposition,
    room: usize,
}

fn setting() -> impl Strategy<Value = Setting> {
    let modes = prop_oneof![Just(Mode::Server), Just(Mode::Proxy)];
    let dispositions = prop_oneof![Just(Disposition::Network), Just(Disposition::Disk)];
    let ports = prop_oneof![3 => Just(67), 1 => Just(4011)];
    let sources = prop_oneof![Just(Ipv4Addr::UNSPECIFIED), Just(Ipv4Addr::new(10, 99, 0, 168))];
    let rooms = prop_oneof![4 => Just(MAXIMUM_LENGTH), 1 => 0..2000_usize];
    (modes, dispositions, ports, sources, 0..=33_u8, rooms, any::<bool>()).prop_map(
        |(mode, disposition, port, source, prefix_length, room, long_name)| {
            let mut machine = machine(Architecture::Amd64);
            machine.prefix_length = (prefix_length < 33).then_some(prefix_length);
            if long_name {
                machine.hostname = Some("n".repeat(253).into());
                machine.dns_servers = vec![Ipv4Addr::new(9, 9, 9, 9); 70].into();
            }
            let arrival = Arrival {
                source: SocketAddrV4::new(source, 68),
                destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, port),
            };
            Setting { server: server(mode), machine, arrival, disposition, room }
        },
    )
}

/// Asks, and checks the reply.
fn check(packet: &[u8], setting: &Setting) -> Result<(), TestCaseError> {
    let mut out = vec![0xaa; setting.room];
    let lookup = |_| Some((&setting.machine, setting.disposition));
    let outcome = respond(packet, &setting.arrival, lookup, &setting.server, &mut out);
    let Ok(sent) = outcome.verdict else {
        return Ok(());
    };
    let reply = out.get(..sent.length).expect("the reply is within the buffer");
    let query = decode(packet).expect("what is answered was understood");
    check_frame(reply, &query, &sent, setting)?;
    check_options(reply, &query)?;
    check_with_dhcproto(reply, &sent)
}

fn check_frame(reply: &[u8], query: &Query<'_>, sent: &Sent, setting: &Setting) -> Result<(), TestCaseError> {
    let accepted = usize::from(query.maximum_size().unwrap_or(576)) - 28;
    prop_assert!(reply.len() >= 300 && reply.len() <= accepted && reply.len() <= MAXIMUM_LENGTH);
    prop_assert_eq!(&reply[..4], &[2, 1, 6, 0]);
    prop_assert_eq!(&reply[field::COOKIE], &[99, 130, 83, 99]);
    for copied in [field::XID, field::GIADDR, field::CHADDR] {
        prop_assert_eq!(&reply[copied.clone()], &query.header()[copied]);
    }
    let gives_address = reply[field::YIADDR] != [0; 4];
    if setting.server.mode == Mode::Proxy {
        prop_assert!(!gives_address, "ProxyDHCP gave an address");
    }
    if gives_address {
        prop_assert_eq!(&reply[field::YIADDR], &setting.machine.address.octets());
    }
    let to = *sent.route.destination().ip();
    prop_assert!(!to.is_unspecified(), "{:?}", sent.route);
    prop_assert!(sent.route != ReplyRoute::Relay(setting.server.address), "a reply to ourselves");
    Ok(())
}

fn check_options(reply: &[u8], query: &Query<'_>) -> Result<(), TestCaseError> {
    let options: Result<Vec<_>, u8> = Options::new(reply, field::OPTIONS..reply.len()).collect();
    let options = options.expect("whole options");
    let joined = |wanted| -> Vec<u8> {
        let of_code = options.iter().filter(|(code, _)| *code == wanted);
        of_code.flat_map(|(_, value)| reply[value.clone()].to_vec()).collect()
    };
    prop_assert_eq!(options.first().map(|(code, _)| *code), Some(code::MESSAGE_TYPE));
    let relay_information = query.option(code::RELAY_INFORMATION);
    prop_assert_eq!(joined(code::RELAY_INFORMATION), relay_information.unwrap_or_default());
    if relay_information.is_some() {
        prop_assert_eq!(options.last().map(|(code, _)| *code), Some(code::RELAY_INFORMATION));
    }
    let overload = joined(code::OVERLOAD).first().copied().unwrap_or(0);
    let boot_file = joined(code::BOOT_FILE);
    if !boot_file.is_empty() {
        prop_assert_eq!(overload & 1, 0, "`file` names the boot file");
        prop_assert_eq!(&reply[field::FILE][..boot_file.len()], &boot_file[..]);
    }
    for (bit, range) in [(1, field::FILE), (2, field::SNAME)] {
        if overload & bit != 0 {
            prop_assert!(Options::new(reply, range).all(|option| option.is_ok()));
        }
    }
    Ok(())
}

/// Compares the header and the options of the options field with what dhcproto reads.
fn check_with_dhcproto(reply: &[u8], sent: &Sent) -> Result<(), TestCaseError> {
    let message = v4::Message::decode(&mut Decoder::new(reply)).expect("dhcproto reads the reply");
    prop_assert_eq!(message.opcode(), v4::Opcode::BootReply);
    prop_assert_eq!(message.chaddr(), &reply[field::CHADDR][..6]);
    prop_assert_eq!(message.yiaddr().octets(), &reply[field::YIADDR]);
    prop_assert_eq!(message.siaddr().octets(), &reply[field::SIADDR]);
    let said = match sent.message {
        MessageType::Offer => v4::MessageType::Offer,
        MessageType::Nak => v4::MessageType::Nak,
        _ => v4::MessageType::Ack,
    };
    prop_assert_eq!(message.opts().msg_type(), Some(said));
    let mut ours = std::collections::BTreeMap::<u8, Vec<u8>>::new();
    for (code, value) in Options::new(reply, field::OPTIONS..reply.len()).flatten() {
        ours.entry(code).or_default().extend_from_slice(&reply[value]);
    }
    for (code, value) in ours {
        let theirs = message.opts().get(OptionCode::from(code));
        let Some(theirs) = theirs else {
            // dhcproto cannot represent an option in two pieces, nor malformed relay information.
            prop_assert!(value.len() > 255 || code == code::RELAY_INFORMATION, "option {} is gone", code);
            continue;
        };
        let same = match theirs {
            DhcpOption::SubnetMask(address)
            | DhcpOption::BroadcastAddr(address)
            | DhcpOption::ServerIdentifier(address) => address.octets() == *value,
            DhcpOption::Router(addresses) | DhcpOption::DomainNameServer(addresses) => {
                addresses.iter().flat_map(Ipv4Addr::octets).eq(value.iter().copied())
            }
            DhcpOption::AddressLeaseTime(seconds) | DhcpOption::Renewal(seconds) | DhcpOption::Rebinding(seconds) => {
                seconds.to_be_bytes() == *value
            }
            DhcpOption::Hostname(text) | DhcpOption::Message(text) => text.as_bytes() == value,
            DhcpOption::ClassIdentifier(bytes)
            | DhcpOption::VendorExtensions(bytes)
            | DhcpOption::TFTPServerName(bytes)
            | DhcpOption::BootfileName(bytes)
            | DhcpOption::ClientMachineIdentifier(bytes)
            | DhcpOption::ClientIdentifier(bytes) => *bytes == value || value.len() > 255,
            _ => true,
        };
        prop_assert!(same, "option {}: {:?} is {:?} to dhcproto", code, value, theirs);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(packet in vec(any::<u8>(), 0..1600), setting in setting()) {
        check(&packet, &setting)?;
    }

    #[test]
    fn arbitrary_options_are_survived(
        header in vec(any::<u8>(), field::OPTIONS),
        options in vec(any::<u8>(), 0..1300),
        setting in setting(),
    ) {
        let mut packet = header;
        packet[..3].copy_from_slice(&[1, 1, 6]);
        packet[field::CHADDR.start] &= 0xfe;
        packet[field::COOKIE].copy_from_slice(&[99, 130, 83, 99]);
        packet.extend([53, 1, 1 + options.len() as u8 % 8]);
        packet.extend(options);
        check(&packet, &setting)?;
    }

    #[test]
    fn changed_packets_of_real_firmware_are_survived(
        which in any::<Index>(),
        changes in vec(change(), 0..12),
        setting in setting(),
    ) {
        let packets = captured_packets();
        check(&apply(packets[which.index(packets.len())].clone(), changes), &setting)?;
    }
}
