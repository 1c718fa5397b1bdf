//! What the Kubernetes API is told of machines and clusters: the conditions `PxeBooted` and `PxeReady`, Events, and when each is written.
//!
//! ```text
//! record, files, mistakes ─ machine ─► Assessment ─ entry ─► what changed, and who tells ─ schedule ─► what is written next
//! sites, nodes, files     ─ cluster ─► Assessment ─┘
//! ```
//!
//! Nothing here does I/O or reads a clock.

pub mod cluster;
pub mod condition;
pub mod facts;
pub mod machine;
pub mod occasion;
pub mod schedule;
