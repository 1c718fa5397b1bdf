//! What can go wrong between pxed and the API server, in words that say what to do.

use std::{fmt, time::Duration};

use crate::{
    metrics::{Label as _, label},
    model::api_object::ApiKind,
};

label! {
    /// The kind of a fault.
    pub(super) enum FaultReason: "reason" {
        /// No connection, or one that broke.
        Unreachable = "unreachable",
        /// A connection on which nothing came for too long.
        Silent = "silent",
        /// The server does not accept the credentials (401).
        Credentials = "credentials",
        /// The server does not allow the request (403).
        Forbidden = "forbidden",
        /// The server does not have the kind (404).
        NoKind = "no_kind",
        /// The version from which changes were asked for is too old (410).
        Expired = "expired",
        /// The server asks for patience (429).
        Busy = "busy",
        /// Any other refusal.
        Refused = "refused",
        /// The answer cannot be read.
        Garbled = "garbled",
        /// There is more than pxed takes.
        TooMuch = "too_much",
        /// A list is empty of which the objects were known.
        Emptied = "emptied",
    }
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: FaultReason,
    /// The details, in the words of the server or the connection.
    pub(super) detail: String,
    /// The pause that the server asks for.
    pub(super) retry_after: Option<Duration>,
}

impl Fault {
    pub(super) fn new(reason: FaultReason, detail: impl Into<String>) -> Self {
        /// The most bytes of what a server says that are shown.
        const SHOWN: usize = 300;
        let detail: String = detail.into();
        // What comes from outside must not break lines of the log.
        let clean = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut shown = String::new();
        for c in clean {
            if shown.len() + c.len_utf8() > SHOWN {
                shown.push('…');
                break;
            }
            shown.push(c);
        }
        Self { reason, detail: shown.trim().to_owned(), retry_after: None }
    }

    /// Returns the fault that a status of HTTP, or of an event, stands for.
    pub(super) fn of_status(status: u16, message: &str) -> Self {
        let (reason, detail) = match status {
            401 => (FaultReason::Credentials, message.to_owned()),
            403 => (FaultReason::Forbidden, message.to_owned()),
            404 => (FaultReason::NoKind, message.to_owned()),
            410 => (FaultReason::Expired, message.to_owned()),
            429 => (FaultReason::Busy, message.to_owned()),
            _ if message.is_empty() => (FaultReason::Refused, format!("status {status}")),
            _ => (FaultReason::Refused, format!("status {status}: {message}")),
        };
        Self::new(reason, detail)
    }

    /// Returns `true` if the fault is about one kind of objects, rather than about the server.
    pub(super) const fn is_of_kind(&self) -> bool {
        matches!(
            self.reason,
            FaultReason::Forbidden | FaultReason::NoKind | FaultReason::TooMuch | FaultReason::Emptied
        )
    }

    /// Returns the fault as a sentence about a kind in a namespace, or in all.
    pub(super) fn words(&self, url: &str, kind: ApiKind, namespace: Option<&str>) -> String {
        let Self { reason, detail, .. } = self;
        let scope = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
        let plural = kind.plural();
        let detail = if detail.is_empty() { "no details" } else { detail };
        match reason {
            FaultReason::Unreachable => format!("the API server {url} cannot be reached: {detail}"),
            FaultReason::Silent => format!("the API server {url} does not answer: {detail}"),
            FaultReason::Credentials => format!(
                "the API server {url} does not accept the credentials: {detail}: the token may have expired; they are read again, so \
                 renew the kubeconfig or the service account"
            ),
            FaultReason::Forbidden => format!(
                "the API server {url} does not let pxed read {plural}{scope}: {detail}: grant get, list and watch on \
                 {plural}.{group}, as the role of pxed's chart does",
                group = ApiKind::GROUP
            ),
            FaultReason::NoKind => format!(
                "the API server {url} has no {kind}: install the CustomResourceDefinitions of talos-operator ({plural}.{group})",
                group = ApiKind::GROUP
            ),
            FaultReason::Expired => format!("the API server {url} has forgotten the version of {plural}: {detail}"),
            FaultReason::Busy => format!("the API server {url} asks for patience: {detail}"),
            FaultReason::Refused => format!("the API server {url} fails: {detail}"),
            FaultReason::Garbled => {
                format!("the API server {url}, or a proxy before it, gives no usable answer: {detail}")
            }
            FaultReason::TooMuch => format!(
                "the API has more {plural}{scope} than pxed takes: {detail}: select namespaces with --namespace; what is known stays"
            ),
            FaultReason::Emptied => format!(
                "the API server {url} lists no {kind} any more{scope}, without having told of deletions: {detail}"
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.value(), self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_becomes_a_reason() {
        let cases = [
            (401, "credentials"),
            (403, "forbidden"),
            (404, "no_kind"),
            (410, "expired"),
            (429, "busy"),
            (500, "refused"),
            (503, "refused"),
            (302, "refused"),
        ];
        for (status, reason) in cases {
            assert_eq!(Fault::of_status(status, "why").reason.value(), reason);
        }
    }

    #[test]
    fn words_of_every_fault_name_the_server_or_the_remedy() {
        for &reason in FaultReason::ALL {
            let words = Fault::new(reason, "cause").words("https://a:6443", ApiKind::TalosWorker, Some("ns"));
            assert!(words.contains("https://a:6443") || words.contains("--namespace"), "{words}");
            assert!(words.contains("cause") || reason == FaultReason::NoKind, "{words}");
            assert!(!reason.value().contains('-'));
        }
    }

    #[test]
    fn detail_is_one_line_of_bounded_length() {
        let fault = Fault::new(FaultReason::Refused, format!("a\nb\x1b[31m{}", "ä".repeat(1000)));
        assert!(fault.detail.len() <= 304 && !fault.detail.contains(char::is_control), "{fault}");
        assert!(fault.detail.starts_with("a b"));
    }
}
