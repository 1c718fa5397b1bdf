//! The attacker's doings during a soak: one thread each, in the attacker's namespace.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    net::{SocketAddrV4, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use crate::{
    Bridged,
    cluster::{Machine, SERVER, VERSION},
    topology::INTERFACE,
};

/// The attacker's addresses: as many hosts.
const ADDRESSES: [&str; 4] = ["10.99.250.1", "10.99.250.2", "10.99.250.3", "10.99.250.4"];
/// The connections that are held open. The oldest makes room for the next.
const HELD: usize = 1_000;
/// The time between two connections.
const PACE: Duration = Duration::from_millis(2);
const CONNECT: Duration = Duration::from_secs(1);

/// The attacker. It ends when it is dropped.
pub(super) struct Attackers {
    is_over: Arc<AtomicBool>,
    counts: BTreeMap<String, Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// Lets the attacker loose, at the first client of the switch.
    pub(super) fn start(bridged: &Bridged, machines: &[Machine]) -> anyhow::Result<Self> {
        let host = bridged.clients.first().context("a place for the attacker")?;
        for address in ADDRESSES {
            host.ip(&["address", "add", &format!("{address}/16"), "dev", INTERFACE])?;
        }
        let victim = machines.first().context("a victim")?.mac.clone();
        let mut attackers = Self { is_over: Arc::default(), counts: BTreeMap::new(), threads: Vec::new() };
        let half = format!("GET /boot/{victim}.ipxe HTTP/1.1\r\nHost: {SERVER}\r\nX-");
        let whole = format!("GET /assets/initramfs-{VERSION}-amd64.xz HTTP/1.1\r\nHost: {SERVER}\r\n\r\n");
        for (name, said) in [("idle connections", String::new()), ("half heads", half), ("slow readers", whole)] {
            let namespace = host.open()?;
            let (is_over, count) = (Arc::clone(&attackers.is_over), Arc::<AtomicU64>::default());
            attackers.counts.insert(name.to_owned(), Arc::clone(&count));
            let server = SocketAddrV4::new(SERVER.parse()?, 8000);
            let work = move || {
                if setns(&namespace, CloneFlags::CLONE_NEWNET).is_ok() {
                    hold_connections(server, &said, &is_over, &count);
                }
            };
            attackers.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        Ok(attackers)
    }

    /// Ends the attacker. Returns how often it did what.
    pub(super) fn end(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("an attacker has panicked"))?;
        }
        Ok(self.counts.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed))).collect())
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens connections for ever, says this on each, and reads nothing.
fn hold_connections(server: SocketAddrV4, said: &str, is_over: &AtomicBool, count: &AtomicU64) {
    let mut held = VecDeque::with_capacity(HELD);
    while !is_over.load(Ordering::Relaxed) {
        if held.len() == HELD {
            held.pop_front();
        }
        // pxed may be away, or refuse.
        if let Ok(mut stream) = TcpStream::connect_timeout(&server.into(), CONNECT) {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(said.as_bytes());
            held.push_back(stream);
        }
        thread::sleep(PACE);
    }
}
