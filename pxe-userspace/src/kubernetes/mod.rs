//! The API server of Kubernetes: the connection to it, and the objects of talos-operator as they were last seen.
//!
//! Nothing here decides about boots. Others ask for the [`Objects`], and write back through the [`ApiServer`].

mod client;
mod objects;

pub use self::{
    client::{ApiServer, ConnectError, Settings, words},
    objects::{Changes, Objects, Observed},
};
