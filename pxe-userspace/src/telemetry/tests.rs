//! The exporter against collectors of a test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc as channel},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use super::*;
use crate::journal::samples::{at, machine};

/// A collector that answers with a status, and hands over what it was sent.
fn collector(status: &'static str) -> (Endpoint, channel::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, receiver) = channel::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if serve(&stream.unwrap(), status, &sender).is_none() {
                return;
            }
        }
    });
    (endpoint, receiver)
}

/// Answers the requests of a connection. Returns `None` if nobody takes them any more.
fn serve(stream: &TcpStream, status: &str, sender: &channel::Sender<(String, Value)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return Some(());
            }
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length?];
        reader.read_exact(&mut body).ok()?;
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").ok()?;
        sender.send((head, serde_json::from_slice(&body).ok()?)).ok()?;
    }
}

fn span(step: u32) -> Span {
    Span {
        machine: Arc::new(machine(1)),
        boot: 0xabc,
        step,
        name: if step == 0 { "boot" } else { "addressed" },
        begun: at(0.0),
        ended: at(1.5),
        error: (step == 0).then(|| "it failed".into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_gets_a_span_for_each_step_under_one_of_the_boot() {
    let (endpoint, requests) = collector("200 OK");
    let (exporter, sink) = Exporter::new(endpoint, "node-1".into()).unwrap();
    let exported = exporter.exported.clone();
    sink.send(span(1));
    sink.send(span(0));
    drop(sink);
    exporter.run().await;
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json\r\n"), "{head}");
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0], json!({"key": "service.name", "value": {"stringValue": "pxed"}}));
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 2);
    assert_eq!(spans[0]["traceId"], "00000000000000000000000000000abc");
    assert_eq!((&spans[0]["traceId"], &spans[0]["parentSpanId"]), (&spans[1]["traceId"], &spans[1]["spanId"]));
    assert_ne!(spans[0]["spanId"], spans[1]["spanId"]);
    assert_eq!(spans[1].get("parentSpanId"), None);
    assert_eq!(spans[0]["startTimeUnixNano"], "1767225600000000000");
    assert_eq!(spans[0]["endTimeUnixNano"], "1767225601500000000");
    assert_eq!((&spans[0]["name"], &spans[0]["kind"]), (&json!("addressed"), &json!(1)));
    assert_eq!(
        (&spans[0]["status"], &spans[1]["status"]),
        (&json!({"code": 1}), &json!({"code": 2, "message": "it failed"}))
    );
    assert!(spans[0]["attributes"].to_string().contains("52:54:00:00:00:01"), "{spans}");
    assert_eq!(exported.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_lost_and_counted_while_the_collector_refuses_or_is_away() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone: Endpoint = format!("http://{gone}").parse().unwrap();
    for endpoint in [collector("503 Busy").0, collector("404 Not Found").0, gone] {
        let (exporter, sink) = Exporter::new(endpoint, "node-1".into()).unwrap();
        let (exported, dropped) = (exporter.exported.clone(), exporter.dropped.clone());
        (0..7).for_each(|step| sink.send(span(step)));
        drop(sink);
        exporter.run().await;
        assert_eq!((exported.get(), dropped.get()), (0, 7));
    }
}

/// A collector that takes the connection and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn spans_beyond_the_room_are_counted_while_the_collector_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (exporter, sink) = Exporter::new(endpoint, "node-1".into()).unwrap();
    let dropped = exporter.dropped.clone();
    let task = tokio::spawn(exporter.run());
    let begun = Instant::now();
    (0..3 * CAPACITY).for_each(|_| sink.send(span(1)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(dropped.get() >= CAPACITY as u64, "{}", dropped.get());
    task.abort();
}

#[test]
fn endpoint_is_a_url_and_its_password_is_not_shown() {
    for (text, expected) in [
        ("http://10.0.0.1:4318", "http://10.0.0.1:4318/v1/traces"),
        ("http://10.0.0.1:4318/", "http://10.0.0.1:4318/v1/traces"),
        ("https://user:secret@otel.example/prefix/?key=secret", "https://otel.example/prefix/v1/traces"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), expected);
    }
    for text in ["", "10.0.0.1:4318", "grpc://10.0.0.1", "unix:///run/otel", "http://"] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}
