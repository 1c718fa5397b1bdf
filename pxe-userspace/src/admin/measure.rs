//! Measurements, not tests:
//! `cargo test --release -p pxe-userspace --lib admin::measure -- --ignored --nocapture --test-threads 1`

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Instant,
};

use prometheus_client::registry::Registry;

use super::tests::start_with;
use crate::{
    journal::{Journal, samples::*},
    model::{
        event::{BootEvent, EventSink},
        origin::Origin,
        policy_book::SharedPolicies,
    },
};

fn resident_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_000.0
}

/// Returns the events of a fleet in the order of a storm: the first of every machine, the second of every machine, and so on.
fn storm(machines: u32, events: usize) -> impl Iterator<Item = BootEvent> {
    let boot: Vec<_> = uefi_boot().into_iter().cycle().take(events).collect();
    boot.into_iter().enumerate().flat_map(move |(index, kind)| {
        (1..=machines).map(move |number| BootEvent {
            mac: machine(number).mac,
            at: at(index as f64 + f64::from(number) / 1e6),
            origin: Origin::Machine,
            kind: kind.clone(),
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn storm_of_ten_thousand() {
    let null = fs::File::options().write(true).open("/dev/null").unwrap();
    tracing_subscriber::fmt().with_writer(null).with_ansi(false).init();
    let state = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(inventory(10_000), SharedPolicies::default(), state.path()).unwrap());
    let (sink, receiver) = EventSink::channel(65_536);
    let mut registry = Registry::with_prefix("pxed");
    journal.register(&sink, &mut registry);
    let task = tokio::spawn(crate::journal::run(Arc::clone(&journal), receiver, std::future::pending()));
    let events: Vec<BootEvent> = storm(10_000, 30).collect();
    let count = events.len();
    let begin = Instant::now();
    for event in events {
        // Other users of the sink never wait. Here the rate of the journal is measured.
        while sink.is_full() {
            tokio::task::yield_now().await;
        }
        sink.send(event.mac, event.at, event.origin, event.kind);
    }
    drop(sink);
    task.await.unwrap().unwrap();
    let took = begin.elapsed();
    println!("{count} events in {took:?} with logging and the save: {:.0} events/s", count as f64 / took.as_secs_f64());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    println!("{}", text.lines().filter(|line| line.starts_with("pxed_boot")).collect::<Vec<_>>().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn fleet_of_a_hundred_thousand() {
    for events in [10, 24] {
        let before = resident_megabytes();
        let shared = inventory(100_000);
        let with_inventory = resident_megabytes();
        let server = start_with(shared).await;
        let mut sent = 0;
        for event in storm(100_000, events) {
            while server.sink.is_full() {
                tokio::task::yield_now().await;
            }
            server.sink.send(event.mac, event.at, event.origin, event.kind);
            sent += 1;
        }
        while !server.ask("GET", "/metrics", "").1.contains(&format!("pxed_boot_events_total {sent}\n")) {
            tokio::task::yield_now().await;
        }
        let after = resident_megabytes();
        println!(
            "100,000 machines: inventory {:.0} MB, journal with {events} events each {:.0} MB, process {after:.0} MB",
            with_inventory - before,
            after - with_inventory
        );
        for path in [
            "/api/v1/machines",
            "/api/v1/machines?events=0",
            "/api/v1/machines?limit=200",
            "/api/v1/stages",
            "/metrics",
        ] {
            let begin = Instant::now();
            let bytes = tokio::task::block_in_place(|| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", server.address).unwrap();
                let mut buffer = vec![0; 1 << 20];
                let mut bytes = 0;
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return bytes,
                        read => bytes += read,
                    }
                }
            });
            println!("  GET {path}: {:.1} MB in {:?}", bytes as f64 / 1e6, begin.elapsed());
        }
        println!("  process afterwards {:.0} MB", resident_megabytes());
        let begin = Instant::now();
        server.journal.hold(MAC).unwrap();
        println!("  hold, with the whole state saved: {:?}", begin.elapsed());
    }
}
