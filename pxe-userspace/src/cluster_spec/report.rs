//! Logs the findings of a spec, each when it appears.

use std::collections::HashSet;

use super::{files::KEEPS_CHANGING, finding::Finding};
use crate::model::finding::{SpecFault, SpecFaults};

/// Findings that are logged at once, at most; `pxed validate` prints all.
const LOGGED: usize = 20;

/// The findings that have been logged.
#[derive(Debug)]
pub(super) struct Reported {
    spec: &'static str,
    warnings: HashSet<Finding>,
}

impl Reported {
    /// Makes a report of a kind of spec, of which these warnings have been logged.
    pub(super) fn new(spec: &'static str, warnings: Vec<Finding>) -> Self {
        Self { spec, warnings: warnings.into_iter().collect() }
    }

    /// Logs the warnings that the last spec did not have.
    pub(super) fn warnings(&mut self, warnings: &[Finding]) {
        let new: Vec<_> = warnings.iter().filter(|warning| !self.warnings.contains(*warning)).collect();
        new.iter().take(LOGGED).for_each(|warning| tracing::warn!("{warning}"));
        log_rest(new.len());
        self.warnings = warnings.iter().cloned().collect();
    }

    /// Logs the errors that the last spec did not have, and the end of all errors.
    pub(super) fn faults(&self, before: &SpecFaults, now: &SpecFaults) {
        let new = new_faults(now, before);
        for fault in new.iter().take(LOGGED) {
            // A file that is written slowly is nobody's mistake.
            if fault.finding.message == KEEPS_CHANGING {
                tracing::info!("{fault}");
            } else {
                tracing::error!("{fault}");
            }
        }
        log_rest(new.len());
        if now.faults.is_empty() && !before.faults.is_empty() {
            tracing::info!("{}: no errors any more", self.spec);
        }
    }
}

fn log_rest(findings: usize) {
    if let Some(more @ 1..) = findings.checked_sub(LOGGED) {
        tracing::warn!("and {more} more: `pxed validate` prints all");
    }
}

/// Returns `true` if there are errors that the last spec did not have.
pub(super) fn has_new(now: &SpecFaults, before: &SpecFaults) -> bool {
    !new_faults(now, before).is_empty()
}

fn new_faults<'f>(now: &'f SpecFaults, before: &SpecFaults) -> Vec<&'f SpecFault> {
    let known: HashSet<&Finding> = before.faults.iter().map(|fault| &fault.finding).collect();
    now.faults.iter().filter(|fault| !known.contains(&fault.finding)).collect()
}
