//! Tests of lists over a real connection: pages, totals, order, and answers that the client has already.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;
use tokio::task::block_in_place;

use crate::{
    admin::tests::{Server, start, visit},
    journal::{samples::*, testing::assert_unique_keys},
    model::{
        event::EventKind,
        finding::{Finding, SpecFault, SpecFaults},
        visitors::Outcome,
    },
};

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn total(&self) -> usize {
        self.header("x-total-count").unwrap().parse().unwrap()
    }

    /// Returns the path of the next page.
    fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        Some(link.strip_prefix('<')?.split_once(">; rel=\"next\"")?.0.to_owned())
    }

    fn values(&self, field: &str) -> Vec<String> {
        let all: Vec<Value> = serde_json::from_str(&self.body).unwrap();
        all.iter().map(|one| one[field].to_string().trim_matches('"').to_owned()).collect()
    }
}

fn get(server: &Server, path: &str, headers: &str) -> Answer {
    ask(server, "GET", path, headers)
}

fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    block_in_place(|| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_machines_follow_each_other_and_know_the_total() {
    let server = start(300).await;
    server.feed(machine(7).mac, dora(Pxe)).await;
    for query in ["", "&sort=-address", "&cluster=lab&role=worker", "&q=10.0.0", "&sort=cluster", "&stage=addressed"] {
        let (mut path, mut macs, mut pages) = (Some(format!("/api/v1/machines?limit=70{query}")), Vec::new(), 0);
        let whole = get(&server, &format!("/api/v1/machines?{query}"), "");
        while let Some(next) = path {
            let page = get(&server, &next, "");
            assert_eq!((page.status, page.total()), (200, whole.total()), "{next}: {}", page.body);
            macs.extend(page.values("mac"));
            path = page.next();
            pages += 1;
        }
        assert_eq!(macs, whole.values("mac"), "{query}");
        assert_eq!((macs.len(), pages), (whole.total(), whole.total().div_ceil(70)), "{query}");
    }
    let counted = get(&server, "/api/v1/machines?limit=0", "");
    assert_eq!((counted.body.as_str(), counted.total(), counted.next()), ("[]\n", 300, None));
    let none = get(&server, "/api/v1/machines?cluster=typo", "");
    assert_eq!((none.body.as_str(), none.total()), ("[]\n", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_a_query_are_named() {
    let server = start(1).await;
    for (query, expected) in [
        ("limit=-1", "limit"),
        ("limit=4294967296", "limit"),
        ("limit=", "limit"),
        ("events=x", "events"),
        ("sort=age", "sort: "),
        ("stage=wating", "stage: "),
        ("role=king", "role: "),
        ("cursor=x", "cursor: "),
        ("cursor=age.525400000001.0", "cursor: "),
        ("limits=1", "limits"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = get(&server, &format!("/api/v1/machines?{query}"), "");
        assert_eq!(answer.status, 400, "{query}");
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(expected), "{query}: {error}");
    }
    for path in ["/api/v1/visitors?limit=x", "/api/v1/spec/errors?cursor=x", "/api/v1/visitors?stage=failed"] {
        assert_eq!(get(&server, path, "").status, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_when_they_are_asked_for() {
    let server = start(2).await;
    server.feed(MAC, uefi_boot()).await;
    let events = |path: &str| -> usize {
        let answer = get(&server, path, "");
        assert_unique_keys(&answer.body);
        let all: Value = serde_json::from_str(&answer.body).unwrap();
        all[0]["events"].as_array().unwrap().len()
    };
    assert_eq!(events("/api/v1/machines"), 0);
    assert_eq!(events("/api/v1/machines?events=3"), 3);
    assert_eq!(events("/api/v1/machines?events=4294967295"), uefi_boot().len());
    let one = get(&server, &format!("/api/v1/machines/{MAC}"), "");
    let one: Value = serde_json::from_str(&one.body).unwrap();
    assert_eq!(one["events"].as_array().unwrap().len(), uefi_boot().len());
}

/// A list that is kept whole, one that is written twice, and answers that are no lists.
#[tokio::test(flavor = "multi_thread")]
async fn answer_that_the_client_has_is_not_sent_again() {
    let server = start(4_000).await;
    for path in
        ["/api/v1/machines", "/api/v1/machines?limit=2", "/api/v1/stages", &format!("/api/v1/machines/{MAC}"), "/"]
    {
        let first = get(&server, path, "");
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path}: {}", first.head)).to_owned();
        let again = |tags: &str| get(&server, path, &format!("if-none-match: {tags}\r\n"));
        for tags in [tag.as_str(), tag.trim_start_matches("W/"), "*", &format!("\"x\", {tag}")] {
            let second = again(tags);
            assert_eq!((second.status, second.body.as_str()), (304, ""), "{path} {tags}");
            assert_eq!(second.header("etag"), Some(tag.as_str()), "{path}");
            assert_eq!(second.header("x-total-count"), first.header("x-total-count"), "{path}");
            assert_eq!(second.header("link"), first.header("link"), "{path}");
        }
        for tags in ["\"x\"", "W/\"\"", ""] {
            assert_eq!((again(tags).status, again(tags).body), (200, first.body.clone()), "{path} {tags}");
        }
        let head = ask(&server, "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    let tag = |path: &str| get(&server, path, "").header("etag").unwrap().to_owned();
    let (all, page) = (tag("/api/v1/machines"), tag("/api/v1/machines?limit=2"));
    server.feed(MAC, [discover(Pxe)]).await;
    assert_ne!((tag("/api/v1/machines"), tag("/api/v1/machines?limit=2")), (all, page));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_has_no_tag() {
    let server = start(1).await;
    for (path, status) in [("/api/v1/nothing", 404), ("/api/v1/machines?limit=x", 400)] {
        let answer = get(&server, path, "if-none-match: *\r\n");
        assert_eq!((answer.status, answer.header("etag")), (status, None), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_and_errors_of_the_spec_have_pages() {
    let server = start(1).await;
    for number in 1..=5 {
        let mac = machine(100 + number).mac;
        server.visitors.lock().record(visit(mac, "/ipxe", Outcome::Served));
    }
    let fault = |line| SpecFault {
        finding: Finding {
            file: std::path::Path::new("a.yaml").into(),
            line,
            column: 1,
            field: "spec".into(),
            message: "is wrong".into(),
        },
        objects: "machine",
        left_out: 1,
        kept: 0,
    };
    let faults = SpecFaults { faults: (1..=5).map(fault).collect(), ..SpecFaults::default() };
    server.faults.clusters.store(std::sync::Arc::new(faults));
    for (list, field) in [("/api/v1/visitors", "mac"), ("/api/v1/spec/errors", "line")] {
        let whole = get(&server, list, "");
        assert_eq!((whole.total(), whole.values(field).len(), whole.next()), (5, 5, None), "{list}");
        let (mut path, mut seen) = (Some(format!("{list}?limit=2")), Vec::new());
        while let Some(next) = path {
            let page = get(&server, &next, "");
            assert_eq!((page.status, page.total()), (200, 5), "{next}");
            seen.extend(page.values(field));
            path = page.next();
        }
        assert_eq!(seen, whole.values(field), "{list}");
    }
}

/// The machines of a page are those of the instant at which they are read.
#[tokio::test(flavor = "multi_thread")]
async fn stages_of_a_filter_may_be_several() {
    let server = start(3).await;
    server.feed(MAC, dora(Pxe)).await;
    server.feed(machine(2).mac, [EventKind::WrongArchitecture { client_architecture: 11 }]).await;
    let list = get(&server, "/api/v1/machines?stage=failed,addressed&sort=-stage", "");
    assert_eq!(list.values("stage"), ["failed", "addressed"]);
    assert_eq!(list.total(), 2);
}
