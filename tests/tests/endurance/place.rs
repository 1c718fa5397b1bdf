//! pxed at one end of a cable and a client with an address at the other.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream, UdpSocket},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    pxed::Launch,
    topology::INTERFACE,
};

/// The time within which an answer must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The error packet that a refusal is (RFC 1350 §5).
const ERROR: [u8; 2] = [0, 5];
const DATA: [u8; 2] = [0, 3];

/// The descriptors of this process, which its tests share. One test at a time holds thousands of them.
static DESCRIPTORS: Mutex<()> = Mutex::new(());
/// The descriptors that the other tests need.
const OF_OTHERS: u64 = 1_500;

/// Descriptors for thousands of connections.
pub(crate) struct Descriptors {
    /// The number of connections.
    pub(crate) count: usize,
    _all: MutexGuard<'static, ()>,
}

impl Descriptors {
    /// Takes descriptors for this many connections, or for fewer where this process may not have as many.
    pub(crate) fn take(wanted: usize) -> anyhow::Result<Self> {
        let _all = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(Self { count: wanted.min(usize::try_from(hard.saturating_sub(OF_OTHERS))?), _all })
    }
}

/// A network with one client, a stranger to the spec.
pub(crate) struct Place {
    pub(crate) bridged: Bridged,
    pub(crate) artifacts: Artifacts,
}

impl Place {
    /// Creates the network, with files of this length.
    pub(crate) fn new(length: usize) -> anyhow::Result<Self> {
        let bridged = Bridged::new(SERVER_ADDRESS, 2)?;
        for (client, address) in bridged.clients.iter().zip(["10.99.0.50/24", "10.99.0.51/24"]) {
            client.ip(&["address", "add", address, "dev", INTERFACE])?;
        }
        Ok(Self { bridged, artifacts: Artifacts::stand_ins(&[VERSION], length)? })
    }

    /// Starts pxed in a special way and waits until it is ready.
    pub(crate) fn pxed(&self, extra: &[&str], launch: &Launch<'_>) -> anyhow::Result<Pxed<'_>> {
        let spec = cluster::cluster(&[Machine::number(1)]);
        let mut pxed = Pxed::launch_by(&self.bridged.server, &spec, self.artifacts.path(), extra, launch)?;
        pxed.wait_until_ready()?;
        Ok(pxed)
    }

    /// Runs `work` as the stranger.
    pub(crate) fn as_stranger<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.bridged.clients.first().context("a client")?.enter(work)?
    }

    /// Requests a missing file by TFTP this many times, one after the other, and expects each refusal.
    pub(crate) fn tftp_refusals(&self, count: usize) -> anyhow::Result<()> {
        self.as_stranger(|| {
            for number in 0..count {
                let answer = tftp_request("missing")?;
                ensure!(answer.starts_with(&ERROR), "request {number}: {answer:?}");
            }
            Ok(())
        })
    }

    /// Requests a loader by TFTP and expects its first block.
    pub(crate) fn tftp_is_served(&self) -> anyhow::Result<()> {
        let answer = self.as_stranger(|| tftp_request("undionly.kpxe"))?;
        ensure!(answer.starts_with(&DATA), "{answer:?}");
        Ok(())
    }

    /// Requests this path by HTTP many times on one connection, and expects the same status each time.
    pub(crate) fn http_answers(&self, path: &str, status: u16, count: usize) -> anyhow::Result<()> {
        self.as_stranger(|| {
            let mut stream = connect()?;
            for number in 0..count {
                stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
                let answer = read_answer(&mut stream).with_context(|| format!("request {number}"))?;
                ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "request {number}: {answer}");
            }
            Ok(())
        })
    }
}

/// Returns the address of a service.
pub(crate) fn server_at(port: u16) -> anyhow::Result<SocketAddrV4> {
    Ok(SocketAddrV4::new(SERVER.parse()?, port))
}

/// Opens a connection to the boot HTTP server, in this thread's namespace.
pub(crate) fn connect() -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server_at(8000)?.into(), SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// Reads an answer of known length, and returns its head.
pub(crate) fn read_answer(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head)?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(head)
}

/// Sends a read request and returns the first answer. Repeats it as firmware does.
pub(crate) fn tftp_request(file: &str) -> anyhow::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let request = [b"\0\x01", file.as_bytes(), b"\0octet\0"].concat();
    let mut buffer = vec![0; 2048];
    for _ in 0..SOON.as_secs() {
        socket.send_to(&request, server_at(69)?)?;
        if let Ok(count) = socket.recv(&mut buffer) {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
    anyhow::bail!("TFTP does not answer")
}
