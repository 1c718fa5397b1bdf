//! The API server of Kubernetes: the connection to it, and the objects of talos-operator as they were last seen.
//!
//! ```text
//! Watches ─ a task for each kind: list, then follow ─► Objects ─► whoever asks: the spec, the status that is written back
//!         └ Monitor: what works and what does not ─► log, /metrics, `ApiState`
//! Cache   ─ the objects on disk, for a start without the server
//! ```
//!
//! Nothing here decides about boots. The requests are made here rather than by kube's watcher, because a server that lies or floods must not
//! fill the memory: every answer, list and line has a limit, and every wait.

mod apply;
mod backoff;
mod bounded;
mod cache;
mod client;
mod events;
mod fault;
mod heard;
mod leases;
mod monitor;
mod objects;
mod once;
mod parse;
mod request;
mod room;
mod settings_files;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    apply::{MANAGER, WriteError, WriteFailure},
    cache::{Cache, Restored, save_changes},
    client::{ApiServer, ConnectError, Settings, words},
    events::Warning,
    heard::Heard,
    leases::{Farewell, Leases, Listed},
    objects::{Changes, Objects, Observed},
    once::read_all,
    settings_files::Needs,
    watch::Watches,
};
