//! Several tasks and processes that want the same file. A process is a fetcher of its own: locks belong to open files.

use std::sync::{Arc, Mutex};

use pxe_userspace::fetch::{Job, Progress};
use tokio::sync::Notify;

use crate::{
    lab::{KERNEL, Lab, kernel, publish, release_kernel},
    server::{Behaviour, Server},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_is_downloaded_once_for_all_who_want_it() {
    let server = Server::start();
    publish(&server, &kernel(2_000_000, 1));
    let lab = Lab::new(&server);
    let fetcher = lab.fetcher();
    let (job, same, mut others) = (release_kernel(), &lab, Vec::new());
    for _ in 0..3 {
        others.push(lab.fetcher());
    }
    let observer = |_: Progress| {};
    let (a, b, c, d, e) = tokio::join!(
        fetcher.fetch(&job, &observer),
        fetcher.fetch(&job, &observer),
        others[0].fetch(&job, &observer),
        others[1].fetch(&job, &observer),
        others[2].fetch(&job, &observer),
    );
    let first = a.unwrap();
    for result in [b, c, d, e] {
        assert_eq!(result.unwrap(), first);
    }
    assert_eq!(server.requests(KERNEL).len(), 1);
    assert_eq!(same.left(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_says_that_it_waits_and_takes_over_when_the_first_ends() {
    let server = Server::start();
    publish(&server, &kernel(2_000_000, 1));
    server.once(KERNEL, [Behaviour::StallAfter(1_100_000)]);
    let lab = Arc::new(Lab::new(&server));
    let notify_at = |wanted: fn(&Progress) -> bool| {
        let notify = Arc::new(Notify::new());
        let told = Arc::clone(&notify);
        (notify, move |step: Progress| {
            if wanted(&step) {
                told.notify_one();
            }
        })
    };
    let spawn = |observer: Box<dyn Fn(Progress) + Send + Sync>| {
        let lab = Arc::clone(&lab);
        tokio::spawn(async move { lab.fetcher().fetch(&release_kernel(), &*observer).await })
    };
    let (stalled, observer) = notify_at(|step| matches!(step, Progress::Receiving { done: 1_100_000, .. }));
    let first = spawn(Box::new(observer));
    stalled.notified().await;
    let (waits, observer) = notify_at(|step| *step == Progress::Elsewhere);
    let second = spawn(Box::new(observer));
    waits.notified().await;
    first.abort();
    second.await.unwrap().unwrap();
    assert_eq!(lab.content(&release_kernel()), Some(kernel(2_000_000, 1)));
    let ranges: Vec<_> =
        server.requests(KERNEL).iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=1100000-".to_owned())]);
}

#[tokio::test]
async fn four_files_are_downloaded_at_a_time() {
    let server = Server::start();
    let mut jobs = Vec::new();
    for number in 0..6 {
        let schematic: Arc<str> = format!("{number}").repeat(64).into();
        let at = format!("/factory/image/{schematic}/v1.13.0/kernel-amd64");
        server.put(&at, &kernel(10_000, 1));
        server.once(&at, [Behaviour::StallAfter(1_000)]);
        let source = pxe_userspace::model::image_source::ImageSource::Factory {
            schematic: Arc::clone(&schematic),
            version: "v1.13.0".into(),
            file: "kernel-amd64".into(),
        };
        jobs.push(Job { path: format!("{schematic}/k").into(), source, ..release_kernel() });
    }
    let lab = Lab::new(&server);
    let fetcher = Arc::new(lab.fetcher());
    let (receiving, queued, all) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)), Arc::new(Notify::new()));
    let tasks: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let (fetcher, receiving, queued, all) =
                (Arc::clone(&fetcher), Arc::clone(&receiving), Arc::clone(&queued), Arc::clone(&all));
            tokio::spawn(async move {
                let observer = move |step| {
                    match step {
                        Progress::Receiving { done: 1_000, .. } => *receiving.lock().unwrap() += 1,
                        Progress::Queued => *queued.lock().unwrap() += 1,
                        _ => {}
                    }
                    if (*receiving.lock().unwrap(), *queued.lock().unwrap()) == (4, 2) {
                        all.notify_one();
                    }
                };
                fetcher.fetch(&job, &observer).await
            })
        })
        .collect();
    all.notified().await;
    assert_eq!(server.request_count(), 4);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}
