//! The attacker's doings during a soak, at a port of the switch of its own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};
use pxe_common::MacAddr;

use crate::{
    Bridged,
    attack::{
        dhcp::{self, Disguise},
        frames::{Flood, Wire},
        http::{self, Conduct},
        tftp::{self, Target},
    },
    cluster::{Machine, SERVER},
    topology::INTERFACE,
};

/// The attacker's addresses: as many hosts.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 99, 250, 1),
    Ipv4Addr::new(10, 99, 250, 2),
    Ipv4Addr::new(10, 99, 250, 3),
    Ipv4Addr::new(10, 99, 250, 4),
];
/// The connections of each address.
const CONNECTIONS: usize = 750;
const CONDUCTS: [Conduct; 3] =
    [Conduct::Idle, Conduct::HalfAHead, Conduct::SlowReader("/assets/initramfs-v1.13.0-amd64.xz")];
/// The forged TFTP requests and DHCP frames of a second. The attacker shares the processors with pxed and the fleet.
const A_SECOND: u32 = 500;

/// The attacker. It ends when it is dropped.
pub(super) struct Attackers {
    is_over: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    tftp: Flood,
    dhcp: Flood,
}

impl Attackers {
    /// Lets the attacker loose, at the first client of the switch.
    pub(super) fn start(bridged: &Bridged, machines: &[Machine]) -> anyhow::Result<Self> {
        let host = bridged.clients.first().context("a place for the attacker")?;
        for source in SOURCES {
            host.ip(&["address", "add", &format!("{source}/16"), "dev", INTERFACE])?;
        }
        let address: Ipv4Addr = SERVER.parse()?;
        let target = Target { mac: Wire::open(&bridged.server, INTERFACE)?.mac, address };
        let victims =
            machines.iter().map(|machine| Ok(machine.address.parse()?)).collect::<anyhow::Result<Vec<_>>>()?;
        let macs = machines.iter().map(|machine| machine.mac.parse().ok()).collect::<Option<Vec<MacAddr>>>();
        let macs = macs.context("a MAC address")?;
        let wire = || Wire::open(host, INTERFACE);
        let tftp = tftp::request_flood(wire()?, target, victims, "ipxe-efi-x86_64.efi", A_SECOND);
        let dhcp = dhcp::flood(wire()?, macs, Disguise::None, A_SECOND);
        let (is_over, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, opened, namespace) = (Arc::clone(&is_over), Arc::clone(&connections), host.open()?);
        let work = move || {
            if setns(&namespace, CloneFlags::CLONE_NEWNET).is_ok() {
                let server = SocketAddrV4::new(address, 8000);
                http::Flood { server, sources: &SOURCES, each: CONNECTIONS }.run(&CONDUCTS, &stop, &opened);
            }
        };
        let thread = Some(thread::Builder::new().name("attacker".to_owned()).spawn(work)?);
        Ok(Self { is_over, connections, thread, tftp, dhcp })
    }

    /// Returns how often the attacker did what.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = [
            ("HTTP connections", self.connections.load(Ordering::Relaxed) as u64),
            ("TFTP requests", self.tftp.sent()),
            ("DHCP frames", self.dhcp.sent()),
        ];
        counts.map(|(name, count)| (name.to_owned(), count)).into()
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
