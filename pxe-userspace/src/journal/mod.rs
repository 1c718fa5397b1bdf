//! The journal of boot events: what each machine did and when, in memory.
//!
//! DHCP, TFTP and HTTP send events into an [`EventSink`], which never blocks. [`run`] receives them: it keeps the [`Stage`] and
//! the last events of each machine, draws the conclusions for the boot [`policy`] and saves them, and passes the events on to the
//! log and to the followers. All decisions are pure functions; only `service`, `state` and `log` do I/O.
//!
//! [`EventSink`]: crate::model::event::EventSink

mod attempts;
mod boot_files;
mod boot_program;
mod boot_times;
mod boots;
mod cards;
mod changes_file;
mod cluster_counts;
pub mod describe;
pub mod diagnosis;
mod doomed;
#[cfg(test)]
mod every_event;
mod fact;
mod fleet;
mod history;
mod interner;
pub mod json;
mod log;
mod log_budget;
mod machine_record;
mod metrics;
mod others;
mod pace;
pub mod policy;
mod record;
mod remembered;
#[cfg(test)]
pub(crate) mod samples;
mod service;
mod spelling;
pub mod stage;
mod stamp;
mod state;
pub mod step;
mod story;
mod task;
mod words;

pub use diagnosis::{Diagnosis, among_nodes, diagnose, with_address_signs};
pub use fact::{Fact, Known};
pub use machine_record::{MachineRecord, Summary};
pub use others::OtherFrames;
pub use pace::Deadline;
pub use service::Journal;
pub use stage::Stage;
pub use state::StateError;
pub use step::{Stages, Step};
pub use story::story;
pub use task::run;
#[cfg(test)]
pub(crate) mod testing;
