//! Simulated machines that boot from the network, for `pxed rehearse`.
//!
//! They share no protocol code with the responder, so that the two can disagree: this crate does not depend on it.
//!
//! ```text
//! frames, time, HTTP answers ─► Machine ─► frames, HTTP requests, notes        one state machine each, no I/O
//!                                 ├─ Exchange      one DHCP exchange, as its firmware makes it
//!                                 ├─ Transfer      one TFTP transfer
//!                                 └─ Interpreter   one iPXE script
//! runner: a packet socket, a timer heap and TCP connections around all of them, in one thread
//! load: complete DHCP exchanges, as fast as one core makes them, from prebuilt frames
//! ```

mod arrival;
#[cfg(test)]
mod captures;
mod chance;
mod dhcp;
mod exchange;
mod firmware;
mod frame;
mod http;
mod latency;
mod link;
mod load;
mod losses;
mod machine;
mod plan;
mod poll;
mod report;
mod runner;
mod script;
mod summary;
mod tally;
mod tftp;

pub use arrival::Arrival;
pub use firmware::Firmware;
pub use latency::Latencies;
pub use load::{Load, LoadSummary, Pace, load};
pub use losses::{Done, Losses};
pub use plan::Rehearsal;
pub use report::{Again, Direction, MachineReport, Milestone, Note, Outcome, Stage, StageTime, Step};
pub use runner::{Seen, rehearse};
pub use summary::{Quantiles, Reason, Summary};
pub use tally::{Frames, Http, Traffic};
