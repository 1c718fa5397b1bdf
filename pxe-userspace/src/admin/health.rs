//! The health of pxed, as probes, `pxed status` and the API show it.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

/// The shortcomings of the running daemon, which sets them. Everybody may read them.
#[derive(Debug, Default)]
pub struct Health {
    findings: ArcSwap<Findings>,
    secrets: ArcSwap<String>,
    /// The reason why the Unix socket of the admin API is gone.
    socket: ArcSwapOption<String>,
}

/// The findings of the last look at everything that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Set if the look has taken place, and pxed does not end.
    pub is_serving: bool,
    /// The interfaces and addresses that are not served, with the reasons.
    pub problems: Vec<String>,
    /// Shortcomings that leave everything served.
    pub warnings: Vec<String>,
    /// The datapath of each interface, one line for each.
    pub datapath: Vec<String>,
}

impl Health {
    /// Replaces the findings.
    pub fn set(&self, findings: Findings) {
        self.findings.store(Arc::new(findings));
    }

    /// Sets the sentence on how the machines' secrets are guarded. Returns `true` if it is another one than before.
    pub fn set_secrets(&self, sentence: &str) -> bool {
        let is_new = **self.secrets.load() != sentence;
        if is_new {
            self.secrets.store(Arc::new(sentence.to_owned()));
        }
        is_new
    }

    pub(super) fn set_socket(&self, trouble: Option<String>) {
        self.socket.store(trouble.map(Arc::new));
    }

    pub(super) fn socket(&self) -> Option<String> {
        self.socket.load().as_deref().cloned()
    }

    pub(super) fn secrets(&self) -> Arc<String> {
        self.secrets.load_full()
    }

    pub(super) fn findings(&self) -> Arc<Findings> {
        self.findings.load_full()
    }
}

impl Findings {
    /// Returns `true` if every interface and address of the spec is served.
    pub(super) fn is_ready(&self) -> bool {
        self.is_serving && self.problems.is_empty()
    }
}
