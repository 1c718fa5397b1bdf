//! Windows of a TFTP transfer, which go to the machine as frames that the kernel cuts, past the IP stack. What was not acknowledged is sent
//! again through the stack, which resolves the neighbour.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, ensure};
use pxe_lab::cluster::SERVER;

use crate::{Lab, SOON};

const FILE: &str = "ipxe-efi-x86_64.efi";
const BLOCK: usize = 1468;
const WINDOW: u16 = 4;
/// A little longer than a repetition takes.
const SILENCE: Duration = Duration::from_millis(2_500);

/// A transfer's client.
struct Client {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
}

impl Client {
    /// Returns the next datagram.
    fn receive(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut buffer = vec![0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        ensure!(*self.peer.get_or_insert(from) == from, "from {from}");
        buffer.truncate(length);
        Ok(buffer)
    }

    fn acknowledge(&self, block: u16) -> anyhow::Result<()> {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], self.peer.context("no answer yet")?)?;
        Ok(())
    }

    /// Receives the window that begins with this block. Earlier ones may come again on a busy machine.
    fn window(&mut self, first: u16, content: &[u8]) -> anyhow::Result<()> {
        for block in first..first + WINDOW {
            let [high, low] = block.to_be_bytes();
            let at = usize::from(block - 1) * BLOCK;
            let expected = [&[0, 3, high, low], &content[at..at + BLOCK]].concat();
            let mut datagram = self.receive().with_context(|| format!("block {block}"))?;
            while datagram[2..4] < [high, low][..] {
                datagram = self.receive().with_context(|| format!("block {block}"))?;
            }
            ensure!(datagram == expected, "block {block}: {} bytes: {:?}", datagram.len(), &datagram[..8]);
        }
        Ok(())
    }
}

pub(crate) fn past_the_stack() -> anyhow::Result<()> {
    let lab = Lab::new()?.with_address()?;
    let pxed = lab.pxed()?;
    let content = fs::read(lab.artifacts.path().join(FILE))?;
    let socket = lab.client().enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(SOON))?;
    let request = format!("\0\x01{FILE}\0octet\0blksize\0{BLOCK}\0windowsize\0{WINDOW}\0timeout\x001\0");
    socket.send_to(request.as_bytes(), (SERVER, 69))?;
    let mut client = Client { socket, peer: None };
    ensure!(client.receive()?.starts_with(&[0, 6]), "no acknowledgement of the options");

    // The stack cannot reach the machine from now on.
    let route = |verb| lab.network.server.ip(&["route", verb, "unreachable", &format!("{}/32", lab.machine.address)]);
    route("add")?;
    client.acknowledge(0)?;
    client.window(1, &content)?;
    client.acknowledge(WINDOW)?;
    client.window(1 + WINDOW, &content)?;
    client.socket.set_read_timeout(Some(SILENCE))?;
    let repeated = client.receive().err().context("what was not acknowledged was not sent again through the stack")?;
    let is_timeout = repeated
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    ensure!(is_timeout, "{repeated:#}");
    ensure!(pxed.metrics()?.sum("pxed_tftp_timeouts_total", &[]) >= 1.0, "nothing was repeated");

    // It can again; and what follows goes past it once more.
    route("del")?;
    client.socket.set_read_timeout(Some(SOON))?;
    client.window(1 + WINDOW, &content)?;
    route("add")?;
    client.acknowledge(2 * WINDOW)?;
    client.window(1 + 2 * WINDOW, &content)
}
