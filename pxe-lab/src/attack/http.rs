//! Connections by the thousand to the boot HTTP server, which do as little as they can for as long as they can.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// The time between two connections that are renewed.
const RENEWAL: Duration = Duration::from_micros(500);

/// The conduct of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It says nothing.
    Idle,
    /// It sends half of a request's head.
    HalfAHead,
    /// It asks for this file, and reads nothing of it.
    SlowReader(&'static str),
}

/// The connections of one attacker, who has several addresses.
#[derive(Clone, Copy, Debug)]
pub struct Flood<'a> {
    /// The server.
    pub server: SocketAddrV4,
    /// The attacker's addresses, which an interface of this thread's namespace must have.
    pub sources: &'a [Ipv4Addr],
    /// The number of connections of each address.
    pub each: usize,
}

impl Flood<'_> {
    /// Opens the connections, each with the next conduct, and renews those that end until `stop` is set. Counts in `opened` those that were
    /// opened. It runs in the namespace of this thread.
    pub fn run(self, conducts: &[Conduct], stop: &AtomicBool, opened: &AtomicUsize) {
        let mut held: Vec<Option<TcpStream>> = (0..self.each * self.sources.len()).map(|_| None).collect();
        let mut is_first_round = true;
        while !stop.load(Ordering::Relaxed) {
            for (number, slot) in held.iter_mut().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if slot.as_mut().is_some_and(is_open) {
                    continue;
                }
                let source = self.sources[number % self.sources.len()];
                *slot = self.open(source, conducts[number / self.sources.len() % conducts.len()]);
                if slot.is_some() {
                    opened.fetch_add(1, Ordering::Relaxed);
                }
                // Without a pause it would be an attack on the processors that the test shares with it.
                if !is_first_round {
                    thread::sleep(RENEWAL);
                }
            }
            is_first_round = false;
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn open(self, source: Ipv4Addr, conduct: Conduct) -> Option<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        // Both ends share the kernel's memory for TCP.
        socket.set_recv_buffer_size(2048).ok()?;
        socket.bind(&SocketAddr::from((source, 0)).into()).ok()?;
        socket.connect_timeout(&SocketAddr::from(self.server).into(), Duration::from_millis(500)).ok()?;
        socket.set_nonblocking(true).ok()?;
        let mut stream = TcpStream::from(socket);
        match conduct {
            Conduct::Idle => {}
            Conduct::HalfAHead => stream.write_all(b"GET /assets/vmlinuz HTTP/1.1\r\nHost: x\r\nX: ").ok()?,
            Conduct::SlowReader(path) => {
                stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
            }
        }
        Some(stream)
    }
}

/// Returns whether the server has not ended a connection. What a slow reader has received is left in its buffer.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    match stream.peek(&mut byte) {
        Ok(0) => false,
        // An answer that is a refusal is followed by the end.
        Ok(_) => !matches!(stream.take_error(), Ok(Some(_))) && !is_refused(stream),
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

fn is_refused(stream: &mut TcpStream) -> bool {
    let mut head = [0; 12];
    match stream.peek(&mut head) {
        Ok(count) if head[..count].starts_with(b"HTTP/1.1 503") => {
            let _ = stream.read(&mut [0; 1024]);
            true
        }
        _ => false,
    }
}
