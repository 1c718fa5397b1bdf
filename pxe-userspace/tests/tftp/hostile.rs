//! Somebody on the network who forges other hosts' addresses and does not see what they receive.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use pxe_userspace::{descriptors, model::event::EventKind};
use tokio::time::timeout;

use crate::lab::{Client, LIMIT, Lab, MACHINE, content, forge};

const LENGTH: usize = 1_000_000;
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 5, 5, 5);
/// A request for large windows of a file that is not small.
const WINDOWS: [(&str, u32); 2] = [("blksize", 1468), ("windowsize", 64)];

/// Sends a datagram in a client's name.
fn in_the_name_of(client: &Client, to: SocketAddrV4, datagram: &[u8]) {
    client.socket.try_send_to(datagram, SocketAddr::V4(to)).unwrap();
}

/// Receives all that has come to a client. Returns the number of bytes.
fn received(client: &Client) -> usize {
    let mut buffer = vec![0; 65536];
    std::iter::from_fn(|| client.socket.try_recv(&mut buffer).ok()).sum()
}

#[tokio::test]
async fn each_transfer_has_a_port_that_others_do_not_tell() {
    let lab = Lab::new(&[("ipxe.efi", LENGTH)]);
    let mut clients = Vec::new();
    let mut ports = Vec::new();
    for number in 0..100 {
        // Of one address and of several.
        let from = if number % 2 == 0 { ATTACKER } else { Ipv4Addr::new(127, 5, 6, number) };
        let mut client = Client::new(from, lab.server).await;
        client.request("ipxe.efi", &[]).await;
        client.receive_block(1).await;
        ports.push(client.peer.unwrap().port());
        clients.push(client);
    }
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
    assert!(!ports.contains(&lab.server.port()));
    let near = ports.windows(2).filter(|two| two[0].abs_diff(two[1]) <= 8).count();
    assert!(near < 10, "{ports:?}");
}

#[tokio::test]
async fn acknowledgements_to_ports_of_other_transfers_do_not_count() {
    let mut lab = Lab::new(&[("ipxe.efi", LENGTH)]);
    // The attacker learns ports by transfers of its own.
    let mut own = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(ATTACKER, lab.server).await;
        client.request("ipxe.efi", &WINDOWS).await;
        client.receive().await;
        own.push(client);
    }
    let victim = Client::new(MACHINE, lab.server).await;
    victim.request_alone("ipxe.efi", &WINDOWS).await;
    for block in 0..700 {
        for port in own.iter().map(|client| client.peer.unwrap()) {
            in_the_name_of(&victim, port, &[0, 4, (block >> 8) as u8, block as u8]);
            if block % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    lab.until("tftp_active_transfers", 21).await;
    let bytes = received(&victim);
    assert!(bytes < 200, "{bytes} bytes: the options, and at most three times again");
    // The kernel drops what does not come from the client of a port.
    assert_eq!(lab.metric("tftp_stray_datagrams_total"), 0);
    assert_eq!(lab.metric("tftp_acknowledged_bytes_total"), 0);
    assert!(lab.events.try_recv().is_err(), "the journal is told of nothing");
}

#[tokio::test]
async fn trying_every_port_draws_one_window() {
    let lab = Lab::new(&[("ipxe.efi", LENGTH)]);
    let victim = Client::new(MACHINE, lab.server).await;
    victim.request_alone("ipxe.efi", &WINDOWS).await;
    lab.until("tftp_active_transfers", 1).await;
    for port in 1024..=u16::MAX {
        in_the_name_of(&victim, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), &[0, 4, 0, 0]);
        if port % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut client = Client::new(ATTACKER, lab.server).await;
    assert!(client.fetch("ipxe.efi", 1468, 64).await == content(LENGTH));
    // The window, and what the timer repeats of it.
    let (bytes, window) = (received(&victim), 64 * 1472);
    assert!(bytes < 3 * window, "{bytes}");
}

#[tokio::test]
async fn forged_request_from_the_port_of_a_running_transfer_does_not_end_it() {
    let mut lab = Lab::new(&[("ipxe.efi", 5000), ("kernel", 3000)]);
    let mut victim = Client::new(MACHINE, lab.server).await;
    victim.request("ipxe.efi", &[("blksize", 1000)]).await;
    victim.receive().await;
    let forged: [&[u8]; 3] = [
        b"\0\x01kernel\0octet\0blksize\x001432\0",
        b"\0\x01ipxe.efi\0octet\0",
        b"\0\x01ipxe.efi\0octet\0blksize\x001000\0",
    ];
    let mut content_received = Vec::new();
    for block in 0..=5 {
        for request in forged {
            in_the_name_of(&victim, lab.server, request);
        }
        victim.acknowledge(block).await;
        loop {
            let mut buffer = vec![0; 2048];
            let (length, from) = timeout(LIMIT, victim.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
            if victim.peer.map(SocketAddr::V4) == Some(from) && buffer[..4] == [0, 3, 0, block as u8 + 1] {
                content_received.extend_from_slice(&buffer[4..length]);
                break;
            }
        }
    }
    victim.acknowledge(6).await;
    assert!(content_received == content(5000));
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 5000"]);
}

/// Half of all network cards' ROMs ask from port 2070.
#[tokio::test]
async fn flood_from_one_port_does_not_keep_its_files_from_it() {
    let lab = Lab::new(&[("ipxe.efi", 5000)]);
    let mut victim = Client::new(MACHINE, lab.server).await;
    for number in 0..6_000_u32 {
        victim.request_alone("ipxe.efi", &[("blksize", 512 + number % 900), ("timeout", 1 + number / 900)]).await;
        if number % 500 == 0 {
            lab.until("tftp_requests_total", u64::from(number) + 1).await;
        }
    }
    lab.until("tftp_requests_total", 6_000).await;
    // So that a port at which this client has no transfer is found at once.
    assert!(lab.metric("tftp_active_transfers") <= 64);
    // What came in answer to those.
    received(&victim);
    victim.request("ipxe.efi", &[("blksize", 1432)]).await;
    loop {
        let mut buffer = vec![0; 2048];
        let (length, from) = timeout(LIMIT, victim.socket.recv_from(&mut buffer)).await.expect("an answer").unwrap();
        if buffer[..length] == *b"\0\x06blksize\x001432\0" {
            let SocketAddr::V4(from) = from else { panic!("IPv4") };
            victim.peer = Some(from);
            break;
        }
    }
    let mut client = Client::new(ATTACKER, lab.server).await;
    assert!(client.fetch("ipxe.efi", 1468, 4).await == content(5000), "others are served");
    for block in 0..4 {
        victim.acknowledge(block).await;
        loop {
            let mut buffer = vec![0; 2048];
            let (_, from) = timeout(LIMIT, victim.socket.recv_from(&mut buffer)).await.expect("a block").unwrap();
            if victim.peer.map(SocketAddr::V4) == Some(from) && buffer[..4] == [0, 3, 0, block as u8 + 1] {
                break;
            }
        }
    }
}

#[tokio::test]
async fn client_that_is_gone_ends_its_transfer() {
    let mut lab = Lab::new(&[("ipxe.efi", LENGTH)]);
    for is_answered in [false, true] {
        let mut client = Client::new(MACHINE, lab.server).await;
        client.request("ipxe.efi", &WINDOWS).await;
        client.receive().await;
        if is_answered {
            client.acknowledge(0).await;
            client.receive_block(64).await;
        }
        drop(client);
        // By the next repetition at the latest.
        let begun = Instant::now();
        lab.until("tftp_active_transfers", 0).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    assert_eq!(lab.metric("tftp_transfers_total{result=\"unreachable\"}"), 2);
    // Of the first, which may have been forged, the journal is told nothing.
    let failed = "failed ipxe.efi: the client does not receive at its port any more";
    assert_eq!(lab.story().await, ["requested ipxe.efi", failed]);
}

/// Sends forged requests in one address' name until it is dropped.
struct Flood {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    fn start(name: Ipv4Addr, server: SocketAddrV4, a_second: u32) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let sockets: Vec<_> = (0..50).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).collect();
            let (begun, mut sent) = (Instant::now(), 0u64);
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let due = u64::from(a_second) * begun.elapsed().as_millis() as u64 / 1000;
                while sent < due {
                    let socket = &sockets[sent as usize % sockets.len()];
                    let request = format!("\0\x01ipxe.efi\0octet\0blksize\0{}\0", 512 + sent % 900);
                    forge(socket, name, server, request.as_bytes());
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends the flood. Returns the number of requests.
    fn end(mut self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_in_a_machines_name_does_not_keep_its_files_from_it() {
    descriptors::raise_limit();
    let mut lab = Lab::new(&[("ipxe.efi", 300_000)]);
    let flood = Flood::start(MACHINE, lab.server, 2_000);
    // More than one address may have.
    let full = async {
        while lab.metric("tftp_transfers_total{result=\"displaced\"}") == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, full).await.expect("a full table");
    for _ in 0..5 {
        let mut client = Client::new(MACHINE, lab.server).await;
        let begun = Instant::now();
        assert!(client.fetch("ipxe.efi", 1468, 4).await == content(300_000));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    let forged = flood.end();
    lab.until("tftp_transfers_total{result=\"done\"}", 5).await;
    assert!(forged > 1_024, "{forged}");
    // The machine's own doings are there, and no others.
    let mut told = Vec::new();
    while let Ok(event) = lab.events.try_recv() {
        told.push(matches!(event.kind, EventKind::Done { .. }));
    }
    assert_eq!((told.len(), told.iter().filter(|&&done| done).count()), (10, 5));
}

#[tokio::test]
async fn refused_requests_of_an_address_are_told_a_few_times() {
    let mut lab = Lab::new(&[]);
    for _ in 0..300 {
        let mut client = Client::new(MACHINE, lab.server).await;
        client.request("nothing", &[]).await;
        client.receive().await;
    }
    let mut told = 0;
    while lab.events.try_recv().is_ok() {
        told += 1;
    }
    assert!((2..=80).contains(&told), "{told} events");
}
