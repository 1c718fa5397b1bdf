//! The requests of a machine to a web server, and the responses.

use std::net::SocketAddrV4;

/// An HTTP request. The body of the response is counted, and its first `keep` bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpRequest {
    pub(crate) head_only: bool,
    pub(crate) host: SocketAddrV4,
    /// The value of the `Host` header.
    pub(crate) host_header: String,
    pub(crate) path: String,
    pub(crate) user_agent: &'static str,
    pub(crate) keep: usize,
}

/// An HTTP response.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) content_length: Option<u64>,
    pub(crate) location: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) kept: Vec<u8>,
}
