//! Machines on a switch, each in a namespace with its own MAC: what their firmware, loaders and systems ask for and fetch.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    topology::INTERFACE,
};

use crate::{
    plug::Plug,
    wire::{ACK, DISCOVER, Query, REQUEST},
};

/// The DHCP options of a client, beside its message type.
pub(super) type Client<'a> = &'a [(u8, &'a [u8])];

/// UEFI firmware for x86-64.
pub(super) const FIRMWARE: Client<'_> = &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];
/// iPXE on it, with HTTP.
pub(super) const IPXE: Client<'_> =
    &[(60, b"PXEClient:Arch:00007:UNDI:003010"), (93, &[0, 7]), (77, b"iPXE"), (175, &[0x13, 1, 1])];
/// Talos.
pub(super) const TALOS: Client<'_> = &[(55, &[1, 3, 15, 6, 121, 119, 42, 26, 12])];

/// The loader of [`FIRMWARE`].
pub(super) const LOADER: &str = "ipxe-efi-x86_64.efi";

/// The time for an answer, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The blocks of TFTP that firmware asks for, in bytes.
pub(super) const BLOCK: usize = 1_428;

/// A switch with pxed's host and this many machines.
pub(super) struct Lab {
    pub(super) network: Bridged,
    pub(super) artifacts: Artifacts,
    pub(super) machines: Vec<Machine>,
}

impl Lab {
    /// Creates machines that have no address yet. Each file has this length.
    pub(super) fn new(machines: u8, length: usize) -> anyhow::Result<Self> {
        let machines: Vec<_> = (1..=machines).map(Machine::number).collect();
        let network = Bridged::new(SERVER_ADDRESS, machines.len())?;
        for (number, machine) in machines.iter().enumerate() {
            network.set_mac(number, &machine.mac)?;
        }
        Ok(Self { network, artifacts: Artifacts::stand_ins(&[VERSION], length)?, machines })
    }

    /// Returns the spec of all machines.
    pub(super) fn spec(&self) -> String {
        cluster::cluster(&self.machines)
    }

    pub(super) fn pxed(&self, spec: &str, options: &[&str]) -> anyhow::Result<Pxed<'_>> {
        let options = [&["--machine-rate", "0"], options].concat();
        Pxed::start(&self.network.server, spec, self.artifacts.path(), &options)
    }

    /// Returns the hosts of as many machines, in their order.
    pub(super) fn hosts<const N: usize>(&self) -> anyhow::Result<[Host<'_>; N]> {
        let pairs = self.machines.iter().zip(&self.network.clients);
        let hosts: Vec<_> =
            pairs.map(|(machine, namespace)| Host::new(machine, namespace)).collect::<Result<_, _>>()?;
        hosts.try_into().map_err(|hosts: Vec<_>| anyhow::anyhow!("{} machines instead of {N}", hosts.len()))
    }
}

/// One machine.
pub(super) struct Host<'a> {
    pub(super) machine: &'a Machine,
    pub(super) namespace: &'a Namespace,
    pub(super) plug: Plug,
    pub(super) address: Ipv4Addr,
    /// The VLAN tags of its DHCP frames.
    pub(super) tags: Vec<[u8; 4]>,
}

impl<'a> Host<'a> {
    fn new(machine: &'a Machine, namespace: &'a Namespace) -> anyhow::Result<Self> {
        let plug = Plug::open(namespace, INTERFACE)?;
        Ok(Self { machine, namespace, plug, address: machine.address.parse()?, tags: Vec::new() })
    }

    /// Returns a DHCP message of this type.
    pub(super) fn message(&self, kind: u8, client: Client<'_>) -> anyhow::Result<Query> {
        let message = Query::discover(self.machine)?.with(&[&[(53, &[kind][..])], client].concat());
        Ok(Query { tags: self.tags.clone(), ..message })
    }

    /// Asks for an address, and waits for the offer.
    pub(super) fn discover(&self, client: Client<'_>) -> anyhow::Result<()> {
        self.plug.ask(&self.message(DISCOVER, client)?).map(drop)
    }

    /// Asks for its address as this client, and gets it.
    pub(super) fn lease(&self, client: Client<'_>) -> anyhow::Result<()> {
        self.discover(client)?;
        let (address, server) = (self.address.octets(), SERVER.parse::<Ipv4Addr>()?.octets());
        let options = [client, &[(50, &address[..]), (54, &server)]].concat();
        let ack = self.plug.ask(&self.message(REQUEST, &options)?)?;
        ensure!(ack.kind() == Some(ACK), "{ack:?}");
        Ok(())
    }

    /// Gives the machine's kernel its address, by which the lab fetches files.
    pub(super) fn use_address(&self) -> anyhow::Result<()> {
        self.has_address(self.address)
    }

    /// Gives the machine's kernel an address.
    pub(super) fn has_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        self.has_address_on(INTERFACE, address)
    }

    /// The same on another interface.
    pub(super) fn has_address_on(&self, interface: &str, address: Ipv4Addr) -> anyhow::Result<()> {
        self.namespace.ip(&["address", "add", &format!("{address}/24"), "dev", interface]).map(drop)
    }

    /// Asks for a file by TFTP, and returns the socket with pxed's first answer.
    pub(super) fn request(&self, file: &[u8], block: usize) -> anyhow::Result<Tftp> {
        self.request_from(self.address, file, block)
    }

    /// Asks for a file by TFTP, and waits for no answer.
    pub(super) fn request_alone(&self, file: &[u8]) -> anyhow::Result<()> {
        self.ask_for(self.address, file, BLOCK).map(drop)
    }

    fn ask_for(&self, from: Ipv4Addr, file: &[u8], block: usize) -> anyhow::Result<UdpSocket> {
        let request = [b"\0\x01", file, b"\0octet\0blksize\0", block.to_string().as_bytes(), b"\0"].concat();
        let socket = self.namespace.enter(|| UdpSocket::bind(SocketAddrV4::new(from, 0)))??;
        socket.set_read_timeout(Some(SOON))?;
        socket.send_to(&request, (SERVER, 69))?;
        Ok(socket)
    }

    /// Asks from an address that the machine's kernel has.
    fn request_from(&self, from: Ipv4Addr, file: &[u8], block: usize) -> anyhow::Result<Tftp> {
        let socket = self.ask_for(from, file, block)?;
        let mut answer = vec![0; 2_048];
        let (length, port) = socket.recv_from(&mut answer).context("no answer by TFTP")?;
        answer.truncate(length);
        Ok(Tftp { socket, port, answer, block })
    }

    /// Loads a whole file by TFTP.
    pub(super) fn load(&self, file: &str) -> anyhow::Result<()> {
        self.request(file.as_bytes(), BLOCK)?.load_blocks(usize::MAX).with_context(|| file.to_owned())
    }

    /// Asks for a file that pxed refuses by TFTP.
    pub(super) fn is_refused(&self, file: &[u8]) -> anyhow::Result<()> {
        self.is_refused_from(self.address, file)
    }

    /// The same from another address.
    pub(super) fn is_refused_from(&self, from: Ipv4Addr, file: &[u8]) -> anyhow::Result<()> {
        let Tftp { answer, .. } = self.request_from(from, file, BLOCK)?;
        ensure!(answer.starts_with(&[0, 5]), "{} was not refused: {answer:02x?}", file.escape_ascii());
        Ok(())
    }

    /// GETs a path of boot HTTP.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<()> {
        self.is_answered(path, 200)
    }

    /// GETs a path and expects this status.
    pub(super) fn is_answered(&self, path: &str, expected: u16) -> anyhow::Result<()> {
        let (status, body) = self.namespace.http_get(&format!("http://{SERVER}:8000{path}"))?;
        ensure!(status == expected, "GET {path}: {status}: {body:.200}");
        Ok(())
    }

    /// Returns the path of its script by HTTP.
    pub(super) fn script(&self) -> String {
        format!("/boot/{}.ipxe", self.machine.mac)
    }

    /// Returns its MAC as paths have it.
    pub(super) fn dashed_mac(&self) -> String {
        self.machine.mac.replace(':', "-")
    }

    /// Loads its script, as its iPXE does.
    pub(super) fn get_script(&self) -> anyhow::Result<()> {
        self.get(&self.script())
    }

    /// Waits until pxed has noticed that the machine is at a stage. What follows comes seconds later on a real machine.
    pub(super) fn comes_to(&self, stage: &str, pxed: &Pxed<'_>) -> anyhow::Result<()> {
        pxed.eventually(stage, SOON, |pxed| Ok(pxed.machine(&self.machine.mac)?["stage"] == stage))
    }

    pub(super) fn get_kernel(&self) -> anyhow::Result<()> {
        self.get(&kernel())
    }

    pub(super) fn get_initramfs(&self) -> anyhow::Result<()> {
        self.get(&format!("/assets/initramfs-{VERSION}-amd64.xz"))
    }
}

/// The path of the kernel by HTTP.
pub(super) fn kernel() -> String {
    format!("/assets/vmlinuz-{VERSION}-amd64")
}

/// A transfer by TFTP.
pub(super) struct Tftp {
    socket: UdpSocket,
    /// The server's port of the transfer.
    port: SocketAddr,
    /// The last packet from there.
    answer: Vec<u8>,
    block: usize,
}

impl Tftp {
    /// Accepts the options, and acknowledges this many blocks, or all.
    pub(super) fn load_blocks(&mut self, count: usize) -> anyhow::Result<()> {
        ensure!(self.answer.starts_with(&[0, 6]), "no options: {:02x?}", self.answer);
        self.acknowledge(0)?;
        for number in 1..=count {
            let number = u16::try_from(number)?;
            let [high, low] = number.to_be_bytes();
            // A block that comes again was repeated before its acknowledgement arrived.
            while !self.answer.starts_with(&[0, 3, high, low]) {
                self.answer.resize(self.block + 4, 0);
                let length = self.socket.recv(&mut self.answer).with_context(|| format!("no block {number}"))?;
                self.answer.truncate(length);
            }
            self.acknowledge(number)?;
            if self.answer.len() < self.block + 4 {
                break;
            }
        }
        Ok(())
    }

    /// Acknowledges a block.
    pub(super) fn acknowledge(&self, block: u16) -> anyhow::Result<()> {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], self.port).map(drop).context("cannot acknowledge a block")
    }
}
