//! The limits on transfers, when many ask at once.

use std::{collections::HashSet, net::Ipv4Addr};

use pxe_userspace::descriptors;

use crate::lab::{Client, Lab, MACHINE, content, forge};

/// The transfers of one address that run at once.
const LIMIT_PER_SOURCE: usize = 1024;

#[tokio::test]
async fn unanswered_requests_of_an_address_do_not_silence_it() {
    descriptors::raise_limit();
    let lab = Lab::new(&[("ipxe.efi", 5000)]);
    // A transfer in progress, which is older than all the others.
    let mut first = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
    first.request("ipxe.efi", &[]).await;
    first.receive_block(1).await;
    first.acknowledge(1).await;
    first.receive_block(2).await;
    let mut unanswered = Vec::new();
    for _ in 1..LIMIT_PER_SOURCE + 20 {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
        client.request("ipxe.efi", &[("timeout", 255)]).await;
        assert!(client.receive().await.starts_with(&[0, 6]), "answered at once");
        unanswered.push(client);
    }
    for address in [Ipv4Addr::LOCALHOST, MACHINE] {
        let mut client = Client::new(address, lab.server).await;
        assert_eq!(client.fetch("ipxe.efi", 1468, 4).await, content(5000));
    }
    lab.until("tftp_transfers_total{result=\"displaced\"}", 21).await;
    lab.until("tftp_active_transfers", LIMIT_PER_SOURCE as u64 - 1).await;
    assert_eq!(lab.metric("tftp_refused_total{reason=\"busy\"}"), 0);
    first.acknowledge(2).await;
    first.receive_block(3).await;
    // The first of the others made room, so that its port is free. The last still has its place.
    let mut last = unanswered.pop().unwrap();
    let is_free = |client: &Client| std::net::UdpSocket::bind(client.peer.unwrap()).is_ok();
    assert!(is_free(&unanswered[0]) && !is_free(&last));
    last.acknowledge(0).await;
    last.receive_block(1).await;
}

#[tokio::test]
async fn single_address_cannot_take_every_place() {
    descriptors::raise_limit();
    let lab = Lab::new(&[("ipxe.efi", 5000)]);
    let mut greedy = Vec::new();
    for _ in 0..LIMIT_PER_SOURCE {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
        client.request("ipxe.efi", &[]).await;
        client.receive_block(1).await;
        client.acknowledge(1).await;
        client.receive_block(2).await;
        greedy.push(client);
    }
    let one_more = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
    one_more.send(b"\0\x01ipxe.efi\0octet\0").await;
    lab.until("tftp_refused_total{reason=\"busy\"}", 1).await;
    let mut client = Client::new(MACHINE, lab.server).await;
    assert_eq!(client.fetch("ipxe.efi", 1468, 4).await, content(5000));
    lab.until("tftp_active_transfers", LIMIT_PER_SOURCE as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_requests_in_anybodys_name_lock_nobody_out() {
    let lab = Lab::new(&[("ipxe.efi", 5000)]);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    const FORGED: u32 = 25_600;
    for number in 0..FORGED {
        forge(&socket, Ipv4Addr::from_bits(0x7f02_0000 + number), lab.server, b"\0\x01ipxe.efi\0octet\0");
    }
    lab.until("tftp_requests_total", FORGED.into()).await;
    for address in [MACHINE, Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)] {
        let mut client = Client::new(address, lab.server).await;
        assert_eq!(client.fetch("ipxe.efi", 1468, 4).await, content(5000));
    }
    assert!(lab.metric("tftp_active_transfers") <= 10_000, "strangers have half of the places");
}

#[tokio::test]
async fn transfers_with_small_windows_share_ports_once_there_are_many() {
    descriptors::raise_limit();
    let lab = Lab::new(&[("ipxe.efi", 50_000)]);
    let (mut waiting, mut ports) = (Vec::new(), HashSet::new());
    for _ in 0..600 {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
        client.request("ipxe.efi", &[("blksize", 1468), ("windowsize", 4), ("timeout", 255)]).await;
        assert!(client.receive().await.starts_with(&[0, 6]));
        ports.extend(client.peer);
        waiting.push(client);
    }
    assert!((129..300).contains(&ports.len()), "{}", ports.len());
    // Those at shared ports go on as the others do.
    for client in &mut waiting[550..] {
        client.acknowledge(0).await;
        for block in 1..=4 {
            client.receive_block(block).await;
        }
        client.acknowledge(4).await;
        client.receive_block(5).await;
    }
    let mut large = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
    large.request("ipxe.efi", &[("blksize", 1468), ("windowsize", 64)]).await;
    assert_eq!(large.receive().await, b"\0\x06blksize\x001468\0windowsize\x0064\0");
    assert!(!ports.contains(&large.peer.unwrap()));
}
