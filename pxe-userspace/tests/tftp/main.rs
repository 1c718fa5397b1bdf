//! The TFTP server with hand-made datagrams, and with many clients at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers included"
)]

mod configs;
mod ending;
mod hostile;
mod lab;
mod limits;
mod progress;

use std::{collections::HashMap, fs, net::Ipv4Addr, sync::Arc, time::Duration};

use lab::{Client, LIMIT, Lab, MACHINE, content};
use pxe_userspace::model::failure::CHANGED;
use tokio::time::timeout;

/// shim builds the name of its second stage from the name that DHCP gave, and puts a slash between, whether one is there or not.
#[tokio::test]
async fn loader_gets_what_lies_next_to_it() {
    let mut lab = Lab::new(&[("grubx64.efi", 10)]);
    fs::create_dir(lab.path("shim")).unwrap();
    fs::write(lab.path("shim/shimx64.efi"), content(3000)).unwrap();
    fs::write(lab.path("shim/grubx64.efi"), content(2000)).unwrap();
    for (name, length) in [
        ("shim/shimx64.efi", 3000),
        ("shim/grubx64.efi", 2000),
        ("/shim/grubx64.efi", 2000),
        ("shim//grubx64.efi", 2000),
        ("//shim//grubx64.efi", 2000),
        ("\\shim\\grubx64.efi", 2000),
        ("grubx64.efi", 10),
    ] {
        let fetched = Client::new(MACHINE, lab.server).await.fetch(name, 1024, 1).await;
        assert_eq!(fetched, content(length), "{name}");
        assert_eq!(lab.story().await, [format!("requested {name}"), format!("done {name} {length}")]);
    }
}

#[tokio::test]
async fn file_of_more_than_65535_blocks_is_fetched() {
    let lab = Lab::new(&[("initramfs", 70_000 * 512 + 17)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    assert!(client.fetch("initramfs", 512, 63).await == content(70_000 * 512 + 17));
    assert_eq!(lab.metric("tftp_send_errors_total"), 0);
}

/// Encodes a whole file in netascii.
fn encoded(file: &[u8]) -> Vec<u8> {
    let encode = |&byte: &u8| match byte {
        b'\n' => b"\r\n".to_vec(),
        b'\r' => b"\r\0".to_vec(),
        byte => vec![byte],
    };
    file.iter().flat_map(encode).collect()
}

#[tokio::test]
async fn netascii_is_encoded_for_every_block_size_and_window() {
    let lengths = [("empty", 0), ("small", 100), ("kernel", 300_001)];
    let mut lab = Lab::new(&lengths);
    for (name, length) in lengths {
        for (block_size, window) in [(8, 64), (512, 1), (1468, 5), (8192, 3), (65464, 64)] {
            if length / usize::from(block_size) > 10_000 {
                continue;
            }
            let mut client = Client::new(MACHINE, lab.server).await;
            let wire = client.fetch_in("NetASCII", name, block_size, window).await;
            assert!(wire == encoded(&content(length)), "{name}, {block_size}, {window}");
            assert_eq!(lab.story().await, [format!("requested {name}"), format!("done {name} {length}")]);
        }
    }
}

#[tokio::test]
async fn netascii_block_is_the_same_each_time_that_it_is_sent() {
    let lab = Lab::new(&[("kernel", 100_000)]);
    let wire = encoded(&content(100_000));
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request_in("netascii", "kernel", &[("windowsize", 8), ("tsize", 0)]).await;
    assert_eq!(client.receive().await, b"\0\x06windowsize\x008\0", "without the length, which is not known");
    let mut arrived = 0;
    // Of each window, some blocks arrive.
    for some in [1, 8, 3, 7, 2, 5, 8, 1] {
        client.acknowledge(arrived as u16).await;
        for block in arrived + 1..=arrived + 8 {
            let datagram = client.receive().await;
            assert_eq!(datagram[..4], [0, 3, 0, block as u8]);
            assert!(datagram[4..] == wire[(block - 1) * 512..block * 512], "block {block}");
        }
        arrived += some;
    }
}

/// Returns the error packet that ends the transfer of a file that was overwritten.
fn error_of_a_change() -> Vec<u8> {
    [b"\0\x05\0\0", CHANGED.as_bytes(), b"\0"].concat()
}

#[tokio::test]
async fn netascii_file_that_changes_ends_its_transfer() {
    let mut lab = Lab::new(&[("shrinks", 100_000), ("grows", 300)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request_in("netascii", "shrinks", &[]).await;
    client.receive().await;
    fs::write(lab.path("shrinks"), "short").unwrap();
    client.acknowledge(1).await;
    assert_eq!(client.receive().await, error_of_a_change());
    assert_eq!(lab.story().await, ["requested shrinks", &format!("failed shrinks: {CHANGED}")]);

    fs::write(lab.path("grows"), "\n".repeat(300)).unwrap();
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request_in("netascii", "grows", &[]).await;
    client.receive().await;
    fs::write(lab.path("grows"), "\n".repeat(301)).unwrap();
    client.acknowledge(1).await;
    assert_eq!(client.receive().await, error_of_a_change());
    assert_eq!(lab.story().await, ["requested grows", &format!("failed grows: {CHANGED}")]);
}

#[tokio::test]
async fn refusals_are_answered_and_counted() {
    let lab = Lab::new(&[("kernel", 10)]);
    std::os::unix::fs::symlink("/etc/passwd", lab.path("outside")).unwrap();
    fs::create_dir(lab.path(".pxed")).unwrap();
    fs::write(lab.path(".pxed/lock"), "").unwrap();
    let cases: &[(&[u8], &[u8], &str)] = &[
        (b"\0\x01autoexec.ipxe\0octet\0", b"\0\x05\0\x01no such file\0", "optional"),
        (b"\0\x01/etc/passwd\0octet\0", b"\0\x05\0\x01no such file\0", "not_found"),
        (b"\0\x01\0octet\0", b"\0\x05\0\x01no such file\0", "not_found"),
        (b"\0\x01/.pxed/lock\0octet\0", b"\0\x05\0\x01no such file\0", "not_found"),
        (b"\0\x01.PXED\\lock\0octet\0", b"\0\x05\0\x01no such file\0", "not_found"),
        (b"\0\x01../kernel\0octet\0", b"\0\x05\0\x02the path leads out of the artifacts directory\0", "outside"),
        (b"\0\x01..\\kernel\0octet\0", b"\0\x05\0\x02the path leads out of the artifacts directory\0", "outside"),
        (b"\0\x01outside\0octet\0", b"\0\x05\0\x02the path leads out of the artifacts directory\0", "outside"),
        (b"\0\x01kernel\0MAIL\0", b"\0\x05\0\x04only the modes octet and netascii are served\0", "mode"),
        (b"\0\x01kernel\0\0", b"\0\x05\0\x04only the modes octet and netascii are served\0", "mode"),
        (b"\0\x01kernel\0mail\0", b"\0\x05\0\x04only the modes octet and netascii are served\0", "mode"),
        (b"\0\x02kernel\0octet\0", b"\0\x05\0\x02this server is read-only\0", "write"),
    ];
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for (request, answer, reason) in cases {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
        client.send(request).await;
        assert_eq!(client.receive().await, *answer, "{}", request.escape_ascii());
        *counts.entry(reason).or_default() += 1;
    }
    for (reason, count) in counts {
        assert_eq!(lab.metric(&format!("tftp_refused_total{{reason=\"{reason}\"}}")), count, "{reason}");
    }
    let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
    for nonsense in [b"".as_slice(), b"\0", b"\0\x01kernel", b"\0\x03\0\x01x", b"\0\x05\0\0no\0", b"\xff\xff"] {
        client.send(nonsense).await;
    }
    assert!(client.is_silent().await);
    assert_eq!(lab.metric("tftp_refused_total{reason=\"malformed\"}"), 6);
    assert_eq!(lab.metric("tftp_active_transfers"), 0);
}

#[tokio::test]
async fn optional_file_is_refused_at_once_and_is_not_a_failure() {
    let mut lab = Lab::new(&[("ipxe.efi", 100), ("boot-from-disk", 100)]);
    for path in
        ["boot-from-disk", "autoexec.ipxe", "revocations_sku.efi", "revocations_sbat.efi", "/shim_certificate_0.efi"]
    {
        let mut client = Client::new(MACHINE, lab.server).await;
        client.request(path, &[("tsize", 0)]).await;
        assert_eq!(client.receive().await, b"\0\x05\0\x01no such file\0", "{path}");
    }
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("vmlinuz-v1.13.0-amd64", &[]).await;
    assert_eq!(client.receive().await, b"\0\x05\0\x01no such file\0");
    // The journal hears of the last only.
    let expected = ["requested vmlinuz-v1.13.0-amd64", "failed vmlinuz-v1.13.0-amd64: no such file"];
    assert_eq!(lab.story().await, expected);
}

#[tokio::test]
async fn name_with_the_end_marker_of_dhcp_is_understood() {
    let mut lab = Lab::new(&[("undionly.kpxe", 100)]);
    fs::write(lab.path("sub.efi"), "short").unwrap();
    use std::os::unix::ffi::OsStrExt as _;
    fs::write(lab.directory.path().join(std::ffi::OsStr::from_bytes(b"sub.efi\xff")), "its own file").unwrap();
    let fetched = content(100);
    let cases: &[(&[u8], Option<&[u8]>)] = &[
        (b"undionly.kpxe\xff", Some(&fetched)),
        (b"undionly.kpxe\xff\xff\xff", Some(&fetched)),
        (b"\\undionly.kpxe\xff", Some(&fetched)),
        (b"sub.efi\xff", Some(b"its own file")),
        (b"sub.efi\xff\xff", Some(b"short")),
        (b"\xff", None),
        (b"\xffundionly.kpxe", None),
        (b"undionly\xff.kpxe", None),
        (b"undionly.kpxe ", None),
        (b"boot-from-disk\xff", None),
        (b"..\xff", None),
    ];
    for (name, expected) in cases {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, lab.server).await;
        client.send(&[b"\0\x01", *name, b"\0octet\0"].concat()).await;
        let answer = client.receive().await;
        match expected {
            Some(content) => assert_eq!(answer, [b"\0\x03\0\x01", *content].concat(), "{}", name.escape_ascii()),
            None => assert!(answer.starts_with(b"\0\x05"), "{}", name.escape_ascii()),
        }
    }
    let mut client = Client::new(MACHINE, lab.server).await;
    client.send(b"\0\x01undionly.kpxe\xff\0octet\0").await;
    client.receive_block(1).await;
    client.acknowledge(1).await;
    assert_eq!(lab.story().await, ["requested undionly.kpxe\\xff", "done undionly.kpxe\\xff 100"]);
}

#[tokio::test]
async fn long_path_is_cut_in_the_journal() {
    let mut lab = Lab::new(&[]);
    let client = Client::new(MACHINE, lab.server).await;
    client.send(&[b"\0\x01".as_slice(), &[0xff; 900], b"\0octet\0"].concat()).await;
    let path = "\\xff".repeat(64);
    assert_eq!(lab.story().await, [format!("requested {path}"), format!("failed {path}: no such file")]);
}

#[tokio::test]
async fn question_for_the_length_is_not_a_delivery() {
    let mut lab = Lab::new(&[("ipxe.efi", 5000)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[("tsize", 0), ("blksize", 1468), ("windowsize", 4)]).await;
    assert_eq!(client.receive().await, b"\0\x06blksize\x001468\0tsize\x005000\0windowsize\x004\0");
    client.send(b"\0\x05\0\x08User aborted the transfer\0").await;
    let mut client = Client::new(MACHINE, lab.server).await;
    assert_eq!(client.fetch("ipxe.efi", 1468, 4).await, content(5000));
    assert_eq!(lab.story().await, ["requested ipxe.efi", "requested ipxe.efi", "done ipxe.efi 5000"]);
    assert_eq!(lab.metric("tftp_transfers_total{result=\"probed\"}"), 1);
}

#[tokio::test]
async fn repeated_request_is_one_transfer() {
    let mut lab = Lab::new(&[("ipxe.efi", 1000)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[("tsize", 0)]).await;
    client.request("ipxe.efi", &[("tsize", 0)]).await;
    let first = client.receive().await;
    assert_eq!(client.receive().await, first, "the answer again");
    client.acknowledge(0).await;
    assert_eq!(client.receive().await.len(), 516);
    client.acknowledge(0).await;
    let peer = client.peer.take();
    client.request("ipxe.efi", &[("tsize", 0)]).await;
    client.peer = peer;
    // Only the timer can cause a datagram after the repeated acknowledgement, and not before 200 ms have passed.
    assert!(client.is_silent().await);
    client.acknowledge(1).await;
    client.receive_block(2).await;
    client.acknowledge(2).await;
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 1000"]);
    assert_eq!(lab.metric("tftp_active_transfers"), 0);
}

#[tokio::test]
async fn question_for_the_length_without_an_error_is_not_a_failure() {
    let mut lab = Lab::new(&[("ipxe.efi", 100)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[("tsize", 0)]).await;
    assert_eq!(client.receive().await, b"\0\x06tsize\x00100\0");
    // From the same port, as PXE ROMs do.
    client.peer = None;
    client.request("ipxe.efi", &[]).await;
    client.receive_block(1).await;
    client.acknowledge(1).await;
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 100"]);
    lab.until("tftp_transfers_total{result=\"probed\"}", 1).await;
}

#[tokio::test]
async fn missing_last_acknowledgement_is_neither_done_nor_failed() {
    let mut lab = Lab::new(&[("ipxe.efi", 1000), ("kernel", 100)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[]).await;
    client.receive_block(1).await;
    client.acknowledge(1).await;
    client.receive_block(2).await;
    // The client has the file, does not say so, and continues from the same port.
    client.peer = None;
    client.request("kernel", &[]).await;
    client.receive_block(1).await;
    client.acknowledge(1).await;
    assert_eq!(lab.story().await, ["requested ipxe.efi", "requested kernel", "done kernel 100"]);
    assert_eq!(lab.story().await, ["unconfirmed ipxe.efi 512"]);
    assert_eq!(lab.metric("tftp_transfers_total{result=\"unconfirmed\"}"), 1);
    assert_eq!(lab.metric("tftp_transfers_total{result=\"done\"}"), 1);
}

#[tokio::test]
async fn error_after_the_last_block_is_a_failure_unless_it_was_acknowledged() {
    let mut lab = Lab::new(&[("ipxe.efi", 100)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[]).await;
    client.receive_block(1).await;
    client.send(b"\0\x05\0\x03disk full\0").await;
    let failed = "failed ipxe.efi: the client broke off with error 3: disk full";
    assert_eq!(lab.story().await, ["requested ipxe.efi", failed]);

    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[]).await;
    client.receive_block(1).await;
    client.acknowledge(1).await;
    client.send(b"\0\x05\0\x03disk full\0").await;
    client.peer = None;
    assert_eq!(client.fetch("ipxe.efi", 512, 1).await, content(100));
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 100"]);
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 100"]);
}

#[tokio::test]
async fn acknowledgement_of_blocks_that_were_not_sent_does_not_count() {
    let mut lab = Lab::new(&[("ipxe.efi", 1100)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe.efi", &[]).await;
    client.receive_block(1).await;
    for block in [3, 2, 4] {
        client.acknowledge(block).await;
    }
    assert!(client.is_silent().await);
    for block in 1..=3 {
        client.acknowledge(block).await;
        if block < 3 {
            client.receive_block(block + 1).await;
        }
    }
    assert_eq!(lab.story().await, ["requested ipxe.efi", "done ipxe.efi 1100"]);
    assert_eq!(lab.metric("tftp_acknowledged_bytes_total"), 1100);
}

#[tokio::test]
async fn changed_file_ends_its_transfer() {
    let mut lab = Lab::new(&[("shrinks", 100_000), ("grows", 1000), ("replaced", 1000)]);

    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("shrinks", &[]).await;
    client.receive().await;
    fs::write(lab.path("shrinks"), "short").unwrap();
    client.acknowledge(1).await;
    assert_eq!(client.receive().await, error_of_a_change());
    assert_eq!(lab.story().await, ["requested shrinks", &format!("failed shrinks: {CHANGED}")]);

    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("grows", &[]).await;
    client.receive().await;
    fs::write(lab.path("grows"), content(2000)).unwrap();
    client.acknowledge(1).await;
    assert_eq!(client.receive().await, error_of_a_change());
    assert_eq!(lab.story().await, ["requested grows", &format!("failed grows: {CHANGED}")]);

    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("replaced", &[]).await;
    client.receive().await;
    fs::write(lab.path("new"), "new").unwrap();
    fs::rename(lab.path("new"), lab.path("replaced")).unwrap();
    client.acknowledge(1).await;
    assert_eq!(client.receive().await[4..], content(1000)[512..], "the old file is sent to its end");
}

#[tokio::test]
async fn strangers_outside_the_networks_get_no_answer() {
    let lab = Lab::with_networks(&[("ipxe.efi", 5000)], vec![(Ipv4Addr::new(127, 3, 0, 1), 24)]);
    let mut stranger = Client::new(Ipv4Addr::new(127, 3, 1, 1), lab.server).await;
    let requests: [&[u8]; 4] = [
        b"\0\x01ipxe.efi\0octet\0windowsize\x0064\0",
        b"\0\x01nothing\0octet\0",
        b"\0\x01ipxe.efi\0mail\0",
        b"\0\x02ipxe.efi\0octet\0",
    ];
    for request in requests {
        stranger.send(request).await;
    }
    lab.until("tftp_refused_total{reason=\"foreign\"}", 4).await;
    // A machine is served anywhere, any other client in a network of ours.
    for address in [MACHINE, Ipv4Addr::new(127, 3, 0, 77)] {
        let mut client = Client::new(address, lab.server).await;
        assert_eq!(client.fetch("ipxe.efi", 1468, 4).await, content(5000));
    }
    assert!(timeout(Duration::from_millis(50), stranger.receive()).await.is_err());
}

/// Runs many clients at once, each with a socket and an address of its own, and checks every byte.
async fn storm(clients: usize, block_size: u16, window: u16, length: usize) {
    let lab = Lab::new(&[("ipxe.efi", length)]);
    let expected: Arc<[u8]> = content(length).into();
    let fetches: Vec<_> = (0..clients)
        .map(|number| {
            let (server, expected) = (lab.server, Arc::clone(&expected));
            tokio::spawn(async move {
                let [high, low] = (number as u16).to_be_bytes();
                let mut client = Client::new(Ipv4Addr::new(127, 1, high, low), server).await;
                client.fetch("ipxe.efi", block_size, window).await == *expected
            })
        })
        .collect();
    for fetch in fetches {
        assert!(timeout(LIMIT, fetch).await.expect("in time").unwrap(), "every byte as it was");
    }
    // The last acknowledgement may still be on its way.
    lab.until("tftp_transfers_total{result=\"done\"}", clients as u64).await;
    assert_eq!(lab.metric("tftp_active_transfers"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_clients_at_once() {
    storm(1000, 1468, 1, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_clients_at_once_with_windows() {
    storm(1000, 1468, 16, 200_000).await;
}

#[tokio::test]
async fn cached_file_is_sent_whole_and_read_again_when_it_changes() {
    let mut lab = Lab::new(&[("kernel", 300_001)]);
    let old = fs::metadata(lab.path("kernel")).unwrap().modified().unwrap();
    for (block_size, window) in [(512, 1), (1468, 5), (1468, 64), (8192, 3), (512, 64)] {
        let mut client = Client::new(MACHINE, lab.server).await;
        assert!(client.fetch("kernel", block_size, window).await == content(300_001), "{block_size} {window}");
        assert_eq!(lab.story().await.len(), 2);
    }
    let mut other = content(300_001);
    other.reverse();
    fs::write(lab.path("kernel"), &other).unwrap();
    let file = fs::File::options().write(true).open(lab.path("kernel")).unwrap();
    file.set_modified(old + Duration::from_secs(1)).unwrap();
    let mut client = Client::new(MACHINE, lab.server).await;
    assert!(client.fetch("kernel", 1468, 64).await == other, "the new content, of the same length");
}
