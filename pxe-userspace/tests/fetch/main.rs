//! Downloads against a server on loopback that is laid out as the real upstreams are, and misbehaves in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "lengths of a few megabytes; shared by the modules"
)]

mod archives;
mod bundles;
mod command;
mod disk;
mod lab;
mod peers;
mod processes;
mod proxies;
mod resumption;
mod server;
mod tls;
mod upstreams;
mod whole;
