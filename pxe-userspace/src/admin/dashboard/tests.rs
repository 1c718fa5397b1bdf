//! Tests of what the dashboard is served with, and of its stream.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use tokio::task::block_in_place;

use super::{CONTENT_SECURITY_POLICY, FILES};
use crate::{
    admin::tests::{Server, start},
    journal::samples::*,
    model::{event::ClientKind::Pxe, inventory::Inventory},
};

/// The stream, read message by message.
struct Messages(BufReader<TcpStream>);

impl Messages {
    fn follow(server: &Server) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /dashboard/fleet HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(block_in_place(|| self.0.read_line(&mut line)).unwrap() > 0, "the stream has ended");
        line.trim_end().to_owned()
    }

    /// Returns the next message of this name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            if self.line() == format!("event: {name}") {
                return serde_json::from_str(self.line().strip_prefix("data: ").unwrap()).unwrap();
            }
        }
    }

    /// Returns the next rows that have changed.
    fn rows(&mut self) -> Vec<Value> {
        loop {
            let rows = self.next("changed")["rows"].as_array().unwrap().clone();
            if !rows.is_empty() {
                return rows;
            }
        }
    }
}

fn stage(begin: &Value, state: &Value) -> String {
    begin["stages"][state[0].as_u64().unwrap() as usize]["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_has_the_fleet_and_then_what_changes() {
    let server = start(300).await;
    let mut messages = Messages::follow(&server);
    let begin = messages.next("begin");
    assert_eq!((&begin["machines"], &begin["changes"]), (&300.into(), &"never".into()));
    let mut machines = Vec::new();
    while machines.len() < 300 {
        machines.extend(messages.next("machines").as_array().unwrap().clone());
    }
    assert_eq!(machines[0][0][0][0], MAC.to_string());
    assert_eq!(machines[299][0][0][0], machine(300).mac.to_string());
    let waiting = stage(&begin, &machines[0][1]);
    server.feed(machine(7).mac, [discover(Pxe)]).await;
    let rows = messages.rows();
    assert_eq!((rows.len(), &rows[0][0]), (1, &6.into()), "{rows:?}");
    assert_ne!(stage(&begin, &rows[0][1]), waiting);
    // A boot is told as what it came to, and not event by event.
    server.feed(MAC, uefi_boot()).await;
    let mut told = 0;
    loop {
        let rows = messages.rows();
        told += rows.len();
        let last = rows.last().unwrap();
        if last[1][2] == 1 && stage(&begin, &last[1]) == server.journal.machine(MAC).unwrap().stage.name() {
            break;
        }
    }
    assert!(told < uefi_boot().len() / 3, "{told} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn decision_of_a_person_reaches_the_stream_although_it_is_no_event() {
    let server = start(3).await;
    let mut messages = Messages::follow(&server);
    messages.next("machines");
    server.journal.hold(machine(2).mac).unwrap();
    let rows = messages.rows();
    assert_eq!((&rows[0][0], &rows[0][1][3], &rows[0][1][4]), (&1.into(), &"hold".into(), &"disk".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_spec_begins_the_stream_again() {
    let shared = inventory(2);
    let server = crate::admin::tests::start_with(std::sync::Arc::clone(&shared)).await;
    let mut messages = Messages::follow(&server);
    assert_eq!(messages.next("begin")["machines"], 2);
    messages.next("machines");
    shared.store(std::sync::Arc::new(Inventory::new(Vec::new())));
    assert_eq!(messages.next("begin")["machines"], 0);
    messages.next("changed");
}

/// Without machines there is a beat, too.
#[tokio::test(flavor = "multi_thread")]
async fn idle_stream_beats() {
    let server = start(1).await;
    let mut messages = Messages::follow(&server);
    messages.next("machines");
    let times: Vec<u64> = (0..3).map(|_| messages.next("changed")["now"].as_u64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| (500..2_500).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_is_one_of_files_that_name_each_other_and_nothing_else() {
    let server = start(1).await;
    for file in FILES {
        let head = head_of(&server, file.path);
        for line in [
            "200 OK".to_owned(),
            format!("content-type: {}", file.media_type),
            format!("content-security-policy: {CONTENT_SECURITY_POLICY}"),
            "x-content-type-options: nosniff".to_owned(),
        ] {
            assert!(head.contains(&line), "{}: no {line} in {head}", file.path);
        }
        assert!(
            !file.content.contains("http://")
                || file.content.matches("http://").count() == file.content.matches("http://www.w3.org/").count(),
            "{} is loaded from elsewhere",
            file.path
        );
        for forbidden in ["https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\""] {
            assert!(!file.content.contains(forbidden), "{}: {forbidden}", file.path);
        }
        let imports = file.content.lines().filter_map(|line| line.strip_prefix("import ")?.split('"').nth(1));
        for import in imports {
            let path = format!("/dashboard/{}", import.strip_prefix("./").unwrap());
            assert!(FILES.iter().any(|other| other.path == path), "{} imports {import}", file.path);
        }
    }
    let page = FILES[0].content;
    for quoted in page.split('"').filter(|text| text.starts_with("/dashboard/")) {
        assert!(FILES.iter().any(|file| file.path == quoted), "{quoted}");
    }
}

fn head_of(server: &Server, path: &str) -> String {
    block_in_place(|| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    })
}
