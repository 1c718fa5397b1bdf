//! Shared by the DHCP tests: captures, a machine, a server, a printer for messages.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
};

use pxe_common::{MacAddr, bootp::field};
use pxe_userspace::{
    dhcp::{
        Arrival, Mode, Server,
        decode::Options,
        wire::{MessageType, code},
    },
    model::{
        architecture::Architecture,
        inventory::{Machine, Role, Site, Source},
        policy::{BootPolicy, DiskRoute},
    },
    net::networks::Networks,
};

/// Returns the directory of the captures and their goldens.
pub fn firmware_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firmware")
}

/// Returns the captures, sorted by name.
pub fn captures() -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(firmware_directory())
        .expect("the captures are there")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// One DHCP message from a client.
pub struct Packet {
    /// Its number in the capture, counted from 1 as Wireshark does.
    pub number: usize,
    /// Its source and destination.
    pub arrival: Arrival,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Returns the messages of clients in a capture.
pub fn client_packets(path: &Path) -> Vec<Packet> {
    dhcp_packets(path).into_iter().filter(|packet| packet.payload.first() == Some(&1)).collect()
}

/// Returns every frame of a capture in the classic pcap format.
pub fn frames(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("a readable capture");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    assert!(matches!(word(0), 0xa1b2_c3d4 | 0xa1b2_3c4d), "little-endian pcap");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = word(at + 8);
        frames.push(bytes[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    frames
}

/// Returns every DHCP message of a capture: Ethernet, IPv4 without options or fragments.
pub fn dhcp_packets(path: &Path) -> Vec<Packet> {
    let mut packets = Vec::new();
    for (number, frame) in (1..).zip(frames(path)) {
        let is_udp = frame.len() >= 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[23] == 17;
        if !is_udp {
            continue;
        }
        let socket = |ip: usize, port: usize| {
            let octets: [u8; 4] = frame[ip..ip + 4].try_into().expect("four bytes");
            SocketAddrV4::new(octets.into(), u16::from_be_bytes([frame[port], frame[port + 1]]))
        };
        let mut arrival = Arrival::between(socket(26, 34), socket(30, 36));
        arrival.sender.0.copy_from_slice(&frame[6..12]);
        let udp_length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
        if [67, 68, 4011].contains(&arrival.destination.port()) {
            packets.push(Packet { number, arrival, payload: frame[42..34 + udp_length].to_vec() });
        }
    }
    packets
}

/// Returns the machine of the captures.
pub fn machine(architecture: Architecture) -> Machine {
    Machine {
        mac: MacAddr([0x52, 0x54, 0x00, 0x99, 0x00, 0x01]),
        additional_macs: Arc::default(),
        address: Ipv4Addr::new(10, 99, 0, 168),
        cluster: "lab".into(),
        role: Role::Worker,
        architecture,
        version: "v1.13.0".into(),
        schematic: None,
        kernel_args: "".into(),
        hostname: Some("worker-1".into()),
        prefix_length: None,
        gateway: None,
        dns_servers: [Ipv4Addr::new(10, 99, 0, 53), Ipv4Addr::new(9, 9, 9, 9)].into(),
        policy: BootPolicy::Auto,
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "br0".into(), address: Ipv4Addr::new(10, 99, 0, 1) }),
        source: Source { file: Path::new("lab.yaml").into(), line: 1 },
    }
}

/// Returns the server of the captures.
pub fn server(mode: Mode) -> Server {
    let last = if mode == Mode::Proxy { 2 } else { 1 };
    let address = Ipv4Addr::new(10, 99, 0, last);
    let networks = Networks::around(address, &[(address, 24)]);
    Server { address, also: Default::default(), networks, http_port: 8000, lease_seconds: 3600, mode, guard: None }
}

/// Returns the addresses of a client's broadcast.
pub fn broadcast() -> Arrival {
    Arrival::between(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))
}

/// Describes a message in words, one field or option a line.
pub fn describe(message: &[u8]) -> String {
    let mut text = String::new();
    let ip = |range: std::ops::Range<usize>| Ipv4Addr::from(<[u8; 4]>::try_from(&message[range]).expect("four bytes"));
    let string = |range: std::ops::Range<usize>| {
        String::from_utf8_lossy(message[range].split(|&byte| byte == 0).next().unwrap()).into_owned()
    };
    let _ =
        writeln!(text, "  xid {} flags {} hops {}", hex(&message[field::XID]), hex(&message[field::FLAGS]), message[3]);
    let _ = writeln!(
        text,
        "  ciaddr {} yiaddr {} siaddr {} giaddr {}",
        ip(field::CIADDR),
        ip(field::YIADDR),
        ip(field::SIADDR),
        ip(field::GIADDR)
    );
    let _ = writeln!(text, "  chaddr {}", hex(&message[field::CHADDR]));
    let _ = writeln!(text, "  sname {:?} file {:?}", string(field::SNAME), string(field::FILE));
    for option in Options::new(message, field::OPTIONS..message.len()) {
        let (number, value) = option.expect("a whole option");
        let value = &message[value];
        let _ = match number {
            code::MESSAGE_TYPE => writeln!(text, "  option 53: {:?}", MessageType::from(value[0])),
            code::PARAMETERS => writeln!(text, "  option 55: {value:?}"),
            _ if value.len() > 3 && value.iter().all(|byte| (32..127).contains(byte)) => {
                writeln!(text, "  option {number}: {:?}", String::from_utf8_lossy(value))
            }
            _ => writeln!(text, "  option {number}: {}", hex(value)),
        };
    }
    text
}

/// Formats bytes as two digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
