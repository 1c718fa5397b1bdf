//! Load generators. They are cheap, since they share the processors with the server.

pub(crate) mod http;
pub(crate) mod tftp;
mod tftp_ack;
pub(crate) mod tftp_client;
