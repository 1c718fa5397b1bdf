//! Packets of real firmware: how each is classified, and the exact reply to it, as goldens beside the captures. `PXED_BLESS=1`
//! rewrites the goldens.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::{env, fmt::Write as _, fs, path::Path};

use pxe_userspace::{
    dhcp::{Mode, client::classify, decode::decode, encode::MAXIMUM_LENGTH, respond},
    model::{architecture::Architecture, policy::Disposition},
};

use common::{captures, client_packets, describe, hex, machine, server};

#[test]
fn captured_clients_are_recognised_and_answered_as_in_their_goldens() {
    let mut failures = Vec::new();
    for path in captures() {
        let golden = path.with_extension("txt");
        let now = transcript(&path);
        if env::var_os("PXED_BLESS").is_some() {
            fs::write(&golden, &now).expect("a writable golden");
        }
        let before = fs::read_to_string(&golden).unwrap_or_default();
        if now != before {
            let line = now.lines().zip(before.lines()).position(|(new, old)| new != old);
            let line = line.unwrap_or_else(|| now.lines().count().min(before.lines().count()));
            failures.push(format!(
                "{}, line {}:\n  golden: {}\n  now:    {}",
                golden.display(),
                line + 1,
                before.lines().nth(line).unwrap_or("(nothing)"),
                now.lines().nth(line).unwrap_or("(nothing)"),
            ));
        }
    }
    assert!(failures.is_empty(), "{}\nPXED_BLESS=1 accepts the change", failures.join("\n"));
}

fn transcript(path: &Path) -> String {
    let name = path.file_name().expect("a name").to_string_lossy();
    let mode = if name.contains("proxydhcp") { Mode::Proxy } else { Mode::Server };
    let architecture = if name.contains("arm64") { Architecture::Arm64 } else { Architecture::Amd64 };
    let server = server(mode);
    let machine = machine(architecture);
    let mut text = format!("{name}, pxed at {} in {mode:?} mode\n", server.address);
    for packet in client_packets(path) {
        let arrival = packet.arrival;
        let query = decode(&packet.payload).expect("firmware is understood");
        let _ = writeln!(text, "\npacket {}: {} to {}", packet.number, arrival.source, arrival.destination);
        let client = classify(&query);
        let _ = writeln!(text, "  {:?}, architecture {:?}, http {}", client.kind, client.architecture, client.http);
        text += &describe(&packet.payload);
        let mut out = [0xaa; MAXIMUM_LENGTH];
        let lookup = |mac| (mac == machine.mac).then_some((&machine, Disposition::Network));
        let outcome = respond(&packet.payload, &arrival, lookup, &server, &mut out);
        match outcome.verdict {
            Err(reason) => {
                let _ = writeln!(text, "silence: {}", reason.name());
            }
            Ok(sent) => {
                let reply = &out[..sent.length];
                let _ = writeln!(text, "reply: {} to {:?}, {} bytes", sent.source, sent.route, sent.length);
                text += &describe(reply);
                for row in reply.chunks(32) {
                    let _ = writeln!(text, "  {}", hex(row));
                }
            }
        }
        for event in outcome.events {
            let _ = writeln!(text, "event: {event:?}");
        }
    }
    text
}
