//! Captures of one machine: the frames that pxed received from it and sent to it, with pxed's decisions, as a pcapng file.
//!
//! A capture has two sources, and each frame comes from one of them:
//!
//! | frame | source |
//! |---|---|
//! | DHCP request that reaches a worker, and its answer | the worker's [`Tap`], with the decision. No other socket sees the frames of AF_XDP |
//! | everything else of the machine: TFTP, boot HTTP, ARP, ICMP, other servers' DHCP | a packet socket on each interface that pxed serves |
//! | what the XDP program drops | the program's ring, by a [`TracePoint`]; it also tells why the program passed or redirected a frame that comes by one of the others |
//!
//! Nobody waits for a capture. Its queue is bounded in bytes; a frame that does not fit is counted, and the file says how many are missing.

pub mod blocks;
pub mod decision;
mod file;
mod kernel_filter;
mod observer;
pub mod pcapng;
pub mod record;
mod running;
mod segments;
mod selection;
mod session;
pub mod summary;
mod tap;
mod traces;

pub use decision::{Decision, Verdict};
pub use file::{CaptureFile, Note};
pub use record::{Record, Way};
pub use running::Capture;
pub use session::{StartError, Target};
pub use tap::{Point, Tap, TracePoint};
