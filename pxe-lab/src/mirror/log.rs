//! The log of a mirror.

/// A request, and what has come of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path, by its public name, without the query: requests at the storage server have the path that was redirected there.
    pub path: String,
    /// The headers, by their names in small letters.
    pub headers: Vec<(String, String)>,
    /// The target was a whole URL, as a proxy is asked.
    pub by_proxy: bool,
    /// The status of the answer; 0 while there is none.
    pub status: u16,
    /// Bytes of the content that were handed to the kernel.
    pub sent: u64,
    /// It is stalled by a fault.
    pub stalled: bool,
    /// The answer is over, whole or not.
    pub ended: bool,
}

impl Request {
    /// Returns a header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether it was answered with a redirection.
    #[must_use]
    pub fn is_redirected(&self) -> bool {
        (300..400).contains(&self.status)
    }
}
