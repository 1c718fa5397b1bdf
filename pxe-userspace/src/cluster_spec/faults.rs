//! Collects the errors of a spec, and which machines each of them affects.

use pxe_common::MacAddr;

use super::finding::Finding;
use crate::model::finding::{Affected, SpecFault, SpecFaults};

/// The number of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FaultId(usize);

/// The errors so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    errors: Vec<Finding>,
    affected: Vec<Affected>,
}

impl Faults {
    /// Adds an error.
    pub(crate) fn add(&mut self, finding: Finding) -> FaultId {
        self.errors.push(finding);
        FaultId(self.errors.len() - 1)
    }

    /// Returns the number that the next error gets.
    pub(crate) fn next(&self) -> FaultId {
        FaultId(self.errors.len())
    }

    pub(crate) fn errors(&self) -> &[Finding] {
        &self.errors
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Notes that an error affects a machine: it is not served, or in its last good version.
    pub(crate) fn affect(&mut self, FaultId(fault): FaultId, mac: Option<MacAddr>, is_kept: bool) {
        self.affected.push(Affected { mac, fault, is_kept });
    }

    /// Returns the errors, in the order of files and lines.
    pub(crate) fn finish(self, objects: &'static str) -> SpecFaults {
        let Self { errors, mut affected } = self;
        let mut order: Vec<usize> = (0..errors.len()).collect();
        order.sort_by(|a, b| errors.get(*a).cmp(&errors.get(*b)));
        let mut places = vec![0; errors.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index] = place;
        }
        let mut errors: Vec<_> = errors.into_iter().zip(&places).collect();
        errors.sort_by_key(|(_, place)| **place);
        let as_fault = |(finding, _)| SpecFault { finding, objects, left_out: 0, kept: 0 };
        let mut faults: Vec<_> = errors.into_iter().map(as_fault).collect();
        for affected in &mut affected {
            affected.fault = places.get(affected.fault).copied().unwrap_or_default();
            if let Some(fault) = faults.get_mut(affected.fault) {
                *(if affected.is_kept { &mut fault.kept } else { &mut fault.left_out }) += 1;
            }
        }
        SpecFaults { faults, affected, is_awaited: false }
    }
}

impl FaultId {
    /// Returns the number of the error that was added this much later.
    pub(crate) fn after(self, errors: usize) -> Self {
        Self(self.0 + errors)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn errors_are_sorted_and_keep_their_machines() {
        let mut faults = Faults::default();
        for (file, affected) in [("c", 1_u8), ("a", 2), ("b", 3)] {
            let fault = faults.add(Finding::about_file(Path::new(file), String::new()));
            for number in 0..affected {
                faults.affect(fault, Some(MacAddr([affected, 0, 0, 0, 0, number])), number > 0);
            }
        }
        let faults = faults.finish("machine");
        let counts: Vec<_> = faults.faults.iter().map(|f| (f.finding.file.to_str(), f.left_out, f.kept)).collect();
        assert_eq!(counts, [(Some("a"), 1, 1), (Some("b"), 1, 2), (Some("c"), 1, 0)]);
        let (fault, is_kept) = faults.of(MacAddr([3, 0, 0, 0, 0, 2])).unwrap();
        assert_eq!((fault.finding.file.to_str(), is_kept), (Some("b"), true));
    }
}
