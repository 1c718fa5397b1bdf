//! pxed: one process that network-boots a fleet from its cluster spec.
//!
//! Data flows one way: cluster spec → [`model::inventory`] → [`dataplane`], [`tftp`], [`http`] → [`journal`].

pub mod admin;
pub mod artifacts;
pub mod boot;
pub mod capabilities;
pub mod capture;
pub mod cli;
pub mod cluster_spec;
pub mod cluster_status;
pub mod confine;
pub mod daemon;
pub mod dataplane;
pub mod descriptors;
pub mod dhcp;
pub mod fetch;
pub mod guard;
pub mod http;
pub mod journal;
pub mod kubernetes;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod mistakes;
pub mod model;
pub mod named_file;
pub mod net;
pub mod own_file;
pub mod process_metrics;
pub mod second_pxed;
pub mod shut_out;
pub mod strangers;
pub mod telemetry;
pub mod tftp;
pub mod uki;
