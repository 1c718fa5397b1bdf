//! The end of the server, while transfers run.

use std::time::Duration;

use tokio::time::timeout;

use super::lab::{Client, Lab, MACHINE, content};

/// The length of the file: twenty blocks, and an empty one at the end.
const LENGTH: usize = 20_000;
const BLOCKS: u16 = 20;

/// Returns a lab, and a client whose transfer has begun.
async fn lab() -> (Lab, Client) {
    let lab = Lab::new(&[("loader.efi", LENGTH)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("loader.efi", &[("blksize", 1000)]).await;
    assert_eq!(client.receive().await[..2], [0, 6]);
    (lab, client)
}

#[tokio::test]
async fn running_transfer_is_finished_and_no_other_begins() {
    let (mut lab, mut client) = lab().await;
    lab.stop();
    let mut received = Vec::new();
    for block in 0..=BLOCKS {
        client.acknowledge(block).await;
        received.extend_from_slice(&client.receive().await[4..]);
    }
    client.acknowledge(BLOCKS + 1).await;
    assert!(received == content(LENGTH));
    assert!(lab.ended().await < Duration::from_secs(2), "it ends once nothing runs");
    let late = Client::new(MACHINE, lab.server).await;
    late.send(b"\0\x01loader.efi\0octet\0").await;
    let answer = timeout(Duration::from_millis(100), late.socket.recv_from(&mut [0; 100])).await;
    assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
}

#[tokio::test]
async fn transfer_that_does_not_move_is_broken_off() {
    let (mut lab, _client) = lab().await;
    lab.stop();
    let took = lab.ended().await;
    assert!(took > Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn server_without_transfers_ends_at_once() {
    let mut lab = Lab::new(&[("loader.efi", LENGTH)]);
    lab.stop();
    let took = lab.ended().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}
