//! Servers that misbehave. Each message says what happened, at which URL, how often it was tried, and what to do.

use std::{net::TcpListener, time::Duration};

use pxe_userspace::{
    artifacts::Content,
    fetch::{Job, Progress},
};

use crate::{
    lab::{FACTORY_KERNEL, KERNEL, Lab, SHA256SUM, SHA512SUM, factory_kernel, kernel, publish, release_kernel, sha256},
    server::{Behaviour, Server},
};

fn setup() -> (Server, Lab) {
    let server = Server::start();
    publish(&server, &kernel(300_000, 1));
    server.put(FACTORY_KERNEL, &kernel(300_000, 1));
    let lab = Lab::new(&server);
    (server, lab)
}

/// Checks that a message has all of these parts.
fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[tokio::test]
async fn stall_is_given_up_and_tried_again() {
    let (server, mut lab) = setup();
    lab.config.timeouts.idle = Duration::from_millis(100);
    server.always(KERNEL, Behaviour::StallAfter(1_000));
    let message = lab.failure(&release_kernel()).await;
    has(&message, &[&server.url(KERNEL), "nothing came for", "3000 of 300000 bytes", "tried 3 times"]);
    assert_eq!(lab.pauses(), 2);
}

#[tokio::test]
async fn silence_is_given_up_and_tried_again() {
    let (server, mut lab) = setup();
    lab.config.timeouts.answer = Duration::from_millis(100);
    server.always(KERNEL, Behaviour::Silence);
    has(&lab.failure(&release_kernel()).await, &[&server.url(KERNEL), "no answer within", "tried 3 times"]);
    // A list that does not come is as bad, and named.
    server.always(SHA256SUM, Behaviour::Silence);
    has(&lab.failure(&release_kernel()).await, &[&server.url(SHA256SUM), "no answer within", "tried 3 times"]);
}

#[tokio::test]
async fn answer_that_trickles_is_given_up() {
    let (server, mut lab) = setup();
    lab.config.timeouts.slow = Duration::from_millis(1_000);
    server.always(KERNEL, Behaviour::TrickleAfter(100, Duration::from_millis(50)));
    *lab.attempts.lock().unwrap() = 1;
    has(&lab.failure(&release_kernel()).await, &["bytes came in 1 seconds", "of 300000 bytes"]);
    // A list would keep all files of its release waiting.
    server.always(SHA256SUM, Behaviour::TrickleAfter(10, Duration::from_millis(50)));
    has(&lab.failure(&release_kernel()).await, &[&server.url(SHA256SUM), "bytes came in 1 seconds"]);
}

#[tokio::test]
async fn answer_that_is_cut_off_every_time_fails() {
    let (server, lab) = setup();
    // The rest that is asked for next is cut off as well, each time after one byte.
    server.always(KERNEL, Behaviour::CutAfter(1));
    has(
        &lab.failure(&release_kernel()).await,
        &[&server.url(KERNEL), "connection ended after 3 of 300000", "tried 3 times"],
    );
    server.always(FACTORY_KERNEL, Behaviour::Chunked(1_000));
    has(&lab.failure(&factory_kernel()).await, &["connection ended after", "tried 3 times"]);
}

#[tokio::test]
async fn bytes_that_come_again_and_again_are_no_progress() {
    let (server, lab) = setup();
    // Two of three megabytes, each time from the beginning, since there is no validator by which the rest could be asked for.
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 3 << 20);
    server.always(KERNEL, Behaviour::Raw([head.as_bytes(), &kernel(2 << 20, 1)].concat()));
    has(&lab.failure(&release_kernel()).await, &["connection ended after 2097152 of 3145728", "tried 3 times"]);
}

#[tokio::test]
async fn status_of_a_list_that_is_not_given_is_told() {
    let (server, lab) = setup();
    for (status, words) in [(403, "answers 403 (Forbidden)"), (410, "answers 410 (Gone)")] {
        server.always(SHA256SUM, Behaviour::Status(status, Vec::new()));
        has(&lab.failure(&release_kernel()).await, &[&server.url(SHA256SUM), words]);
    }
}

#[tokio::test]
async fn redirect_that_leads_nowhere_is_told() {
    let (server, lab) = setup();
    for (target, words) in [
        (Some("file:///etc/passwd?secret"), "302 (Found: to \"file:///etc/passwd\", which cannot be followed)"),
        (Some("http://[::1"), "302 (Found: to \"http://[::1\", which cannot be followed)"),
        (None, "302 (Found: it does not say where to)"),
    ] {
        let headers = target.map(|target| ("location", target.to_owned()));
        server.always(KERNEL, Behaviour::Status(302, headers.into_iter().collect()));
        let message = lab.failure(&release_kernel()).await;
        has(&message, &[&server.url(KERNEL), words, "check the server"]);
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn length_that_is_a_lie_is_found_out() {
    let (server, lab) = setup();
    let content = kernel(300_000, 1);
    let raw = |length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        Behaviour::Raw([head.as_bytes(), &content].concat())
    };
    // More is announced than comes.
    server.always(KERNEL, raw(300_001));
    has(&lab.failure(&release_kernel()).await, &["connection ended after 300000 of 300001 bytes", "tried 3 times"]);
    // Less is announced than comes.
    server.always(KERNEL, raw(299_999));
    has(&lab.failure(&release_kernel()).await, &["SHA-256", &sha256(&content), &sha256(&content[..299_999])]);
    // More than any file has.
    server.always(KERNEL, raw(1 << 40));
    has(&lab.failure(&release_kernel()).await, &["longer than any that machines load"]);
    assert_eq!(lab.pauses(), 0);
    assert_eq!(lab.left(), [""; 0]);
}

#[tokio::test]
async fn redirects_have_an_end() {
    let (server, lab) = setup();
    server.redirect(KERNEL, KERNEL);
    has(&lab.failure(&release_kernel()).await, &[&server.url(KERNEL), "redirected more than 10 times"]);
    assert_eq!((server.requests(KERNEL).len(), lab.pauses()), (11, 0));
    // Ten are followed.
    for step in 0..9 {
        server.redirect(&format!("/step-{step}"), &format!("/step-{}", step + 1));
    }
    server.redirect(KERNEL, "/step-0");
    server.put("/step-9", &kernel(300_000, 1));
    lab.fetch(&release_kernel()).await.unwrap();
}

#[tokio::test]
async fn redirect_to_something_else_than_http_is_not_followed() {
    let (server, lab) = setup();
    for target in ["ftp://127.0.0.1/kernel", "file:///etc/passwd", "http://", "nonsense://x"] {
        server.redirect(KERNEL, target);
        has(&lab.failure(&release_kernel()).await, &[&server.url(KERNEL)]);
    }
}

#[tokio::test]
async fn web_page_is_told_from_a_file() {
    let (server, lab) = setup();
    let page = "<!DOCTYPE html><html><head><title>Guest login</title></head></html>";
    let answer = |kind: &str, body: &str| {
        Behaviour::Raw(
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into(),
        )
    };
    for behaviour in [
        answer("text/html; charset=utf-8", page),
        answer("application/octet-stream", page),
        answer("application/octet-stream", &format!("\n  {page}")),
        answer("text/html", "<title>Guest login</title>Please log in"),
    ] {
        for (path, job) in [(KERNEL, release_kernel()), (FACTORY_KERNEL, factory_kernel())] {
            server.always(path, behaviour.clone());
            has(
                &lab.failure(&job).await,
                &[&server.url(path), "a web page came", "Guest login", "login page of a proxy"],
            );
            assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()));
        }
    }
    // In place of the list, too.
    server.always(SHA256SUM, answer("text/html", page));
    has(
        &lab.failure(&release_kernel()).await,
        &[&server.url(SHA256SUM), "not a list of SHA-256 checksums", "<!DOCTYPE html>"],
    );
}

#[tokio::test]
async fn error_status_is_named_with_what_to_do() {
    let (server, lab) = setup();
    for (status, remedy, attempts) in [
        (401, "user and password", 1),
        (403, "does not give it to this host", 1),
        (404, "check version and schematic", 1),
        (410, "check version and schematic", 1),
        (418, "", 1),
        (500, "", 3),
        (502, "", 3),
        (503, "", 3),
        (504, "", 3),
        (204, "without a file", 3),
        (416, "no range was asked for", 3),
    ] {
        server.always(FACTORY_KERNEL, Behaviour::Status(status, Vec::new()));
        let message = lab.failure(&factory_kernel()).await;
        has(&message, &[&server.url(FACTORY_KERNEL), &status.to_string(), remedy]);
        assert_eq!(lab.pauses() + 1, attempts, "{message}");
        assert_eq!(message.contains("tried 3 times"), attempts == 3, "{message}");
    }
}

#[tokio::test]
async fn server_that_recovers_is_not_a_failure() {
    let (server, lab) = setup();
    server.once(SHA256SUM, [Behaviour::Status(503, Vec::new())]);
    server.once(KERNEL, [Behaviour::CutAfter(10)]);
    lab.fetch(&release_kernel()).await.unwrap();
    assert_eq!(lab.pauses(), 2);
}

#[tokio::test]
async fn pause_that_the_server_asks_for_is_kept() {
    let (server, lab) = setup();
    let busy = |pause: &str| Behaviour::Status(429, vec![("retry-after", pause.to_owned())]);
    server.once(FACTORY_KERNEL, [busy("1")]);
    lab.fetch(&factory_kernel()).await.unwrap();
    let asked = lab
        .steps
        .lock()
        .unwrap()
        .iter()
        .any(|step| matches!(step, Progress::Pausing { pause, .. } if *pause >= Duration::from_secs(1)));
    assert!(asked, "{:?}", lab.steps.lock().unwrap());
    // Longer than the round lasts: whoever called asks again later.
    server.once(FACTORY_KERNEL, [busy("3600")]);
    let lab = Lab::new(&server);
    let error = lab.fetch(&factory_kernel()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    has(&error.to_string(), &["429", "asks to wait for 3600 seconds"]);
}

#[tokio::test]
async fn checksum_that_is_missing_or_contradicts_itself_is_an_error() {
    let (server, lab) = setup();
    let sum = sha256(&kernel(300_000, 1));
    for (list, reason) in [
        (format!("{sum}  vmlinuz-arm64\n"), "does not list vmlinuz-amd64"),
        (
            format!("{sum}  vmlinuz-amd64\n{}  vmlinuz-amd64\n", sha256(b"")),
            "lines 1 and 2 give vmlinuz-amd64 different",
        ),
        (String::new(), "not a list of SHA-256 checksums"),
    ] {
        server.put(SHA256SUM, list.as_bytes());
        has(
            &lab.failure(&release_kernel()).await,
            &[&server.url(SHA256SUM), reason, "copy the release's sha256sum.txt"],
        );
        assert_eq!(lab.pauses(), 0);
    }
    server.remove(SHA256SUM);
    has(&lab.failure(&release_kernel()).await, &[&server.url(SHA256SUM), "404"]);
    assert_eq!(server.requests(KERNEL).len(), 0, "what cannot be verified is not downloaded");
    server.put(SHA256SUM, format!("{sum} *vmlinuz-amd64\r\n").as_bytes());
    server.put(
        SHA512SUM,
        format!("{0}  vmlinuz-amd64\n{1}  vmlinuz-amd64\n", "ab".repeat(64), "cd".repeat(64)).as_bytes(),
    );
    has(&lab.failure(&release_kernel()).await, &[&server.url(SHA512SUM), "different checksums"]);
}

#[tokio::test]
async fn content_that_is_not_the_published_one_is_fetched_twice_and_dropped() {
    let (server, lab) = setup();
    server.put(KERNEL, &kernel(300_000, 2));
    let message = lab.failure(&release_kernel()).await;
    let (published, found) = (sha256(&kernel(300_000, 1)), sha256(&kernel(300_000, 2)));
    has(&message, &[&published, &found, "tried 2 times", "nothing of it was kept"]);
    assert_eq!((server.requests(KERNEL).len(), server.requests(SHA256SUM).len()), (2, 2), "the list was older?");
    assert_eq!(lab.left(), [""; 0]);
}

#[tokio::test]
async fn release_that_was_replaced_together_with_its_list_is_taken() {
    let (server, lab) = setup();
    let fetcher = lab.fetcher();
    fetcher.fetch(&release_kernel(), &|_| {}).await.unwrap();
    publish(&server, &kernel(200_000, 3));
    fetcher.fetch(&release_kernel(), &|_| {}).await.unwrap();
    assert_eq!(lab.content(&release_kernel()), Some(kernel(200_000, 3)));
}

#[tokio::test]
async fn empty_file_is_not_taken() {
    let (server, lab) = setup();
    server.put(FACTORY_KERNEL, b"");
    has(&lab.failure(&factory_kernel()).await, &[&server.url(FACTORY_KERNEL), "it is empty"]);
    publish(&server, &kernel(1_000, 1));
    server.put(KERNEL, b"");
    server.put(SHA256SUM, format!("{}  vmlinuz-amd64\n", sha256(b"")).as_bytes());
    server.remove(SHA512SUM);
    has(&lab.failure(&release_kernel()).await, &["it is empty"]);
}

#[tokio::test]
async fn file_that_cannot_be_what_its_name_says_is_not_taken() {
    let (server, lab) = setup();
    let text = b"{\"error\": \"no such schematic\"}";
    server.put(FACTORY_KERNEL, text);
    let parts = [&*server.url(FACTORY_KERNEL), "not a Linux kernel", "nothing of it was kept"];
    has(&lab.failure(&factory_kernel()).await, &parts);
    // Nor if somebody publishes the checksum of it.
    publish(&server, &kernel(300_000, 1));
    server.put(KERNEL, text);
    server.put(SHA256SUM, format!("{}  vmlinuz-amd64\n", sha256(text)).as_bytes());
    server.remove(SHA512SUM);
    has(&lab.failure(&release_kernel()).await, &["not a Linux kernel"]);
    // A server that was filled by a download that broke off has no checksum to tell.
    server.put(FACTORY_KERNEL, &kernel(300_000, 1)[..200_000]);
    has(&lab.failure(&factory_kernel()).await, &["cut off"]);
    let initramfs = Job { content: Content::Initramfs, ..factory_kernel() };
    server.put(FACTORY_KERNEL, b"");
    has(&lab.failure(&initramfs).await, &["it is empty"]);
    server.put(FACTORY_KERNEL, &kernel(300_000, 1));
    has(&lab.failure(&initramfs).await, &["not an initramfs"]);
    assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()));
}

#[tokio::test]
async fn encoded_answer_is_refused() {
    let (server, lab) = setup();
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    server.always(FACTORY_KERNEL, Behaviour::Raw(head.into()));
    has(&lab.failure(&factory_kernel()).await, &["gzip"]);
}

#[tokio::test]
async fn answer_that_is_not_http_is_an_error() {
    let (server, lab) = setup();
    for raw in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 999999 x\r\n\r\n", "", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
    {
        server.always(FACTORY_KERNEL, Behaviour::Raw(raw.into()));
        has(&lab.failure(&factory_kernel()).await, &[&server.url(FACTORY_KERNEL), "tried 3 times"]);
    }
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(100_000));
    server.always(FACTORY_KERNEL, Behaviour::Raw(endless.into()));
    has(&lab.failure(&factory_kernel()).await, &["tried 3 times"]);
}

#[tokio::test]
async fn host_without_an_address_or_a_server_is_named() {
    let (_server, mut lab) = setup();
    // RFC 6761 reserves it.
    lab.config.upstreams.factory = "http://mirror.invalid/factory".into();
    has(
        &lab.failure(&factory_kernel()).await,
        &["mirror.invalid", "cannot be resolved", "tried 3 times", "resolv.conf"],
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lab.config.upstreams.factory = format!("http://{free}").into();
    has(
        &lab.failure(&factory_kernel()).await,
        &[&free.to_string(), "refused the connection", "tried 3 times", "HTTPS_PROXY"],
    );
}

#[tokio::test]
async fn password_in_the_url_is_used_and_told_to_nobody() {
    let (server, mut lab) = setup();
    lab.config.upstreams.factory = server.url("/factory").replace("http://", "http://me:secret@").into();
    server.once(FACTORY_KERNEL, [Behaviour::Status(404, Vec::new())]);
    let message = lab.failure(&factory_kernel()).await;
    assert!(!message.contains("secret"), "{message}");
    let fetched = lab.fetch(&factory_kernel()).await.unwrap();
    assert!(!fetched.url.contains("secret"));
    let request = server.requests(FACTORY_KERNEL).pop().unwrap();
    assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")), "{request:?}");
    assert!(!std::fs::read_to_string(lab.root().join(".pxed/manifest.json")).unwrap().contains("secret"));
}
