//! Files from another node's boot HTTP (`--mirror`): it has them, or it does anything else.

use std::{
    fs,
    time::{Duration, Instant},
};

use pxe_userspace::{
    artifacts::Proof,
    fetch::{Job, Timeouts},
};

use crate::{
    lab::{FACTORY_KERNEL, KERNEL, Lab, SHA256SUM, SHA512SUM, factory_kernel, kernel, publish, release_kernel, sha256},
    server::{Behaviour, Server},
};

const LENGTH: usize = 3_000_000;

/// Returns the path of an artifact at a peer.
fn at_peer(job: &Job) -> String {
    format!("/assets/{}", job.path)
}

/// Returns a lab that asks the peer first.
fn lab(upstream: &Server, peer: &Server) -> Lab {
    let mut lab = Lab::new(upstream);
    lab.config.peers = vec![peer.url("").into()];
    lab
}

#[tokio::test]
async fn bulk_bytes_come_from_the_peer_and_are_verified_by_the_published_list() {
    let (upstream, peer) = (Server::start(), Server::start());
    let (content, job) = (kernel(LENGTH, 1), release_kernel());
    publish(&upstream, &content);
    peer.put(&at_peer(&job), &content);
    let lab = lab(&upstream, &peer);
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((fetched.proof, &*fetched.url), (Proof::PublishedChecksum, &*peer.url(&at_peer(&job))));
    assert_eq!(lab.content(&job), Some(content));
    assert!(upstream.requests(KERNEL).is_empty(), "only the lists come from there");
    assert_eq!(lab.records().entry(&job.path).unwrap().source.as_deref(), Some(&*peer.url(&at_peer(&job))));
    assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()));
}

/// A file that no list has could be anything.
#[tokio::test]
async fn peer_is_not_asked_for_a_file_whose_hash_nobody_knows() {
    let (upstream, peer) = (Server::start(), Server::start());
    let (content, job) = (kernel(LENGTH, 1), factory_kernel());
    upstream.put(FACTORY_KERNEL, &content);
    peer.put(&at_peer(&job), &kernel(LENGTH, 2));
    let lab = lab(&upstream, &peer);
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((fetched.proof, &*fetched.url), (Proof::FirstDownload, &*upstream.url(FACTORY_KERNEL)));
    assert_eq!((lab.content(&job), peer.request_count()), (Some(content), 0));
}

/// The upstream may be out of reach then.
#[tokio::test]
async fn file_that_was_recorded_comes_back_from_the_peer_without_the_upstream() {
    for (job, path, proof) in
        [(factory_kernel(), FACTORY_KERNEL, Proof::FirstDownload), (release_kernel(), KERNEL, Proof::PublishedChecksum)]
    {
        let (upstream, peer) = (Server::start(), Server::start());
        let content = kernel(LENGTH, 1);
        publish(&upstream, &content);
        upstream.put(path, &content);
        let lab = lab(&upstream, &peer);
        lab.fetch(&job).await.unwrap();
        fs::remove_file(lab.root().join(&*job.path)).unwrap();
        for gone in [path, SHA256SUM, SHA512SUM] {
            upstream.remove(gone);
        }
        lab.failure(&job).await;
        peer.put(&at_peer(&job), &kernel(LENGTH, 2));
        lab.failure(&job).await;
        peer.put(&at_peer(&job), &content);
        let fetched = lab.fetch(&job).await.unwrap();
        assert_eq!((fetched.proof, &*fetched.url), (proof, &*peer.url(&at_peer(&job))));
        assert_eq!(lab.content(&job), Some(content));
    }
}

#[tokio::test]
async fn upstream_has_the_file_whatever_the_peer_does() {
    let html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>".to_vec();
    let behaviours: Vec<(&str, Option<Behaviour>)> = vec![
        ("lacks it", Some(Behaviour::Status(404, Vec::new()))),
        ("is fetching it itself", Some(Behaviour::Status(503, vec![("Retry-After", "3600".to_owned())]))),
        ("refuses", Some(Behaviour::Status(403, Vec::new()))),
        ("sends a half", Some(Behaviour::CutAfter(LENGTH / 2))),
        ("stops in the middle", Some(Behaviour::StallAfter(LENGTH / 2))),
        ("says nothing", Some(Behaviour::Silence)),
        ("sends a page", Some(Behaviour::Raw(html))),
        ("sends rubbish", Some(Behaviour::Raw(b"\0\0\0\0\r\n\r\n".to_vec()))),
        ("lies", None),
    ];
    for (name, behaviour) in behaviours {
        let (upstream, peer) = (Server::start(), Server::start());
        let (content, job) = (kernel(LENGTH, 1), release_kernel());
        publish(&upstream, &content);
        peer.put(&at_peer(&job), if behaviour.is_none() { kernel(LENGTH, 2) } else { content.clone() }.as_slice());
        if let Some(behaviour) = behaviour {
            peer.always(&at_peer(&job), behaviour);
        }
        let mut lab = lab(&upstream, &peer);
        let short = Duration::from_millis(300);
        lab.config.timeouts = Timeouts { answer: short, idle: short, ..Timeouts::default() };
        let fetched = lab.fetch(&job).await.unwrap();
        assert_eq!(&*fetched.url, &*upstream.url(KERNEL), "a peer that {name}");
        assert_eq!(lab.content(&job), Some(content), "a peer that {name}");
        assert_eq!(peer.requests(&at_peer(&job)).len(), 1, "a peer that {name} is asked once");
        assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()), "a peer that {name} costs no attempt");
        let range = upstream.requests(KERNEL)[0].header("range").map(str::to_owned);
        assert_eq!(range, None, "nothing of a peer that {name} is gone on with");
    }
}

#[tokio::test]
async fn peer_that_is_gone_or_is_no_url_of_a_file_costs_no_attempt() {
    let upstream = Server::start();
    let (content, job) = (kernel(LENGTH, 1), release_kernel());
    publish(&upstream, &content);
    let mut lab = Lab::new(&upstream);
    // The port of nobody.
    lab.config.peers = vec!["http://127.0.0.1:9".into()];
    let begun = Instant::now();
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((&*fetched.url, lab.pauses()), (&*upstream.url(KERNEL), 0));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn next_peer_is_asked_after_the_first() {
    let (upstream, first, second) = (Server::start(), Server::start(), Server::start());
    let (content, job) = (kernel(LENGTH, 1), release_kernel());
    publish(&upstream, &content);
    first.put(&at_peer(&job), &kernel(LENGTH, 2));
    second.put(&at_peer(&job), &content);
    let mut lab = Lab::new(&upstream);
    lab.config.peers = vec![first.url("").into(), second.url("").into()];
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((&*fetched.url, fetched.sha256.to_string()), (&*second.url(&at_peer(&job)), sha256(&content)));
    assert!(upstream.requests(KERNEL).is_empty());
}

/// The part that came from the upstream is worth more than beginning again at a peer.
#[tokio::test]
async fn download_from_the_upstream_that_has_begun_goes_on_there() {
    let (upstream, peer) = (Server::start(), Server::start());
    let (content, job) = (kernel(LENGTH, 1), release_kernel());
    publish(&upstream, &content);
    let mut lab = lab(&upstream, &peer);
    upstream.once(KERNEL, [Behaviour::CutAfter(2_000_000)]);
    *lab.attempts.get_mut().unwrap() = 1;
    lab.failure(&job).await;
    peer.put(&at_peer(&job), &content);
    let asked = peer.requests(&at_peer(&job)).len();
    let fetched = lab.fetch(&job).await.unwrap();
    assert_eq!((&*fetched.url, lab.content(&job)), (&*upstream.url(KERNEL), Some(content)));
    assert_eq!(peer.requests(&at_peer(&job)).len(), asked);
    assert_eq!(upstream.requests(KERNEL).last().unwrap().header("range"), Some("bytes=2000000-"));
}
