//! The progress of transfers, as the API shows it.

use pxe_userspace::model::{
    event::{ArtifactKind, Transport},
    progress::Progress,
};

use super::lab::{Client, LIMIT, Lab, MAC, MACHINE};

async fn until(lab: &Lab, expected: impl Fn(Option<Progress>) -> bool) {
    let waiting = async {
        while !expected(lab.progress.of(MAC)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "the progress is {:?}", lab.progress.of(MAC));
}

#[tokio::test]
async fn bytes_that_a_machine_acknowledges_are_its_progress() {
    let mut lab = Lab::new(&[("ipxe-efi-x86_64.efi", 3_000)]);
    let mut client = Client::new(MACHINE, lab.server).await;
    client.request("ipxe-efi-x86_64.efi", &[("blksize", 1428)]).await;
    client.receive().await;
    // Anybody can forge a request: one that nobody has answered shows nothing.
    assert_eq!(lab.progress.of(MAC), None);
    client.acknowledge(0).await;
    until(&lab, |progress| progress.is_some()).await;
    let progress = lab.progress.of(MAC).unwrap();
    assert_eq!((progress.artifact, progress.transport), (ArtifactKind::Loader, Transport::Tftp));
    assert_eq!((progress.done, progress.total, progress.block, progress.is_running), (0, 3_000, 1428, true));
    client.acknowledge(1).await;
    until(&lab, |progress| progress.is_some_and(|progress| progress.done == 1428)).await;
    client.send(b"\0\x05\0\0gone\0").await;
    until(&lab, |progress| progress.is_some_and(|progress| !progress.is_running && progress.done == 1428)).await;
    assert_eq!(lab.story().await.len(), 2);
    assert_eq!(Client::new(MACHINE, lab.server).await.fetch("ipxe-efi-x86_64.efi", 512, 1).await.len(), 3_000);
    until(&lab, |progress| progress.is_none()).await;
}
