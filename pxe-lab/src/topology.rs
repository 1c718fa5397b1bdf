//! Connected namespaces.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use crate::{namespace::Namespace, requires::Skip};

/// The interface of the server and of every client, each in its own namespace.
pub const INTERFACE: &str = "eth0";

/// The switch's own MAC. It has no IP address: packets sent to it are lost.
pub const SWITCH_MAC: &str = "02:00:00:00:00:66";

/// A switch with a server and clients plugged in, each in a namespace of its own.
///
/// ```text
///   server: eth0 ──┐                 ┌── eth0 :client 0
///                  ├── net: br0 ─────┼── eth0 :client 1
///                  │    │            └── …
///                      taps: QEMU runs in `net`
/// ```
#[derive(Debug)]
pub struct Bridged {
    /// The server's namespace; its `eth0` has the address.
    pub server: Namespace,
    /// The clients' namespaces; their `eth0` is up and has no address.
    pub clients: Vec<Namespace>,
    /// The switch: bridge `br0`, the other ends of the veth pairs, the taps.
    pub net: Namespace,
    ports: AtomicU32,
}

impl Bridged {
    /// Creates a switch with a server of this address (`10.99.0.1/24`) and this number of clients.
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] without root or iproute2, or with the output of `ip`.
    pub fn new(server_address: &str, clients: usize) -> anyhow::Result<Self> {
        let net = Namespace::new("net")?;
        net.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "forward_delay",
            "0",
            "stp_state",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        net.ip(&["link", "set", "br0", "address", SWITCH_MAC, "up"])?;
        let mut bridged =
            Self { server: Namespace::new("server")?, clients: Vec::new(), net, ports: AtomicU32::new(0) };
        bridged.plug_in(&bridged.server, INTERFACE)?;
        bridged.server.ip(&["address", "add", server_address, "dev", INTERFACE])?;
        for number in 0..clients {
            let client = Namespace::new(&format!("client{number}"))?;
            bridged.plug_in(&client, INTERFACE)?;
            bridged.clients.push(client);
        }
        Ok(bridged)
    }

    /// Gives a namespace an interface of this name on the switch, up and without an address.
    ///
    /// # Errors
    ///
    /// Fails with the output of `ip`.
    pub fn plug_in(&self, namespace: &Namespace, interface: &str) -> anyhow::Result<()> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        veth(namespace, interface, &self.net, &port)?;
        self.net.ip(&["link", "set", &port, "master", "br0"]).map(drop)
    }

    /// Sets the MAC of the client of this number.
    ///
    /// # Errors
    ///
    /// Fails without such a client, or with the output of `ip`.
    pub fn set_mac(&self, client: usize, mac: &str) -> anyhow::Result<()> {
        let client = self.clients.get(client).with_context(|| format!("there is no client {client}"))?;
        client.ip(&["link", "set", INTERFACE, "address", mac]).map(drop)
    }

    /// Creates a tap on the switch for a QEMU guest that runs in [`Self::net`], and returns its name.
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] without `/dev/net/tun`, or with the output of `ip`.
    pub fn tap(&self) -> anyhow::Result<String> {
        if !std::path::Path::new("/dev/net/tun").exists() {
            return Err(Skip("needs /dev/net/tun (modprobe tun)".to_owned()).into());
        }
        let tap = format!("tap{}", self.ports.fetch_add(1, Ordering::Relaxed));
        self.net.ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        self.net.ip(&["link", "set", &tap, "master", "br0", "up"])?;
        Ok(tap)
    }
}

/// Joins two namespaces by a veth pair, both ends up.
///
/// # Errors
///
/// Fails with the output of `ip`.
pub fn veth(one: &Namespace, one_end: &str, other: &Namespace, other_end: &str) -> anyhow::Result<()> {
    veth_with_queues(one, one_end, other, other_end, 1)
}

/// Joins them with this number of receive and send queues at both ends. A frame arrives on the queue with the
/// same number as the queue that sent it.
///
/// # Errors
///
/// Fails with the output of `ip`.
pub fn veth_with_queues(
    one: &Namespace,
    one_end: &str,
    other: &Namespace,
    other_end: &str,
    queues: u32,
) -> anyhow::Result<()> {
    let queues = queues.to_string();
    let queues = ["numrxqueues", &queues, "numtxqueues", &queues];
    let (pair, peer) = (["type", "veth", "peer", "name", other_end, "netns", other.name()], ["link", "add", one_end]);
    one.ip(&[&peer[..], &queues, &pair, &queues].concat())?;
    one.ip(&["link", "set", one_end, "up"])?;
    other.ip(&["link", "set", other_end, "up"]).map(drop)
}
