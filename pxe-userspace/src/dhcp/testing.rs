//! Shared by the tests of `dhcp`: a builder of clients' messages, a machine, a server.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    path::Path,
    sync::Arc,
};

use pxe_common::MacAddr;
use pxe_common::bootp::{MAGIC_COOKIE, field};

use super::{Arrival, Mode, Outcome, Server, decode::Options, encode::MAXIMUM_LENGTH, respond, wire::code};
use crate::{
    model::{
        architecture::Architecture,
        inventory::{Machine, Role, Site, Source},
        policy::{BootPolicy, DiskRoute, Disposition},
    },
    net::networks::Networks,
};

pub(crate) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const DECLINE: u8 = 4;
pub(crate) const RELEASE: u8 = 7;
pub(crate) const INFORM: u8 = 8;

/// A client's message under construction. [`Message::bytes`] adds the end option.
#[derive(Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn bootp() -> Self {
        let mut bytes = vec![0; field::OPTIONS];
        bytes[field::OP] = 1;
        bytes[field::HTYPE] = 1;
        bytes[field::HLEN] = 6;
        bytes[field::XID].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[field::CHADDR][..6].copy_from_slice(&MAC.0);
        bytes[field::COOKIE].copy_from_slice(&MAGIC_COOKIE);
        Self(bytes)
    }

    pub(crate) fn new(message: u8) -> Self {
        Self::bootp().option(code::MESSAGE_TYPE, &[message])
    }

    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.0.push(code);
        self.0.push(value.len() as u8);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn address(self, code: u8, address: Ipv4Addr) -> Self {
        self.option(code, &address.octets())
    }

    pub(crate) fn field(mut self, range: Range<usize>, bytes: &[u8]) -> Self {
        self.0[range][..bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn byte(mut self, at: usize, byte: u8) -> Self {
        self.0[at] = byte;
        self
    }

    pub(crate) fn ciaddr(self, address: Ipv4Addr) -> Self {
        self.field(field::CIADDR, &address.octets())
    }

    pub(crate) fn giaddr(self, address: Ipv4Addr) -> Self {
        self.field(field::GIADDR, &address.octets())
    }

    pub(crate) fn broadcast(self) -> Self {
        self.field(field::FLAGS, &[0x80, 0])
    }

    /// Adds the options of firmware of this class and architecture.
    pub(crate) fn firmware(self, class: &str, architecture: u16) -> Self {
        self.option(code::VENDOR_CLASS, class.as_bytes()).option(code::ARCHITECTURES, &architecture.to_be_bytes())
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.push(code::END);
        self.0
    }
}

pub(crate) fn machine() -> Machine {
    Machine {
        mac: MAC,
        additional_macs: Arc::default(),
        address: ADDRESS,
        cluster: "test".into(),
        role: Role::Worker,
        architecture: Architecture::Amd64,
        version: "v1.13.0".into(),
        schematic: None,
        kernel_args: "".into(),
        hostname: Some("worker-1".into()),
        prefix_length: None,
        gateway: None,
        dns_servers: [Ipv4Addr::new(9, 9, 9, 9)].into(),
        policy: BootPolicy::Auto,
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "eth0".into(), address: SERVER }),
        source: Source { file: Path::new("test.yaml").into(), line: 1 },
    }
}

pub(crate) fn server() -> Server {
    let networks = Networks::around(SERVER, &[(SERVER, 24)]);
    Server {
        address: SERVER,
        also: Arc::default(),
        networks,
        http_port: 8000,
        lease_seconds: 3600,
        mode: Mode::Server,
        guard: None,
    }
}

pub(crate) fn proxy() -> Server {
    Server { mode: Mode::Proxy, ..server() }
}

/// Returns the addresses of a query from a client without an address.
pub(crate) fn from_nowhere() -> Arrival {
    Arrival::between(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))
}

/// Returns the addresses of a unicast query from a client or a relay with an address.
pub(crate) fn from(source: Ipv4Addr, port: u16) -> Arrival {
    Arrival::between(SocketAddrV4::new(source, port), SocketAddrV4::new(SERVER, port))
}

/// A reply as its client sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    options: BTreeMap<u8, Vec<u8>>,
    /// The codes in their order. Pieces of one option count once.
    pub(crate) order: Vec<u8>,
    /// The code of each option or piece, and the place of its end.
    ends: Vec<(u8, usize)>,
}

impl Seen {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut seen = Self { bytes: bytes.to_vec(), options: BTreeMap::new(), order: Vec::new(), ends: Vec::new() };
        assert_eq!(bytes[field::COOKIE], MAGIC_COOKIE);
        seen.read(field::OPTIONS..bytes.len());
        let overload = seen.option(code::OVERLOAD).map_or(0, |value| value[0]);
        for (bit, range) in [(1, field::FILE), (2, field::SNAME)] {
            if overload & bit != 0 {
                seen.read(range);
            }
        }
        seen
    }

    fn read(&mut self, range: Range<usize>) {
        let mut end = range.start;
        while self.bytes[range.clone()][end - range.start] != code::END {
            let is_pad = self.bytes[end] == code::PAD;
            end += if is_pad { 1 } else { 2 + usize::from(self.bytes[end + 1]) };
            assert!(end < range.end, "no end option in {range:?}");
        }
        for option in Options::new(&self.bytes, range) {
            let (code, value) = option.expect("replies hold whole options");
            if self.order.last() != Some(&code) {
                self.order.push(code);
            }
            self.ends.push((code, value.end));
            self.options.entry(code).or_default().extend_from_slice(&self.bytes[value]);
        }
    }

    pub(crate) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// Returns the byte after each piece of an option.
    pub(crate) fn next_bytes(&self, code: u8) -> Vec<u8> {
        self.ends.iter().filter(|(found, _)| *found == code).map(|&(_, end)| self.bytes[end]).collect()
    }

    pub(crate) fn text(&self, code: u8) -> &str {
        self.option(code).map_or("", |value| str::from_utf8(value).unwrap())
    }

    pub(crate) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code).map(|value| <[u8; 4]>::try_from(value).unwrap().into())
    }

    pub(crate) fn field_address(&self, range: Range<usize>) -> Ipv4Addr {
        <[u8; 4]>::try_from(&self.bytes[range]).unwrap().into()
    }

    pub(crate) fn field_text(&self, range: Range<usize>) -> &str {
        str::from_utf8(self.bytes[range].split(|&byte| byte == 0).next().unwrap()).unwrap()
    }
}

/// Asks. Returns the outcome, and the reply if there is one.
pub(crate) fn ask(
    message: Message,
    arrival: &Arrival,
    machine: &Machine,
    disposition: Disposition,
    server: &Server,
) -> (Outcome, Option<Seen>) {
    let mut out = [0xaa; MAXIMUM_LENGTH];
    let lookup = |mac| (mac == machine.mac).then_some((machine, disposition));
    let outcome = respond(&message.bytes(), arrival, lookup, server, &mut out);
    let seen = outcome.verdict.ok().map(|sent| Seen::new(&out[..sent.length]));
    (outcome, seen)
}
