//! Transfers that stand still: the way loses long packets, a firewall has closed the port of the transfer, or the machine is gone.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    time::Duration,
};

use pxe_lab::{Namespace, cluster::SERVER, requires, tcp, topology::INTERFACE};

use super::{
    host::{BLOCK, FIRMWARE, IPXE, LOADER, Lab, kernel},
    says, says_within,
};

/// The length of each file.
const LENGTH: usize = 1_000_000;
/// The longest packet on the way to the machines behind the tunnel.
const SHORT_MTU: &str = "1000";
/// The receive buffer of a machine in bytes. The kernel doubles it.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The time after which TFTP gives a silent client up, on a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(50);

pub(crate) fn stand_still() -> anyhow::Result<()> {
    requires::tools(&["ethtool"])?;
    let lab = Lab::new(5, LENGTH)?;
    let [tunnel_tftp, tunnel_http, firewall, off_tftp, off_http] = &lab.hosts()?;
    whole_frames(&lab.network.server)?;
    for port in ["port1", "port2"] {
        lab.network.net.ip(&["link", "set", port, "mtu", SHORT_MTU])?;
    }
    let pxed = lab.pxed(&lab.spec(), &[])?;
    for host in [tunnel_tftp, firewall, off_tftp] {
        host.lease(FIRMWARE)?;
        host.use_address()?;
    }
    for host in [tunnel_http, off_http] {
        host.lease(IPXE)?;
        host.use_address()?;
    }

    // Only the first answer of TFTP is short. What a firewall keeps back is never acknowledged, not even that.
    let mut short = tunnel_tftp.request(LOADER.as_bytes(), BLOCK)?;
    short.load_blocks(0)?;
    let _firewall = firewall.request(LOADER.as_bytes(), BLOCK)?;
    let mut half = off_tftp.request(LOADER.as_bytes(), BLOCK)?;
    half.load_blocks(100)?;
    let _long = get(tunnel_http.namespace, 0)?;
    let _part = get(off_http.namespace, LENGTH / 4)?;
    off_http.namespace.ip(&["link", "set", INTERFACE, "down"])?;

    let long_blocks = [
        "It has been loading its loader ipxe-efi-x86_64.efi by TFTP for ",
        ": 0 B of 1.0 MB for ",
        "none of the 1428 bytes long blocks is acknowledged: the path MTU is below the interface's",
        &format!("ping -M do -s 1432 -I {SERVER} {}", tunnel_tftp.address),
    ];
    says(&pxed, tunnel_tftp.machine, &long_blocks)?;
    let long_segments = [
        "It has been loading its kernel /assets/vmlinuz-v1.13.0-amd64 by HTTP for ",
        ": 0 B of 1.0 MB for ",
        "no full-sized packet of the answer is acknowledged: the path MTU is below the interface's",
        &format!("ping -M do -s 1472 -I {SERVER} {}", tunnel_http.address),
    ];
    says(&pxed, tunnel_http.machine, &long_segments)?;
    let off =
        |so_far: &'static str| [so_far, "of 1.0 MB for ", "packets of every size pass: the machine was switched off"];
    says(&pxed, off_tftp.machine, &off(": 142.8 kB "))?;
    says(&pxed, off_http.machine, &off(" kB "))?;

    // The diagnosis stays when the transfer is given up.
    let fell_silent = "the client fell silent";
    let closed = "A firewall may allow UDP port 69 but not the high port that TFTP continues on";
    says_within(GIVEN_UP, &pxed, firewall.machine, &["It failed ", fell_silent, closed])?;
    says_within(
        GIVEN_UP,
        &pxed,
        tunnel_tftp.machine,
        &["It failed ", fell_silent, "none of the 1428 bytes long blocks"],
    )?;
    says_within(GIVEN_UP, &pxed, off_tftp.machine, &["It failed ", fell_silent, "stalls after 142.8 kB of 1.0 MB"])
}

/// Makes the host cut its packets itself, so that none is longer than a link on their way without being a packet of its own.
fn whole_frames(host: &Namespace) -> anyhow::Result<()> {
    let off = ["-K", INTERFACE, "tso", "off", "gso", "off", "tx-udp-segmentation", "off"];
    host.run("ethtool", &off).map(drop)
}

/// Asks for the kernel by HTTP, and reads this much of the answer.
fn get(namespace: &Namespace, bytes: usize) -> anyhow::Result<TcpStream> {
    let address = SocketAddrV4::new(SERVER.parse()?, 8000);
    let mut connection = namespace.enter(|| tcp::connect_with_receive_buffer(address, RECEIVE_BUFFER))??;
    write!(connection, "GET {} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n", kernel())?;
    connection.read_exact(&mut vec![0; bytes])?;
    Ok(connection)
}
