//! The HTTP client: TLS with the host's authorities, proxies of the environment, redirects, and faults in a person's words.

use std::{
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use reqwest::{
    Certificate, Response, StatusCode, Url,
    header::{HeaderMap, LOCATION, RETRY_AFTER},
    redirect,
};
use rustls::CertificateError;
use tokio::time::{Instant, timeout, timeout_at};

use super::{fault::Fault, retry, upstreams::without_password};
use crate::named_file;

/// The most redirects in a row. The Image Factory and GitHub need two.
const REDIRECTS: usize = 10;

/// The longest times without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the answer begins. The Image Factory makes an image when it is asked for the first time, which takes minutes.
    pub answer: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// The time in which at least [`SLOWEST`] bytes per second have to come.
    pub slow: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(300),
            idle: Duration::from_secs(30),
            slow: Duration::from_secs(60),
        }
    }
}

/// The fewest bytes per second. At this rate a kernel takes some hours.
pub(super) const SLOWEST: u64 = 1 << 10;

/// The reason why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of `--ca-certificates` cannot be read.
    #[error("--ca-certificates {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file of `--ca-certificates` has no certificate, or one that is none.
    #[error("--ca-certificates {}: {reason}; it must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The client cannot be made for another reason.
    #[error("HTTP client: {0}")]
    Other(String),
}

/// The client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    timeouts: Timeouts,
}

impl Client {
    /// Creates a client that trusts the host's authorities and those of the file, and uses the proxies of the environment.
    pub(super) fn new(ca_certificates: Option<&Path>, timeouts: Timeouts) -> Result<Self, ClientError> {
        Self::with(ca_certificates, timeouts, |builder| builder)
    }

    /// Creates the same for hosts that are near, without a proxy.
    pub(super) fn without_proxy(ca_certificates: Option<&Path>, timeouts: Timeouts) -> Result<Self, ClientError> {
        Self::with(ca_certificates, timeouts, reqwest::ClientBuilder::no_proxy)
    }

    fn with(
        ca_certificates: Option<&Path>,
        timeouts: Timeouts,
        change: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, ClientError> {
        // reqwest takes the process's provider. Another part of the process may have set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let extra = ca_certificates.map_or_else(|| Ok(Vec::new()), read_certificates)?;
        let builder = || {
            change(reqwest::Client::builder())
                .user_agent(concat!("pxed/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::custom(follow))
                .referer(false)
                .connect_timeout(timeouts.connect)
                .tcp_keepalive(timeouts.idle)
        };
        let http = match (builder().tls_certs_merge(extra).build(), ca_certificates) {
            (Ok(client), _) => client,
            (Err(error), Some(path)) => {
                return Err(ClientError::NoCertificate { path: path.to_owned(), reason: chain(&error) });
            }
            // A host without any authority can still use mirrors without TLS. For others the fault of the certificate says what to do.
            (Err(_), None) => {
                builder().tls_certs_only([]).build().map_err(|error| ClientError::Other(chain(&error)))?
            }
        };
        Ok(Self { http, timeouts })
    }

    pub(super) const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Asks for a file. The answer is a success, a part of the file, or 416.
    pub(super) async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, Fault> {
        let answer = timeout(self.timeouts.answer, self.http.get(url.clone()).headers(headers).send());
        let response = match answer.await {
            Err(_) => return Err(Fault::NoAnswer(self.timeouts.answer)),
            Ok(Err(error)) => return Err(fault(&error, url, &self.timeouts)),
            Ok(Ok(response)) => response,
        };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            status if status.is_success() => Err(Fault::Answer(format!("it is {status}, without a file"))),
            status => Err(status_fault(status, response.headers(), SystemTime::now())),
        }
    }

    /// Returns the next piece of an answer, or `None` at its end. `done` and `total` are for the message.
    pub(super) async fn piece(
        &self,
        response: &mut Response,
        done: u64,
        total: Option<u64>,
    ) -> Result<Option<bytes::Bytes>, Fault> {
        match timeout(self.timeouts.idle, response.chunk()).await {
            Err(_) => Err(Fault::Stalled { pause: self.timeouts.idle, done, total }),
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(Fault::Truncated { done, total, reason: end_reason(&error) }),
        }
    }

    /// Returns the content of a short file.
    pub(super) async fn text(&self, url: &Url, limit: usize) -> Result<Vec<u8>, Fault> {
        let mut response = self.get(url, HeaderMap::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(status_fault(response.status(), response.headers(), SystemTime::now()));
        }
        let total = response.content_length();
        let (mut text, span) = (Vec::new(), self.timeouts.slow);
        let deadline = Instant::now() + span;
        loop {
            let done = text.len() as u64;
            let piece = timeout_at(deadline, self.piece(&mut response, done, total)).await;
            let Some(piece) = piece.map_err(|_| Fault::TooSlow { span, received: done, done, total })?? else { break };
            text.extend_from_slice(&piece);
            if text.len() > limit {
                return Err(Fault::OverLimit { limit: limit as u64 });
            }
        }
        Ok(text)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let (pem, _) =
        named_file::read(path).map_err(|source| ClientError::Unreadable { path: path.to_owned(), source })?;
    let no_certificate = |reason: String| ClientError::NoCertificate { path: path.to_owned(), reason };
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| no_certificate(chain(&error)))?;
    if certificates.is_empty() { Err(no_certificate("no certificate in it".to_owned())) } else { Ok(certificates) }
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
enum RedirectFault {
    #[error("too many redirects")]
    TooMany,
    #[error("redirect from https to {0}")]
    Downgrade(String),
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let is_downgrade = attempt.url().scheme() != "https"
        && attempt.previous().last().is_some_and(|previous| previous.scheme() == "https");
    if is_downgrade {
        let target = without_password(attempt.url());
        return attempt.error(RedirectFault::Downgrade(target));
    }
    if attempt.previous().len() > REDIRECTS { attempt.error(RedirectFault::TooMany) } else { attempt.follow() }
}

fn status_fault(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Fault {
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry::retry_after(value.to_str().ok()?, now));
    Fault::Status {
        code: status.as_u16(),
        reason: status_reason(status, headers),
        retry_after: retry_after.filter(|_| matches!(status.as_u16(), 429 | 503)),
    }
}

/// Returns what the status means. Of a redirect that was not followed, also its target without a query, which may hold a signature.
fn status_reason(status: StatusCode, headers: &HeaderMap) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    if !status.is_redirection() {
        return reason.to_owned();
    }
    let target = headers.get(LOCATION).map(|target| String::from_utf8_lossy(target.as_bytes()));
    match target.as_deref().map(|target| target.split(['?', '#']).next().unwrap_or_default()) {
        Some(target) => format!("{reason}: to {target:?}, which cannot be followed"),
        None => format!("{reason}: it does not say where to"),
    }
}

/// Returns the errors from the given one down to its cause.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // The error that an I/O error wraps is displayed as itself, and is not its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

fn cause<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Returns an error with its causes, without the URL, which may hold a password.
fn chain(error: &reqwest::Error) -> String {
    let texts = causes(error).skip(1).map(ToString::to_string).collect::<Vec<_>>();
    match texts.split_first() {
        None => "no reason is known".to_owned(),
        Some((first, rest)) => rest
            .iter()
            .fold(first.clone(), |text, cause| if text.contains(&**cause) { text } else { format!("{text}: {cause}") }),
    }
}

/// Returns the last cause, which says the most.
fn last_cause(error: &reqwest::Error) -> String {
    causes(error).skip(1).last().map(ToString::to_string).unwrap_or_default()
}

fn fault(error: &reqwest::Error, asked: &Url, timeouts: &Timeouts) -> Fault {
    let url = error.url().unwrap_or(asked);
    let host = url.host_str().unwrap_or_default().to_owned();
    match cause::<RedirectFault>(error) {
        Some(RedirectFault::TooMany) => return Fault::Redirects(REDIRECTS),
        Some(RedirectFault::Downgrade(target)) => return Fault::Downgrade(target.clone()),
        None if error.is_redirect() => return Fault::Answer(format!("its redirect: {}", chain(error))),
        None => {}
    }
    // The client's library does not publish the type of this error.
    let tunnel = causes(error).map(ToString::to_string).find(|text| text.starts_with("tunnel error"));
    if let Some(tunnel) = tunnel {
        let wants_password = tunnel.contains("authorization");
        let reason = if wants_password { "it wants a user and a password".to_owned() } else { chain(error) };
        return Fault::Proxy { reason, wants_password };
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return tls_fault(tls, host);
    }
    if error.is_dns() || causes(error).any(|cause| cause.to_string() == "dns error") {
        return Fault::Dns { host: or_proxy(host, url), reason: last_cause(error) };
    }
    if error.is_connect() {
        if error.is_timeout() {
            let reason = format!("it does not answer within {} seconds", timeouts.connect.as_secs());
            return Fault::NoConnection { host: or_proxy(host, url), reason };
        }
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let host = or_proxy(host, url);
        return match cause::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Fault::Refused { host },
            // The client's library has no type for it.
            _ if last_cause(error).contains("tls handshake eof") => {
                Fault::Tls { host, reason: "the server ends the connection".to_owned() }
            }
            _ => Fault::NoConnection { host, reason: last_cause(error) },
        };
    }
    Fault::Answer(last_cause(error))
}

/// Returns the host of a fault, which may be the proxy's if the environment names one. The client's library does not tell which.
fn or_proxy(host: String, url: &Url) -> String {
    let variables: [&str; 4] = match url.scheme() {
        "https" => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match variables.into_iter().find(is_set) {
        Some(variable) => format!("{host} (or the proxy that {variable} names)"),
        None => host,
    }
}

fn tls_fault(error: &rustls::Error, host: String) -> Fault {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return Fault::Tls { host, reason: error.to_string() };
    };
    let mut is_unknown_authority = false;
    let reason = match certificate {
        CertificateError::UnknownIssuer => {
            is_unknown_authority = true;
            "this host does not know the authority that signed it".to_owned()
        }
        CertificateError::BadSignature => {
            is_unknown_authority = true;
            "its signature is not of the authority that this host knows by that name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is not for the name {host}")
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority (CA:TRUE, as openssl makes self-signed ones), and no server may use that".to_owned()
        }
        other => other.to_string(),
    };
    Fault::Certificate { host, reason, is_unknown_authority }
}

/// Returns the reason of a connection's end in the middle of an answer, or nothing if it just ended.
fn end_reason(error: &reqwest::Error) -> String {
    let is_plain_end = cause::<io::Error>(error).map(io::Error::kind) == Some(io::ErrorKind::UnexpectedEof);
    let reason = last_cause(error);
    if is_plain_end || reason.contains("end of file before message length") { String::new() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_certificates_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let message = || Client::new(Some(&file), Timeouts::default()).unwrap_err().to_string();
        assert!(message().contains("ca.pem") && message().contains("No such file"), "{}", message());
        for content in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, content).unwrap();
            assert!(message().contains("ca.pem") && message().contains("PEM form"), "{}", message());
        }
    }

    #[test]
    fn pause_is_asked_for_by_overloaded_servers_only() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let pause = |status| match status_fault(status, &headers, SystemTime::UNIX_EPOCH) {
            Fault::Status { retry_after, .. } => retry_after,
            other => panic!("{other}"),
        };
        assert_eq!(pause(StatusCode::TOO_MANY_REQUESTS), Some(Duration::from_secs(7)));
        assert_eq!(pause(StatusCode::SERVICE_UNAVAILABLE), Some(Duration::from_secs(7)));
        assert_eq!(pause(StatusCode::NOT_FOUND), None);
    }
}
