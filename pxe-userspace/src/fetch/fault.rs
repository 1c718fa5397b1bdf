//! What can go wrong with a download, and what a person can do about it.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use super::checksums::{Algorithm, ChecksumError};

/// A download that failed. Its `Display` says in one line which file and URL, what happened, how often it was tried, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// The path of the file, relative to the artifacts directory.
    pub path: Arc<str>,
    /// The URL, without a password.
    pub url: Arc<str>,
    /// The number of attempts.
    pub attempts: u32,
    /// The fault of the last attempt.
    pub fault: Fault,
}

impl FetchError {
    /// Returns the message without the path, for a place that shows the path already.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { path: _, url, attempts, fault } = self;
        let tried = match attempts {
            0 | 1 => String::new(),
            attempts => format!(" (tried {attempts} times)"),
        };
        let url = if fault.is_of_upstream() { format!("{url}: ") } else { String::new() };
        format!("{url}{}", fault.with_remedy_after(&tried))
    }

    /// Returns the pause that the server asked for before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.fault.retry_after()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason())
    }
}

impl std::error::Error for FetchError {}

/// The fault of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The address is not a URL.
    #[error("{0}")]
    Url(String),
    /// The host's name has no address.
    #[error("the name {host} cannot be resolved: {reason}")]
    Dns {
        /// The host.
        host: String,
        /// The resolver's reason.
        reason: String,
    },
    /// Nobody listens.
    #[error("{host} refused the connection")]
    Refused {
        /// The host, or the proxy.
        host: String,
    },
    /// There is no connection for another reason.
    #[error("no connection to {host}: {reason}")]
    NoConnection {
        /// The host.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The server's certificate is not accepted.
    #[error("the certificate of {host} is not accepted: {reason}")]
    Certificate {
        /// The host.
        host: String,
        /// The reason.
        reason: String,
        /// Set if the certificate would be accepted if its authority were known.
        is_unknown_authority: bool,
    },
    /// The connection cannot be encrypted.
    #[error("TLS with {host} fails: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The proxy does not let the request through.
    #[error("the proxy does not let it through: {reason}")]
    Proxy {
        /// The reason.
        reason: String,
        /// Set if it wants a user and a password.
        wants_password: bool,
    },
    /// The server redirects again and again.
    #[error("it was redirected more than {0} times")]
    Redirects(usize),
    /// The server redirects from HTTPS to HTTP.
    #[error("it redirects from https to {0}, which nobody could trust")]
    Downgrade(String),
    /// The server answers with an error.
    #[error("the server answers {code}{}", reason_text(reason))]
    Status {
        /// The status code.
        code: u16,
        /// The standard's words for it.
        reason: String,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The server answers with something that is neither a file nor an error.
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
    /// No answer came.
    #[error("no answer within {} seconds", .0.as_secs())]
    NoAnswer(Duration),
    /// The answer stopped.
    #[error("nothing came for {} seconds, after {}", pause.as_secs(), Came(*done, *total))]
    Stalled {
        /// The time without a byte.
        pause: Duration,
        /// The bytes before it.
        done: u64,
        /// The length of the file.
        total: Option<u64>,
    },
    /// The answer comes so slowly that it will never end.
    #[error("only {received} bytes came in {} seconds, after {}", span.as_secs(), Came(*done, *total))]
    TooSlow {
        /// The time.
        span: Duration,
        /// The bytes that came in it.
        received: u64,
        /// The bytes in all.
        done: u64,
        /// The length of the file.
        total: Option<u64>,
    },
    /// The connection ended in the middle.
    #[error("the connection ended after {}{}", Came(*done, *total), reason_text(reason))]
    Truncated {
        /// The bytes before it.
        done: u64,
        /// The length of the file.
        total: Option<u64>,
        /// The reason of the connection's end.
        reason: String,
    },
    /// The answer has more bytes than it said.
    #[error("more bytes came than the {total} that were announced")]
    TooLong {
        /// The announced length.
        total: u64,
    },
    /// The file is longer than any that machines load.
    #[error("the file has more than {limit} bytes, longer than any that machines load")]
    OverLimit {
        /// The limit.
        limit: u64,
    },
    /// The server does not say how long the file is, so its end cannot be told from a broken connection.
    #[error("the server does not say how long the file is, so a broken connection could not be told from its end")]
    NoLength,
    /// A web page came instead of the file.
    #[error("a web page came instead of the file{}", reason_text(title))]
    WebPage {
        /// Its title.
        title: String,
    },
    /// The part of the file that came is not the one that was asked for.
    #[error("bytes from {wanted} on were asked for, and the answer is {answer:?}")]
    WrongRange {
        /// The first byte that was asked for.
        wanted: u64,
        /// The `Content-Range` of the answer.
        answer: String,
    },
    /// The file was replaced while it was downloaded.
    #[error("the file changed on the server during the download")]
    Changed,
    /// The list of checksums cannot be used.
    #[error("its checksum is unknown: {url}: {error}")]
    Checksum {
        /// The URL of the list.
        url: String,
        /// The reason.
        error: ChecksumError,
    },
    /// The list of checksums cannot be fetched.
    #[error("its checksum is unknown: {url}: {fault}")]
    ChecksumList {
        /// The URL of the list.
        url: String,
        /// The fault.
        fault: Box<Self>,
    },
    /// The content does not have the published checksum.
    #[error("its {algorithm} is {found}, but {expected} is published")]
    Mismatch {
        /// The kind of checksum.
        algorithm: Algorithm,
        /// The published checksum.
        expected: String,
        /// The one of the content.
        found: String,
    },
    /// The content is not what its name says.
    #[error("it is not what it should be: {0}")]
    Implausible(String),
    /// The file cannot be taken out of the archive that has it.
    #[error("{member} cannot be taken out of this archive: {reason}")]
    Archive {
        /// The path in the archive.
        member: Arc<str>,
        /// The fault.
        reason: String,
    },
    /// The server has another file under this URL than before.
    #[error(
        "the server now has other bytes under this URL (SHA-256 {found}) than when it was first fetched ({recorded})"
    )]
    OtherBytes {
        /// The SHA-256 of the first time.
        recorded: String,
        /// The SHA-256 now.
        found: String,
    },
    /// A file is in the place that a person put there.
    #[error("a file is in its place that was put there by hand, and it stays as it is")]
    ByHand,
    /// The disk has no room.
    #[error("no room in {}: {} bytes are missing", directory.display(), missing)]
    DiskFull {
        /// The directory.
        directory: PathBuf,
        /// The bytes that are missing, as far as is known.
        missing: u64,
    },
    /// The directory cannot be written to.
    #[error("{} cannot be written to: {reason}", directory.display())]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// The kernel's reason.
        reason: String,
    },
    /// The disk fails otherwise.
    #[error("{what} {} failed: {reason}", path.display())]
    Disk {
        /// The action: `writing`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's reason.
        reason: String,
    },
}

impl Fault {
    /// Returns the fault of an operation on a file or directory.
    pub(super) fn disk(what: &'static str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let path = path.into();
        let directory = || path.parent().unwrap_or(&path).to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { directory: directory(), missing: 1 }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::NotWritable { directory: directory(), reason: error.to_string() }
            }
            _ => Self::Disk { what, path, reason: error.to_string() },
        }
    }

    /// Returns the fault and what to do about it.
    pub(super) fn with_remedy(&self) -> String {
        self.with_remedy_after("")
    }

    fn with_remedy_after(&self, words: &str) -> String {
        match self.remedy() {
            Some(remedy) => format!("{self}{words}; {remedy}"),
            None => format!("{self}{words}"),
        }
    }

    /// Returns whether another attempt may succeed without anybody's help, soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Dns { .. }
            | Self::Refused { .. }
            | Self::NoConnection { .. }
            | Self::Tls { .. }
            | Self::Answer(_)
            | Self::NoAnswer(_)
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::Truncated { .. }
            | Self::TooLong { .. }
            | Self::WrongRange { .. }
            | Self::Changed
            | Self::Mismatch { .. } => true,
            Self::Proxy { wants_password, .. } => !wants_password,
            Self::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500 | 502..=504 | 520..=529),
            Self::ChecksumList { fault, .. } => fault.may_pass(),
            Self::Url(_)
            | Self::Certificate { .. }
            | Self::Redirects(_)
            | Self::Downgrade(_)
            | Self::OverLimit { .. }
            | Self::NoLength
            | Self::WebPage { .. }
            | Self::Checksum { .. }
            | Self::Implausible(_)
            | Self::Archive { .. }
            | Self::OtherBytes { .. }
            | Self::ByHand
            | Self::DiskFull { .. }
            | Self::NotWritable { .. }
            | Self::Disk { .. } => false,
        }
    }

    /// Returns whether this host's disk is at fault.
    pub(super) const fn is_of_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::NotWritable { .. } | Self::Disk { .. })
    }

    /// Returns whether the bytes on disk are of no use for the next attempt.
    pub(super) const fn spoils_the_part(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. }
                | Self::OverLimit { .. }
                | Self::WrongRange { .. }
                | Self::Changed
                | Self::Mismatch { .. }
                | Self::Implausible(_)
                | Self::Archive { .. }
                | Self::WebPage { .. }
                | Self::OtherBytes { .. }
        )
    }

    fn is_of_upstream(&self) -> bool {
        !matches!(
            self,
            Self::ByHand | Self::DiskFull { .. } | Self::NotWritable { .. } | Self::Disk { .. } | Self::Url(_)
        )
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::ChecksumList { fault, .. } => fault.retry_after(),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::Dns { .. } => {
                "check the name and this host's DNS (/etc/resolv.conf), or name a mirror (--talos-url, --factory-url, --ipxe-url, \
                 --ipxe-releases-url) or a proxy (HTTPS_PROXY)"
            }
            Self::Refused { .. } | Self::NoConnection { .. } | Self::NoAnswer(_) => {
                "check the address, firewalls on the way, and the proxy settings (HTTPS_PROXY, NO_PROXY)"
            }
            Self::Certificate { is_unknown_authority: true, .. } => {
                "if a site's own authority signed it, name its certificate with --ca-certificates FILE; if no server is trusted, install \
                 the package ca-certificates"
            }
            Self::Certificate { .. } => "check this host's clock and the server's certificate",
            Self::Tls { .. } => "check that the URL's port speaks HTTPS, and that nothing on the way interferes",
            Self::Proxy { .. } => {
                "check HTTPS_PROXY and HTTP_PROXY with its user and password, or exempt the server with NO_PROXY"
            }
            Self::Redirects(_) | Self::Downgrade(_) | Self::Status { code: 300..=399, .. } => {
                "check the server or name another one"
            }
            Self::Status { code: 401 | 403, .. } => {
                "the server does not give it to this host: check the address, and user and password in the URL if it wants them"
            }
            Self::Status { code: 404 | 410, .. } => {
                "check version and schematic in the spec, and the address of the mirror if there is one"
            }
            Self::Status { code: 407, .. } => {
                "the proxy wants a user and a password: HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT"
            }
            Self::Status { retry_after: Some(pause), .. } => {
                return Some(format!("the server asks to wait for {} seconds", pause.as_secs()));
            }
            Self::WebPage { .. } => {
                "it may be the login page of a proxy or of a guest network: open the URL in a browser"
            }
            Self::Checksum { .. } => {
                "if it is a mirror, copy the release's sha256sum.txt and sha512sum.txt to it as they are"
            }
            Self::ChecksumList { fault, .. } => return fault.remedy(),
            Self::Mismatch { .. } => "the mirror or something on the way alters it: nothing of it was kept",
            Self::NoLength => "use a server that sends Content-Length",
            Self::Implausible(_) => "nothing of it was kept: check the server",
            Self::Archive { .. } => {
                "nothing of it was kept: check the server (--ipxe-releases-url), or put the file into the artifacts directory yourself"
            }
            Self::OtherBytes { .. } => {
                "the recorded file stays in use; if the new one is right, delete the file, let pxed forget its hash (pxed fetch --accept PATH), and \
                 fetch again"
            }
            Self::ByHand => "delete it, so that it is fetched, or keep it with pxed fetch --accept PATH",
            Self::DiskFull { .. } => "make room, or name another directory with --artifacts",
            Self::NotWritable { .. } => "let pxed write there, or name another directory with --artifacts",
            Self::Url(_)
            | Self::Status { .. }
            | Self::Answer(_)
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::Truncated { .. }
            | Self::TooLong { .. }
            | Self::OverLimit { .. }
            | Self::WrongRange { .. }
            | Self::Changed
            | Self::Disk { .. } => return None,
        };
        Some(text.to_owned())
    }
}

fn reason_text(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

/// The bytes that came, as a text.
struct Came(u64, Option<u64>);

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(done, Some(total)) => write!(f, "{done} of {total} bytes"),
            Self(done, None) => write!(f, "{done} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(attempts: u32, fault: Fault) -> FetchError {
        FetchError { path: "vmlinuz-v1.13.0-amd64".into(), url: "https://m.example/k".into(), attempts, fault }
    }

    #[test]
    fn message_has_file_url_fault_attempts_and_remedy() {
        let status = Fault::Status { code: 404, reason: "Not Found".into(), retry_after: None };
        assert_eq!(
            error(1, status).to_string(),
            "vmlinuz-v1.13.0-amd64: https://m.example/k: the server answers 404 (Not Found); check version and schematic in the spec, and \
             the address of the mirror if there is one"
        );
        let truncated = Fault::Truncated { done: 5, total: Some(9), reason: String::new() };
        assert_eq!(
            error(5, truncated).to_string(),
            "vmlinuz-v1.13.0-amd64: https://m.example/k: the connection ended after 5 of 9 bytes (tried 5 times)"
        );
    }

    #[test]
    fn fault_of_our_disk_does_not_blame_the_server() {
        let full = Fault::DiskFull { directory: "/a/.pxed/partial".into(), missing: 7 };
        let message = error(1, full).to_string();
        assert!(
            message.starts_with("vmlinuz-v1.13.0-amd64: no room in /a/.pxed/partial: 7 bytes are missing; make room"),
            "{message}"
        );
        assert!(!message.contains("https:"));
    }

    #[test]
    fn server_errors_may_pass_and_refusals_do_not() {
        for (code, may_pass) in
            [(403, false), (404, false), (407, false), (408, true), (429, true), (500, true), (501, false), (503, true)]
        {
            let fault = Fault::Status { code, reason: String::new(), retry_after: None };
            assert_eq!(fault.may_pass(), may_pass, "{code}");
            let list = Fault::ChecksumList { url: String::new(), fault: Box::new(fault) };
            assert_eq!(list.may_pass(), may_pass, "{code}");
        }
    }

    #[test]
    fn disk_errors_are_told_apart() {
        let of = |kind: io::ErrorKind| Fault::disk("writing", "/a/file", &kind.into());
        assert_eq!(of(io::ErrorKind::StorageFull), Fault::DiskFull { directory: "/a".into(), missing: 1 });
        assert!(matches!(of(io::ErrorKind::ReadOnlyFilesystem), Fault::NotWritable { .. }));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Fault::NotWritable { .. }));
        assert!(of(io::ErrorKind::NotADirectory).to_string().starts_with("writing /a/file failed"));
    }
}
