//! The progress of transfers, as the API shows it.

use pxe_userspace::model::progress::Progress;

use super::*;

/// Waits until the progress of machine 1 is as expected.
async fn until(lab: &Lab, expected: impl Fn(Option<Progress>) -> bool) {
    let waiting = async {
        while !expected(lab.progress.of(NODE_1)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_reached = timeout(Duration::from_secs(20), waiting).await.is_ok();
    assert!(is_reached, "the progress is {:?}", lab.progress.of(NODE_1));
}

async fn ask(lab: &Lab, range: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 11), 0).into()).unwrap();
    let mut stream = socket.connect(lab.address).await.unwrap();
    let request = format!("GET /assets/{KERNEL} HTTP/1.1\r\nHost: x\r\n{range}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_a_machine_acknowledges_are_its_progress() {
    let lab = Lab::start();
    let total = kernel().len() as u64;
    let mut stream = ask(&lab, "").await;
    // It reads nothing: what the socket took is not what arrived.
    until(&lab, |progress| progress.is_some()).await;
    let progress = lab.progress.of(NODE_1).unwrap();
    assert_eq!((progress.artifact, progress.transport), (ArtifactKind::Kernel, Transport::Http));
    assert!(progress.total == total && progress.is_running && progress.done < 200_000, "{progress:?}");
    let mut part = vec![0; 1_500_000];
    timeout(Duration::from_secs(20), stream.read_exact(&mut part)).await.unwrap().unwrap();
    until(&lab, |progress| progress.is_some_and(|progress| (1_000_000..total).contains(&progress.done))).await;
    drop(stream);
    // It broke off, and what it had of it remains known.
    until(&lab, |progress| progress.is_some_and(|progress| !progress.is_running && progress.done > 1_000_000)).await;
    let mut rest = ask(&lab, "Range: bytes=2000000-\r\n").await;
    until(&lab, |progress| progress.is_some_and(|progress| progress.is_running && progress.done >= 2_000_000)).await;
    timeout(Duration::from_secs(20), rest.read_to_end(&mut part)).await.unwrap().unwrap();
    until(&lab, |progress| progress.is_none()).await;
}
