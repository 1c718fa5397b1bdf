//! The health of pxed, as probes, `pxed status` and the API show it.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// The shortcomings of the running daemon, which sets them. Everybody may read them.
#[derive(Debug, Default)]
pub struct Health(ArcSwap<Findings>);

/// The findings of the last look at everything that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Set if the look has taken place, and pxed does not end.
    pub is_serving: bool,
    /// The interfaces and addresses that are not served, with the reasons.
    pub problems: Vec<String>,
    /// Shortcomings that leave everything served.
    pub warnings: Vec<String>,
}

impl Health {
    /// Replaces the findings.
    pub fn set(&self, findings: Findings) {
        self.0.store(Arc::new(findings));
    }

    pub(super) fn findings(&self) -> Arc<Findings> {
        self.0.load_full()
    }
}

impl Findings {
    /// Returns `true` if every interface and address of the spec is served.
    pub(super) fn is_ready(&self) -> bool {
        self.is_serving && self.problems.is_empty()
    }
}
