//! What asks: clients that cost little beside the servers that they measure.

pub(crate) mod tftp;
mod tftp_client;
