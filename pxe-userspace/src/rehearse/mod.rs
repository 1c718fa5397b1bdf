//! Simulated machines. They share no protocol code with the responder, so that they can disagree with it.
//!
//! ```text
//! frames, time, HTTP answers ─► Machine ─► frames, HTTP requests, notes        one state machine each, no I/O
//!                                 ├─ Exchange      one DHCP exchange, as its firmware would have it
//!                                 ├─ Transfer      one TFTP transfer
//!                                 └─ Interpreter   one iPXE script
//! runner: a packet socket, a timer heap and TCP connections around all of them
//! ```

#[cfg(test)]
mod captures;
mod dhcp;
mod exchange;
mod firmware;
mod frame;
mod http;
mod link;
mod machine;
mod report;
mod runner;
mod script;
mod tftp;

pub use firmware::Firmware;
pub use report::{Direction, MachineReport, Note, Outcome, Quantiles, Stage, StageTime, Summary};
pub use runner::{Rehearsal, Seen, rehearse};
