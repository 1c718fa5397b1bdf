//! A real Kubernetes API server for tests, with RBAC, ServiceAccounts, etcd and kubectl.

mod binaries;
mod crds;
mod identity;
mod kubeconfig;
mod operator;
mod rbac;
mod server;
mod types;
mod volume;

pub use binaries::{Binaries, binaries};
pub use crds::{GROUP, VERSION, definitions};
pub use kubeconfig::Account;
pub use operator::{Operator, Read, objects};
pub use server::{ADDRESS, ApiServer, NODE_INTERFACE, PORT};
pub use volume::ServiceAccountVolume;
