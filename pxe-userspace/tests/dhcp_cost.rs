//! Measures the cost of one answer: `cargo test --release -p pxe-userspace --test dhcp_cost -- --ignored --nocapture`.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::hint::black_box;

use pxe_userspace::{
    dhcp::{Mode, encode::MAXIMUM_LENGTH, respond},
    model::{architecture::Architecture, policy::Disposition},
};

use rustix::time::{ClockId, clock_gettime};

use common::{captures, client_packets, machine, server};

#[test]
#[ignore = "a measurement, not a check"]
fn captured_packets_cost_nanoseconds() {
    const ROUNDS: i64 = 20_000;
    let machine = machine(Architecture::Amd64);
    let server = server(Mode::Server);
    for path in captures() {
        for packet in client_packets(&path) {
            let mut out = [0; MAXIMUM_LENGTH];
            let mut best = i64::MAX;
            for _ in 0..5 {
                let start = processor_nanoseconds();
                for _ in 0..ROUNDS {
                    let lookup = |_| Some((&machine, Disposition::Network));
                    black_box(respond(black_box(&packet.payload), &packet.arrival, lookup, &server, &mut out));
                }
                best = best.min((processor_nanoseconds() - start) / ROUNDS);
            }
            println!("{best:6} ns  {} packet {}", path.file_name().expect("a name").display(), packet.number);
        }
    }
}

/// Returns the CPU time of this thread in nanoseconds, which other load does not increase.
fn processor_nanoseconds() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
