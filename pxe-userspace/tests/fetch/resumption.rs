//! Downloads that go on where an earlier one ended.

use std::{fs, sync::Arc};

use pxe_userspace::fetch::Progress;

use crate::{
    lab::{FACTORY_KERNEL, KERNEL, Lab, factory_kernel, kernel, publish, release_kernel},
    server::{Behaviour, Server},
};

const LENGTH: usize = 3_000_000;

/// Leaves a part of the kernel behind, as a process that gave up does. Returns its length.
async fn interrupted(server: &Server, lab: &Lab) -> u64 {
    publish(server, &kernel(LENGTH, 1));
    server.once(KERNEL, [Behaviour::CutAfter(1_500_000)]);
    let attempts = std::mem::replace(&mut *lab.attempts.lock().unwrap(), 1);
    lab.failure(&release_kernel()).await;
    *lab.attempts.lock().unwrap() = attempts;
    let length = fs::metadata(lab.root().join(".pxed/partial/vmlinuz-v1.13.0-amd64.part")).unwrap().len();
    assert_eq!(length, 1_500_000, "what came is kept");
    length
}

fn ranges(server: &Server, path: &str) -> Vec<Option<String>> {
    server.requests(path).iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn next_attempt_asks_for_the_rest_only() {
    let server = Server::start();
    publish(&server, &kernel(LENGTH, 1));
    server.once(KERNEL, [Behaviour::CutAfter(1_000_000), Behaviour::CutAfter(500_000)]);
    let (lab, job) = (Lab::new(&server), release_kernel());
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
    assert_eq!(ranges(&server, KERNEL), [None, Some("bytes=1000000-".into()), Some("bytes=1500000-".into())]);
    let requests = server.requests(KERNEL);
    assert!(requests[1].header("if-range").is_some_and(|etag| etag.starts_with('"')), "{requests:?}");
}

#[tokio::test]
async fn next_process_asks_for_the_rest_only() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    let length = interrupted(&server, &lab).await;
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
    assert_eq!(ranges(&server, KERNEL).last().unwrap().as_deref(), Some(&*format!("bytes={length}-")));
    let first = lab.steps.lock().unwrap().iter().find_map(|step| match step {
        Progress::Receiving { done, total } => Some((*done, *total)),
        _ => None,
    });
    assert_eq!(first, Some((length, Some(LENGTH as u64))), "the progress counts what was there");
    assert_eq!(lab.left(), [""; 0]);
}

#[tokio::test]
async fn download_that_is_dropped_is_resumed() {
    let server = Server::start();
    publish(&server, &kernel(LENGTH, 1));
    server.once(KERNEL, [Behaviour::StallAfter(1_200_000)]);
    let (lab, job) = (Arc::new(Lab::new(&server)), release_kernel());
    let arrived = Arc::new(tokio::sync::Notify::new());
    let (told, lab2, job2) = (Arc::clone(&arrived), Arc::clone(&lab), job.clone());
    let task = tokio::spawn(async move {
        let observer = move |step| {
            if matches!(step, Progress::Receiving { done: 1_200_000, .. }) {
                told.notify_one();
            }
        };
        lab2.fetcher().fetch(&job2, &observer).await
    });
    arrived.notified().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
    assert_eq!(ranges(&server, KERNEL).last().unwrap().as_deref(), Some("bytes=1200000-"));
}

#[tokio::test]
async fn file_that_changed_meanwhile_starts_again() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    interrupted(&server, &lab).await;
    publish(&server, &kernel(LENGTH, 2));
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 2)), "no part of the old one");
    assert_eq!(server.requests(KERNEL).len(), 2, "the server sent the whole file at once");
}

#[tokio::test]
async fn server_without_ranges_starts_again() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    interrupted(&server, &lab).await;
    server.always(KERNEL, Behaviour::Whole);
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
}

#[tokio::test]
async fn file_without_a_validator_starts_again() {
    let server = Server::start();
    server.put(FACTORY_KERNEL, &kernel(LENGTH, 1));
    server.always(FACTORY_KERNEL, Behaviour::WithoutValidator);
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
    server.once(FACTORY_KERNEL, [Behaviour::Raw([cut.as_bytes(), &kernel(LENGTH, 1)[..1_000_000]].concat())]);
    let (lab, job) = (Lab::new(&server), factory_kernel());
    lab.fetch(&job).await.unwrap();
    assert_eq!(ranges(&server, FACTORY_KERNEL), [None, None]);
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
}

#[tokio::test]
async fn wrong_part_is_an_error_and_none_of_it_is_kept() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    for range in
        ["bytes 0-2999999/3000000", "bytes 1500001-2999999/3000000", "bytes 1500000-2999998/3000000", "nonsense"]
    {
        interrupted(&server, &lab).await;
        server.once(KERNEL, [Behaviour::ContentRange(range)]);
        *lab.attempts.lock().unwrap() = 1;
        let message = lab.failure(&job).await;
        assert!(message.contains(range) && message.contains("bytes from 1500000 on"), "{message}");
        assert_eq!(lab.left(), [""; 0]);
        // The next attempt asks for all.
        *lab.attempts.lock().unwrap() = 3;
        lab.fetch(&job).await.unwrap();
        assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
        fs::remove_file(lab.root().join(&*job.path)).unwrap();
    }
}

#[tokio::test]
async fn file_that_became_shorter_starts_again() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    interrupted(&server, &lab).await;
    publish(&server, &kernel(1_000_000, 1));
    // A server that does not know If-Range.
    server.once(KERNEL, [Behaviour::Status(416, vec![("content-range", "bytes */1000000".into())])]);
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(1_000_000, 1)));
}

#[tokio::test]
async fn whole_part_is_verified_without_another_request() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    publish(&server, &kernel(LENGTH, 1));
    // The place of the file is taken, so that the download cannot end.
    fs::create_dir(lab.root().join(&*job.path)).unwrap();
    let message = lab.fetch(&job).await.unwrap_err().to_string();
    assert!(message.contains("a directory is in its place"), "{message}");
    fs::remove_dir(lab.root().join(&*job.path)).unwrap();
    lab.fetch(&job).await.unwrap();
    assert_eq!((server.requests(KERNEL).len(), lab.content(&job)), (1, Some(kernel(LENGTH, 1))));
}

#[tokio::test]
async fn part_that_was_altered_on_disk_is_not_used() {
    let server = Server::start();
    let (lab, job) = (Lab::new(&server), release_kernel());
    interrupted(&server, &lab).await;
    let part = lab.root().join(".pxed/partial/vmlinuz-v1.13.0-amd64.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&part, bytes).unwrap();
    lab.fetch(&job).await.unwrap();
    assert_eq!(ranges(&server, KERNEL).last(), Some(&None));
    assert_eq!(lab.content(&job), Some(kernel(LENGTH, 1)));
}
