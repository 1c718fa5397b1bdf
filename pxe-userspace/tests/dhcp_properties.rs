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
        client::classify,
        decode::{Options, Query, decode},
        encode::MAXIMUM_LENGTH,
        respond,
        wire::{MessageType, code},
    },
    model::{
        architecture::Architecture,
        inventory::Machine,
        loader::{LOADER_NAME_LIMIT, LoaderFile, OwnLoaders},
        policy::Disposition,
    },
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

/// The relay information that leaves room for the message type, option 52 and the end in the smallest options field.
const LONGEST_WITHIN_THE_LIMIT: usize = 548 - field::OPTIONS - 3 - 3 - 1;

/// Returns the bytes that an option takes with its headers (RFC 3396 §6).
fn encoded_length(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(255).max(1)
}

/// Adds an option in as many pieces as it needs.
fn push_option(packet: &mut Vec<u8>, code: u8, value: &[u8]) {
    for piece in value.chunks(255) {
        packet.extend([code, piece.len() as u8]);
        packet.extend(piece);
    }
}

/// Returns vendor classes: those of firmware, cut off anywhere or followed by garbage, and garbage alone.
fn vendor_class() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "PXEClient:Arch:00007:UNDI:003000",
        "PXEClient:Arch:0000b:UNDI:003000",
        "HTTPClient:Arch:00016:UNDI:003001",
        "U-Boot.armv8",
        "U-Boot",
    ]);
    let broken = (known, any::<Index>(), vec(any::<u8>(), 0..8))
        .prop_map(|(class, at, garbage)| [&class.as_bytes()[..at.index(class.len() + 1)], &garbage].concat());
    prop_oneof![broken, vec(any::<u8>(), 0..40)]
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
    let sources = (
        prop_oneof![Just(Ipv4Addr::UNSPECIFIED), Just(Ipv4Addr::new(10, 99, 0, 168))],
        prop_oneof![Just(68), any::<u16>()],
    );
    let rooms = prop_oneof![4 => Just(MAXIMUM_LENGTH), 1 => 0..2000_usize];
    (modes, dispositions, ports, sources, 0..=33_u8, rooms, any::<bool>()).prop_map(
        |(mode, disposition, port, source, prefix_length, room, long_name)| {
            let mut machine = machine(Architecture::Amd64);
            machine.prefix_length = (prefix_length < 33).then_some(prefix_length);
            if long_name {
                machine.hostname = Some("n".repeat(253).into());
                machine.dns_servers = vec![Ipv4Addr::new(9, 9, 9, 9); 70].into();
            }
            let arrival =
                Arrival::between(SocketAddrV4::new(source.0, source.1), SocketAddrV4::new(Ipv4Addr::BROADCAST, port));
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
    // The relay removes its information before the client gets the reply.
    let removed = query.option(code::RELAY_INFORMATION).map_or(0, encoded_length);
    prop_assert!(reply.len() >= 300 && reply.len() <= MAXIMUM_LENGTH);
    let fits = reply.len() <= if removed <= LONGEST_WITHIN_THE_LIMIT { accepted } else { accepted + removed };
    prop_assert!(fits, "{} bytes of {accepted} accepted", reply.len());
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
    if let ReplyRoute::Relay(relay) = sent.route {
        prop_assert_ne!(*relay.ip(), setting.server.address, "a reply to ourselves");
        prop_assert_ne!(relay.port(), 0);
        prop_assert!(gives_address || reply[field::FLAGS][0] & 0x80 != 0, "the relay has no address to send it to");
    }
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
    if !boot_file.is_empty() && overload & 1 == 0 {
        prop_assert_eq!(&reply[field::FILE][..boot_file.len()], &boot_file[..]);
    }
    for (bit, range) in [(1, field::FILE), (2, field::SNAME)] {
        if overload & bit != 0 {
            prop_assert!(Options::new(reply, range.clone()).all(|option| option.is_ok()));
        }
        prop_assert!(reply[range.clone()].contains(&0), "{:?} has no end", range);
    }
    Ok(())
}

/// Checks that a reply to firmware lets it boot: the options are there, in whatever field, and its file is named.
fn check_essential(reply: &[u8], file: &str) -> Result<(), TestCaseError> {
    let overload = Options::new(reply, field::OPTIONS..reply.len())
        .flatten()
        .find_map(|(found, value)| (found == code::OVERLOAD).then(|| reply[value.start]));
    let overload = overload.unwrap_or(0);
    let fields =
        [(true, field::OPTIONS..reply.len()), (overload & 1 != 0, field::FILE), (overload & 2 != 0, field::SNAME)];
    let in_use = fields.into_iter().filter(|(holds_options, _)| *holds_options);
    let options: Vec<_> = in_use.flat_map(|(_, range)| Options::new(reply, range).flatten()).collect();
    for essential in
        [code::MESSAGE_TYPE, code::SERVER_ID, code::LEASE_SECONDS, code::SUBNET_MASK, code::ROUTER, code::VENDOR_CLASS]
    {
        prop_assert!(options.iter().any(|(found, _)| *found == essential), "option {} is gone", essential);
    }
    let by_option = options.iter().any(|(found, _)| *found == code::BOOT_FILE);
    let by_field = overload & 1 == 0 && reply[field::FILE].split(|&byte| byte == 0).next() == Some(file.as_bytes());
    prop_assert!(by_option || by_field, "the boot file is not named");
    for (found, value) in options {
        if found == code::BOOT_FILE {
            prop_assert_eq!(&reply[value.clone()], file.as_bytes());
        }
        if [code::BOOT_FILE, code::TFTP_SERVER].contains(&found) {
            prop_assert_eq!(reply[value.end], 0, "no NUL follows option {}", found);
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

    /// Sub-options that change the answer, in every state of disrepair, beside a vendor class and a list of architectures that may be
    /// as broken.
    #[test]
    fn malformed_relays_and_classes_are_survived(
        sub_options in vec((prop::sample::select(vec![1_u8, 2, 5, 11, 19, 150, 151, 152]), vec(any::<u8>(), 0..7)), 0..6),
        cut in 0..8_usize,
        class in vendor_class(),
        architectures in vec(any::<u8>(), 0..9),
        message in 1..=8_u8,
        setting in setting(),
    ) {
        let mut information: Vec<u8> = sub_options
            .iter()
            .flat_map(|(code, value)| [&[*code, value.len() as u8][..], value].concat())
            .collect();
        information.truncate(information.len().saturating_sub(cut));
        let mut packet = vec![0; field::OPTIONS];
        packet[..3].copy_from_slice(&[1, 1, 6]);
        packet[field::GIADDR].copy_from_slice(&[10, 99, 0, 7]);
        packet[field::CHADDR.start + 5] = 1;
        packet[field::COOKIE].copy_from_slice(&[99, 130, 83, 99]);
        push_option(&mut packet, code::MESSAGE_TYPE, &[message]);
        push_option(&mut packet, code::VENDOR_CLASS, &class);
        push_option(&mut packet, code::ARCHITECTURES, &architectures);
        push_option(&mut packet, code::RELAY_INFORMATION, &information);
        packet.push(code::END);
        check(&packet, &setting)?;
        let client = classify(&decode(&packet).expect("a message"));
        let listed = architectures.chunks_exact(2).any(|pair| {
            client.architecture == Some(u16::from_be_bytes([pair[0], pair[1]]))
        });
        let in_class = class.starts_with(b"U-Boot.") || class.windows(6).any(|window| window == b":Arch:");
        prop_assert!(listed || in_class || client.architecture.is_none(), "{:?}", client.architecture);
        let mut rest = &information[..];
        let mut by_source_port = None;
        while let [code, length, tail @ ..] = rest {
            let Some((_, next)) = tail.split_at_checked(usize::from(*length)) else { break };
            if *code == 19 {
                by_source_port.get_or_insert(*length == 0);
            }
            rest = next;
        }
        let mut out = vec![0xaa; MAXIMUM_LENGTH];
        let lookup = |_| Some((&setting.machine, setting.disposition));
        let outcome = respond(&packet, &setting.arrival, lookup, &setting.server, &mut out);
        if let Ok(Sent { route: ReplyRoute::Relay(relay), .. }) = outcome.verdict {
            let port = setting.arrival.source.port();
            let expected = if by_source_port == Some(true) && port != 0 { port } else { 67 };
            prop_assert_eq!(relay, SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 7), expected));
        }
    }

    /// Relays and clients choose the length of what has to be returned. There is an answer whatever they choose.
    #[test]
    fn firmware_is_answered_whatever_has_to_be_returned(
        relay in 0..1000_usize,
        id in 0..=255_usize,
        machine_id in 0..=255_usize,
        maximum in prop::option::of(0..=1500_u16),
        by_http in any::<bool>(),
        own_loader in prop::option::of(1..=LOADER_NAME_LIMIT),
    ) {
        // The relay's additions still fit into a frame.
        prop_assume!(relay + id + machine_id < 1150);
        let mut packet = vec![0; field::OPTIONS];
        packet[..3].copy_from_slice(&[1, 1, 6]);
        packet[field::GIADDR].copy_from_slice(&[10, 99, 0, 7]);
        packet[field::CHADDR.start + 5] = 1;
        packet[field::COOKIE].copy_from_slice(&[99, 130, 83, 99]);
        let (class, architecture, directory) = if by_http {
            ("HTTPClient", 16, "http://10.99.0.1:8000/assets/")
        } else {
            ("PXEClient", 7, "")
        };
        let mut machine = machine(Architecture::Amd64);
        let loader = own_loader.map_or_else(|| "ipxe-efi-x86_64.efi".to_owned(), |length| "n".repeat(length));
        let mut loaders = OwnLoaders::default();
        loaders.set(Some(LoaderFile::EfiX64), Some(loader.as_str().into()));
        machine.loaders = Some(loaders.into());
        push_option(&mut packet, code::MESSAGE_TYPE, &[1]);
        push_option(&mut packet, code::VENDOR_CLASS, class.as_bytes());
        push_option(&mut packet, code::ARCHITECTURES, &[0, architecture]);
        if let Some(maximum) = maximum {
            push_option(&mut packet, code::MAXIMUM_SIZE, &maximum.to_be_bytes());
        }
        push_option(&mut packet, code::CLIENT_ID, &vec![1; id]);
        push_option(&mut packet, code::MACHINE_ID, &vec![2; machine_id]);
        push_option(&mut packet, code::RELAY_INFORMATION, &vec![3; relay]);
        packet.push(code::END);
        let setting = Setting {
            server: server(Mode::Server),
            machine,
            arrival: Arrival::between(SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 7), 67), SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 67)),
            disposition: Disposition::Network,
            room: MAXIMUM_LENGTH,
        };
        check(&packet, &setting)?;
        let mut out = vec![0xaa; MAXIMUM_LENGTH];
        let lookup = |_| Some((&setting.machine, setting.disposition));
        let outcome = respond(&packet, &setting.arrival, lookup, &setting.server, &mut out);
        prop_assert!(outcome.verdict.is_ok(), "{:?}", outcome.verdict);
        check_essential(&out[..outcome.verdict.map_or(0, |sent| sent.length)], &format!("{directory}{loader}"))?;
    }
}
