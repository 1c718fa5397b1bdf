//! What a machine asks of a web server, and what comes of it.

use std::net::SocketAddrV4;

/// One HTTP request. The body is counted; its first `keep` bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpRequest {
    pub(crate) head_only: bool,
    pub(crate) host: SocketAddrV4,
    /// As it is written into the `Host` header.
    pub(crate) host_header: String,
    pub(crate) path: String,
    pub(crate) user_agent: &'static str,
    pub(crate) keep: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) content_length: Option<u64>,
    pub(crate) location: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) kept: Vec<u8>,
}
