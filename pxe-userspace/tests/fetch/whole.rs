//! Files that arrive whole.

use std::os::unix::fs::PermissionsExt as _;
use std::{fs, num::NonZeroU64, time::Instant};

use pxe_userspace::{
    artifacts::{Content, Proof},
    fetch::{Job, Progress},
    model::image_source::ImageSource,
};

use crate::{
    lab::{FACTORY_KERNEL, KERNEL, Lab, SHA256SUM, SHA512SUM, factory_kernel, kernel, publish, release_kernel, sha256},
    server::{Behaviour, Server},
};

#[tokio::test]
async fn file_of_a_release_is_verified_by_both_lists_and_recorded() {
    let server = Server::start();
    let content = kernel(3_000_000, 1);
    publish(&server, &content);
    let (lab, job) = (Lab::new(&server), release_kernel());
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((fetched.length, fetched.sha256.to_string()), (3_000_000, sha256(&content)));
    assert_eq!((fetched.proof, &*fetched.url), (Proof::PublishedChecksum, &*server.url(KERNEL)));
    assert_eq!(lab.content(&job), Some(content));
    let entry = lab.records().entry(&job.path).unwrap();
    assert_eq!((entry.sha256, entry.proof, entry.source), (fetched.sha256, fetched.proof, Some(fetched.url)));
    assert!(lab.records().is_as_recorded(&job.path), "it is served without being read again");
    assert_eq!(lab.left(), [""; 0]);
    let mode = fs::metadata(lab.root().join(&*job.path)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let steps = lab.steps.lock().unwrap();
    assert_eq!(steps.first(), Some(&Progress::Asked));
    assert_eq!(steps.last(), Some(&Progress::Receiving { done: 3_000_000, total: Some(3_000_000) }));
}

#[tokio::test]
async fn file_of_the_factory_is_recorded_by_its_first_download() {
    let server = Server::start();
    let content = kernel(100_000, 1);
    server.redirect(FACTORY_KERNEL, "/storage/object?X-Signature=secret");
    server.put("/storage/object", &content);
    let (lab, job) = (Lab::new(&server), factory_kernel());
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!(fetched.proof, Proof::FirstDownload);
    assert_eq!(&*fetched.url, &*server.url(FACTORY_KERNEL), "not the storage's, which has a signature and changes");
    assert_eq!(lab.content(&job), Some(content), "in a directory of its schematic");
}

#[tokio::test]
async fn build_of_ipxe_is_fetched() {
    let server = Server::start();
    server.put("/ipxe/x86_64-efi/ipxe.efi", &kernel(5_000, 1));
    let source = ImageSource::Ipxe { path: "x86_64-efi/ipxe.efi".into() };
    let job = Job { path: "ipxe-efi-x86_64.efi".into(), source, content: Content::Loader };
    let lab = Lab::new(&server);
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job).unwrap().len(), 5_000);
}

#[tokio::test]
async fn file_that_changes_under_its_url_is_refused_and_the_recorded_one_stays() {
    let server = Server::start();
    server.put(FACTORY_KERNEL, &kernel(100_000, 1));
    let (lab, job) = (Lab::new(&server), factory_kernel());
    let first = lab.fetch(&job).await.unwrap();
    // The same bytes are welcome.
    assert_eq!(lab.fetch(&job).await.unwrap().sha256, first.sha256);
    server.put(FACTORY_KERNEL, &kernel(100_000, 2));
    let message = lab.fetch(&job).await.unwrap_err().to_string();
    for part in [FACTORY_KERNEL, &first.sha256.to_string(), &sha256(&kernel(100_000, 2)), "--accept"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(lab.content(&job), Some(kernel(100_000, 1)));
    assert_eq!(lab.records().entry(&job.path).unwrap().sha256, first.sha256);
    assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()), "another attempt would bring the same");
    // Once the file is gone, the record still refuses other bytes, until somebody says otherwise.
    fs::remove_file(lab.root().join(&*job.path)).unwrap();
    lab.failure(&job).await;
    lab.records().accept(job.path.as_ref().as_ref(), std::time::SystemTime::now()).unwrap();
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(100_000, 2)));
}

#[tokio::test]
async fn file_that_a_person_puts_there_during_the_download_stays() {
    let server = Server::start();
    publish(&server, &kernel(1_000_000, 1));
    let (lab, job) = (Lab::new(&server), release_kernel());
    let place = lab.root().join(&*job.path);
    let put = |step| {
        if matches!(step, Progress::Receiving { .. }) {
            fs::write(&place, "an own kernel").unwrap();
        }
    };
    let error = lab.fetcher().fetch(&job, &put).await.unwrap_err().to_string();
    assert!(error.contains("by hand") && error.contains("delete it"), "{error}");
    assert_eq!(lab.content(&job).unwrap(), b"an own kernel");
    assert_eq!((lab.left(), server.requests(KERNEL).len()), (Vec::new(), 1));
}

#[tokio::test]
async fn lists_are_fetched_once_for_all_files() {
    let server = Server::start();
    publish(&server, &kernel(100_000, 1));
    server.put("/talos/v1.13.0/other", b"other");
    let (lab, job) = (Lab::new(&server), release_kernel());
    let other = Job {
        path: "other".into(),
        source: ImageSource::TalosRelease { version: "v1.13.0".into(), file: "other".into() },
        content: Content::Loader,
    };
    let fetcher = lab.fetcher();
    let (kernel, other) = tokio::join!(fetcher.fetch(&job, &|_| {}), fetcher.fetch(&other, &|_| {}));
    assert_eq!((kernel.unwrap().proof, other.unwrap().proof), (Proof::PublishedChecksum, Proof::PublishedChecksum));
    assert_eq!((server.requests(SHA256SUM).len(), server.requests(SHA512SUM).len()), (1, 1));
}

#[tokio::test]
async fn sha512_is_checked_where_it_is_published() {
    let server = Server::start();
    let content = kernel(100_000, 1);
    publish(&server, &content);
    server.put(SHA512SUM, format!("{}  vmlinuz-amd64\n", "ab".repeat(64)).as_bytes());
    let (lab, job) = (Lab::new(&server), release_kernel());
    let message = lab.failure(&job).await;
    assert!(message.contains("SHA-512") && message.contains(&"ab".repeat(64)), "{message}");
    // A mirror may leave the list out, or a file out of it.
    for list in [None, Some(format!("{}  other\n", "ab".repeat(64)))] {
        match list {
            None => server.remove(SHA512SUM),
            Some(list) => server.put(SHA512SUM, list.as_bytes()),
        }
        let lab = Lab::new(&server);
        assert_eq!(lab.fetch(&job).await.unwrap().proof, Proof::PublishedChecksum);
    }
}

#[tokio::test]
async fn answer_without_a_length_is_taken_if_it_has_an_end() {
    let server = Server::start();
    server.put(FACTORY_KERNEL, &kernel(300_000, 1));
    server.always(FACTORY_KERNEL, Behaviour::Chunked(usize::MAX));
    let (lab, job) = (Lab::new(&server), factory_kernel());
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(300_000, 1)));
    // The end of the connection is the end of the file, or not.
    server.always(FACTORY_KERNEL, Behaviour::UntilTheEnd);
    let lab = Lab::new(&server);
    let message = lab.failure(&job).await;
    assert!(message.contains("does not say how long"), "{message}");
    // A published checksum tells.
    publish(&server, &kernel(300_000, 1));
    server.always(KERNEL, Behaviour::UntilTheEnd);
    lab.fetch(&release_kernel()).await.unwrap();
}

#[tokio::test]
async fn bandwidth_limit_holds_for_all_downloads_together() {
    let server = Server::start();
    publish(&server, &kernel(400_000, 1));
    server.put(FACTORY_KERNEL, &kernel(400_000, 1));
    let mut lab = Lab::new(&server);
    lab.config.bandwidth_limit = NonZeroU64::new(1_000_000);
    let fetcher = lab.fetcher();
    let begin = Instant::now();
    let (release, factory) = (release_kernel(), factory_kernel());
    let (release, factory) = tokio::join!(fetcher.fetch(&release, &|_| {}), fetcher.fetch(&factory, &|_| {}));
    release.unwrap();
    factory.unwrap();
    // 800 kB, of which a quarter of a second's worth is free.
    assert!(begin.elapsed().as_millis() >= 500, "{:?}", begin.elapsed());
}
