//! The boot HTTP server: artifacts by sendfile(2), scripts and Matchbox's routes by an axum router, on one port.
//!
//! The connection loop is our own. A file goes from the page cache to the socket without passing through the process, every
//! answer has a `Content-Length`, without which iPXE waits forever, and a file counts as delivered only when the client has
//! acknowledged its last byte ([`delivery`]). Each worker is a thread with its own event loop, so a connection never waits
//! for another thread to wake up.
//!
//! The meaning of a head ([`head`]) and of a query ([`query`]), the part of a file that is sent ([`range`]), the arrival of an answer ([`flights`]),
//! the pieces of a body ([`body`]), the parts that a machine has ([`coverage`]) and the text of a script ([`crate::boot::script`]) are computed by pure
//! functions.

mod admission;
mod answer;
mod body;
mod change_log;
mod connection;
mod context;
mod coverage;
mod delivery;
mod disk_turns;
mod exchange;
mod file;
mod flights;
mod guarded;
pub mod head;
mod head_error;
pub mod matchbox;
mod metrics;
mod own;
mod pace;
mod places;
mod plan;
pub mod query;
pub mod range;
mod request_line;
mod room;
mod routes;
mod send_queue;
mod server;
mod stream;
mod talos_config;
mod text;
mod uki;
mod uki_images;
mod uki_sources;
mod visits;
mod worker;

pub use change_log::ChangeLog;
pub use context::Context;
pub use coverage::Coverage;
pub use metrics::{Metrics, Refused};
pub use places::Places;
pub use server::{Bound, bind, serve};
pub use uki_images::{Signer, UkiImages};
pub use visits::Visits;
