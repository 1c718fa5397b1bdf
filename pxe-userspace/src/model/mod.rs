//! The vocabulary that several modules share, as plain values: machines, what they load, and what happened to them.
//!
//! Nothing here does I/O, and nothing here imports another module of this crate.

pub mod address_signs;
pub mod api_object;
pub mod api_state;
pub mod architecture;
pub mod artifact_names;
pub mod boot_method;
pub mod client_architecture;
pub mod config_files;
pub mod confinement;
pub mod dhcp_answers;
pub mod event;
pub mod failure;
pub mod finding;
pub mod history_limits;
pub mod image_source;
pub mod image_words;
pub mod images;
pub mod inventory;
pub mod ipxe_shim;
pub mod loader;
pub mod machine_path;
pub mod near_miss;
pub mod node_lease;
pub mod nodes;
pub mod origin;
pub mod own_sites;
pub mod policy;
pub mod policy_book;
pub mod port_range;
pub mod progress;
pub mod redaction;
pub mod secrets;
pub mod span;
pub mod strangers;
pub mod talos_config;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
pub mod visitors;
