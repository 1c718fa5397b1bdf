//! Refusals of requests, as the client, the journal and the metrics are told.

use std::borrow::Cow;

use super::{
    metrics::RefusedReason,
    packet::{ErrorCode, Request, TransferMode},
};
use crate::{
    artifacts::{OpenArtifact, Refusal, Store},
    model::artifact_names::without_end_marker,
};

/// A refusal: what the metrics count, and what the client and the journal read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: RefusedReason,
    pub(super) code: ErrorCode,
    pub(super) text: Cow<'static, str>,
    /// The store's refusal, if it is one.
    pub(super) by_store: Option<Refusal>,
}

/// The refusal of a transfer mode that is not served.
const MODE: Refused = Refused {
    reason: RefusedReason::Mode,
    code: ErrorCode::IllegalOperation,
    text: Cow::Borrowed("only the modes octet and netascii are served"),
    by_store: None,
};

/// The refusal of a write request.
pub(super) const WRITE: Refused = Refused {
    reason: RefusedReason::Write,
    code: ErrorCode::AccessViolation,
    text: Cow::Borrowed("this server is read-only"),
    by_store: None,
};

/// The refusal of a configuration whose machine waits for a file. U-Boot asks again by itself.
pub(super) const AWAITED: Refused = Refused {
    reason: RefusedReason::Awaited,
    code: ErrorCode::Undefined,
    text: Cow::Borrowed("a file that the machine boots is not there yet"),
    by_store: None,
};

/// Opens the requested file. If there is none of this name, opens the one whose name lacks what firmware reads beyond it.
///
/// # Errors
///
/// The mode is not served, or the store does not open the file.
pub(super) fn open(store: &Store, request: &Request<'_>) -> Result<OpenArtifact, Refused> {
    if request.mode == TransferMode::Other {
        return Err(MODE);
    }
    let name = without_end_marker(request.path);
    let opened = store.open(request.path).or_else(|refusal| match refusal {
        Refusal::NotFound if name != request.path => store.open(name),
        refusal => Err(refusal),
    });
    opened.map_err(Refused::from)
}

impl Refused {
    /// Returns a refusal that is not the store's.
    pub(super) fn new(reason: RefusedReason, code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, code, text: text.into(), by_store: None }
    }

    /// Returns `true` if the client is not told, since its next attempt may succeed: any error packet ends its boot.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.by_store, Some(Refusal::Exhausted | Refusal::Unverified)) || self.reason == RefusedReason::Awaited
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (reason, code) = match refusal {
            Refusal::NotFound => (RefusedReason::NotFound, ErrorCode::NotFound),
            Refusal::Outside => (RefusedReason::Outside, ErrorCode::AccessViolation),
            Refusal::Circle | Refusal::Unreadable => (RefusedReason::Unreadable, ErrorCode::AccessViolation),
            Refusal::Unverified | Refusal::Altered => (RefusedReason::Unverified, ErrorCode::AccessViolation),
            Refusal::Exhausted => (RefusedReason::Busy, ErrorCode::Undefined),
        };
        Self { reason, code, text: refusal.reason().into(), by_store: Some(refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_not_told_of_what_passes() {
        let told = [Refusal::NotFound, Refusal::Outside, Refusal::Circle, Refusal::Unreadable, Refusal::Altered];
        assert!(!told.map(Refused::from).iter().chain([&MODE, &WRITE]).any(Refused::is_silent));
        assert!(
            [Refusal::Exhausted, Refusal::Unverified]
                .map(Refused::from)
                .iter()
                .chain([&AWAITED])
                .all(Refused::is_silent)
        );
    }
}
