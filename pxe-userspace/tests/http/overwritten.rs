//! Files that are overwritten while they are sent: nobody gets a mixture for a whole file.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use pxe_userspace::model::failure::CHANGED;
use tokio::io::AsyncReadExt as _;

use super::*;

/// More than the sockets hold.
const LARGE: usize = 32 << 20;
/// Less.
const SMALL: usize = 512 << 10;

fn content(byte: u8, length: usize) -> Vec<u8> {
    vec![byte; length]
}

/// Writes the old version, an hour ago.
fn write_old(path: &Path, length: usize) {
    fs::write(path, content(b'o', length)).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

/// Writes into the file without truncating it first, as `rsync --inplace` does.
fn write_inside(path: &Path, length: usize) {
    OpenOptions::new().write(true).open(path).unwrap().write_all(&content(b'n', length)).unwrap();
}

/// Replaces the file by a new one.
fn rename_over(path: &Path, length: usize) {
    let new = path.with_extension("new");
    fs::write(&new, content(b'n', length)).unwrap();
    fs::rename(&new, path).unwrap();
}

struct Download {
    stream: TcpStream,
    body: Vec<u8>,
}

impl Download {
    /// Asks for a file as machine 1 through a small window, and reads the head.
    async fn begin(lab: &Lab, name: &str, headers: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 11), 0).into()).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(lab.address).await.unwrap();
        stream.write_all(format!("GET /assets/{name} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 20"), "{}", head.escape_ascii());
        Self { stream, body: Vec::new() }
    }

    /// Reads until `length` bytes are there or the connection ends.
    async fn read_to(&mut self, length: usize) -> io::Result<()> {
        let mut scratch = vec![0; 64 * 1024];
        while self.body.len() < length {
            let room = scratch.len().min(length - self.body.len());
            match timeout(Duration::from_secs(20), self.stream.read(&mut scratch[..room]))
                .await
                .expect("nothing comes")?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.body.extend_from_slice(&scratch[..count]),
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_is_overwritten_breaks_its_transfers() {
    let mut lab = Lab::start();
    for (name, overwrite) in [
        ("truncated-and-written", (|path, length| fs::write(path, content(b'n', length)).unwrap()) as fn(&Path, usize)),
        ("written-inside", write_inside),
        ("first-byte", |path, _| write_inside(path, 1)),
        ("emptied", |path, _| fs::write(path, "").unwrap()),
        ("shortened", |path, length| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(length as u64 - 1).unwrap();
        }),
        ("grown", |path, _| OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap()),
    ] {
        for (headers, length) in
            [("", LARGE), ("Range: bytes=1000-\r\n", LARGE - 1000), ("Range: bytes=0-30000000\r\n", 30_000_001)]
        {
            let path = lab.directory.path().join(name);
            write_old(&path, LARGE);
            let mut download = Download::begin(&lab, name, headers).await;
            download.read_to(100_000).await.unwrap();
            overwrite(&path, LARGE);
            let end = download.read_to(length).await;
            assert!(end.is_err(), "{name}, {headers:?}: a whole answer of two files");
            let requested = lab.event().await;
            assert!(matches!(requested, EventKind::Requested { .. }), "{requested:?}");
            match lab.event().await {
                EventKind::Failed { reason, bytes, .. } => {
                    assert_eq!(&*reason, CHANGED, "{name}");
                    assert!(bytes < length as u64);
                }
                other => panic!("{name}, {headers:?}: {other:?}"),
            }
        }
    }
}

/// The socket has taken all of the file, but the machine has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_is_overwritten_in_the_send_queue_has_not_arrived() {
    let mut lab = Lab::start();
    let path = lab.directory.path().join("initramfs");
    write_old(&path, SMALL);
    let mut download = Download::begin(&lab, "initramfs", "").await;
    while lab.metrics.sent_bytes() < SMALL as u64 {
        tokio::task::yield_now().await;
    }
    write_inside(&path, SMALL);
    // The connection may be reset under the last bytes, or not.
    let _ = download.read_to(SMALL).await;
    assert!(matches!(lab.event().await, EventKind::Requested { .. }));
    let end = lab.event().await;
    assert!(matches!(&end, EventKind::Failed { reason, .. } if **reason == *CHANGED), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_is_replaced_by_rename_is_sent_to_its_end() {
    let mut lab = Lab::start();
    for length in [LARGE, SMALL, 100, 4096, 4097] {
        let path = lab.directory.path().join("kernel");
        write_old(&path, length);
        let mut download = Download::begin(&lab, "kernel", "").await;
        rename_over(&path, length + 1);
        // Neither touches the bytes.
        let other = path.with_extension("link");
        let _ = fs::remove_file(&other);
        fs::hard_link(&path, &other).unwrap();
        download.read_to(length).await.unwrap();
        assert!(download.body == content(b'o', length), "{length}: not the old file");
        assert!(matches!(lab.event().await, EventKind::Requested { .. }));
        let end = lab.event().await;
        assert!(matches!(end, EventKind::Done { bytes, .. } if bytes == length as u64), "{end:?}");
        let mut download = Download::begin(&lab, "kernel", "").await;
        download.read_to(length + 1).await.unwrap();
        assert!(download.body == content(b'n', length + 1), "{length}: not the new file");
        assert!(matches!(lab.event().await, EventKind::Requested { .. }));
        assert!(matches!(lab.event().await, EventKind::Done { .. }));
    }
}
