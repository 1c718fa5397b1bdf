//! The parts that the images of several machines have in common.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_part_is_made_once() {
    let lab = Arc::new(Lab::start());
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..40 {
        let lab = Arc::clone(&lab);
        requests.spawn(async move { lab.get(if index % 2 == 0 { 1 } else { 5 }, "").await.status });
    }
    assert_eq!(requests.join_all().await, vec![200; 40]);
    assert_eq!(lab.context.ukis.kept(), 1, "the same for all machines");
}

/// Otherwise each connection would need three descriptors, and there are places for machines by the number of descriptors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_share_the_descriptors_of_the_files() {
    let lab = Lab::start();
    fs::write(lab.path(INITRAMFS), random(32 << 20)).unwrap();
    let open = || {
        let links =
            fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        links.filter(|path| path.starts_with(lab.directory.path()) && path.is_file()).count()
    };
    let mut clients = Vec::new();
    for number in [1, 5, 1, 5, 1] {
        let mut client = lab.connect(number, Some(16 * 1024)).await;
        client.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", url(number)).as_bytes()).await.unwrap();
        in_time(client.read_exact(&mut [0; 100_000])).await.unwrap();
        clients.push(client);
    }
    assert!((2..=3).contains(&open()), "{} files are open", open());
    drop(clients);
    in_time(async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_part_is_there_before_the_first_machine_asks() {
    let lab = Lab::start();
    let prepare = || {
        let (inventory, images) = (lab.context.inventory.load(), lab.context.images.load());
        lab.context.ukis.prepare(&inventory, &images, &lab.context.store);
        lab.context.ukis.kept()
    };
    assert_eq!((prepare(), prepare()), (1, 1), "only images that are made");
    assert_eq!(lab.get(1, "").await.status, 200);
    assert_eq!(lab.context.ukis.kept(), 1, "it was prepared for this request");
    lab.context.ukis.set_signer(Some(signer()));
    assert_eq!((prepare(), prepare()), (2, 2));
    fs::remove_file(lab.path(KERNEL)).unwrap();
    assert_eq!(prepare(), 2);
    fs::write(lab.path(KERNEL), "no kernel").unwrap();
    assert_eq!((prepare(), prepare()), (3, 3), "and it is not tried again and again");
}
