//! Clients that cost little, since they share the processors with the server.

pub(crate) mod http;
pub(crate) mod tftp;
mod tftp_ack;
mod tftp_client;
