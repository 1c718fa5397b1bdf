//! What is there of a file that the inventory needs, by what `stat` and the records say.

use std::{os::unix::fs::FileExt as _, path::Path};

use super::{
    manifest::Entry,
    missing::Problem,
    plan::{Content, Wanted},
    plausible::{HEAD, implausible},
    records::{Records, Verdict},
    refusal::Refusal,
    store::OpenArtifact,
};
use crate::model::images::FileState;

/// The presence of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The file that was verified.
    Verified(Entry),
    /// A file of a package of this host.
    StandIn(&'static str),
    /// A file that a person put there. If it cannot be what its name says, the reason.
    ByHand {
        /// The reason.
        implausible: Option<String>,
    },
    /// A file that was changed since it was verified, and has to be read.
    Changed,
    /// A file that is not what was recorded.
    Altered(Verdict),
    /// Nothing that could be served.
    Missing(Problem),
    /// Nothing is known, because no file can be opened now.
    Unknown,
}

impl Presence {
    /// Examines a file without reading more than its beginning. If it was changed since it was verified, its verification is asked for.
    #[must_use]
    pub fn of(wanted: &Wanted, records: &Records) -> Self {
        let path = &*wanted.path;
        match records.store().open(path.as_bytes()) {
            Ok(OpenArtifact { length: 0, .. }) => Self::Missing(Problem::Empty),
            Ok(OpenArtifact { stand_in: Some(_), .. }) if wanted.is_signed() => Self::Missing(Problem::Absent),
            Ok(OpenArtifact { stand_in: Some(file), .. }) => Self::StandIn(file),
            Ok(artifact) => match records.entry(path) {
                Some(entry) => Self::Verified(entry),
                None => Self::ByHand { implausible: fault(wanted.content, &artifact) },
            },
            Err(refusal) => match (Problem::of(refusal, records.store(), path), records.entry(path)) {
                (Some(Problem::Altered), Some(Entry { sha256: recorded, proof, .. }))
                    if let Some(found) = records.refused(path) =>
                {
                    Self::Altered(Verdict::Altered { found, recorded, proof })
                }
                (Some(problem), _) => Self::Missing(problem),
                (None, _) if refusal == Refusal::Unverified => Self::Changed,
                (None, _) => Self::Unknown,
            },
        }
    }

    /// Returns whether machines get the file.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        matches!(self, Self::Verified(_) | Self::StandIn(_) | Self::ByHand { .. } | Self::Unknown)
    }

    /// Returns the state for whoever answers machines. `path` is that of the file on this host.
    #[must_use]
    pub fn state(&self, path: &Path) -> FileState {
        match self {
            Self::Verified(_) => FileState::Verified,
            Self::StandIn(_) => FileState::Packaged,
            Self::ByHand { .. } | Self::Unknown => FileState::ByHand,
            Self::Changed => FileState::Verifying,
            Self::Altered(verdict) => FileState::Refused { reason: verdict.complaint(path).unwrap_or_default().into() },
            Self::Missing(problem) => FileState::Missing { reason: problem.to_string().into() },
        }
    }
}

/// Returns the reason why an open file cannot have this content.
fn fault(content: Content, artifact: &OpenArtifact) -> Option<String> {
    let mut head = vec![0; HEAD];
    let read = artifact.file.read_at(&mut head, 0).ok()?;
    implausible(content, &head[..read], artifact.length)
}
