//! The TFTP server (RFC 1350, 2347, 2348, 2349, 7440): read-only, thousands of transfers at once.
//!
//! ```text
//! server ─► mailbox ─► worker ─► transfers ─► transfer     what to do: pure
//!                                    │  └───► delivery     what the journal is told
//!                                    └──────► sender       blocks from memory, page cache or disk
//! ```
//!
//! A listening socket divides clients among workers; a worker has a port for each transfer (`ports`), or shares some thousand among many.

mod admission;
mod allowance;
mod bind;
mod blocks;
mod chunk;
mod chunks;
mod context;
mod delivery;
mod disk_queue;
mod files;
mod generated;
mod key;
mod mailbox;
pub mod metrics;
mod netascii;
pub mod options;
pub mod packet;
mod ports;
mod refusal;
mod refusals;
mod sender;
mod server;
mod socket;
mod spin;
mod timers;
pub mod transfer;
mod transfers;
mod worker;

pub use context::Context;
pub use metrics::Metrics;
pub use server::{BindError, TRANSFERS_LIMIT, TftpServer, sockets_limit};
