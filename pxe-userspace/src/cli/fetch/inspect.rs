//! The report of `pxed fetch --verify`.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc};

use serde::Serialize;

use super::{output::ToText, spec::Spec};
use crate::{
    artifacts::{Presence, Records, Severity, Verdict, Wanted},
    cluster_spec::Finding,
};

/// Every file that is recorded or that the spec needs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Set if nothing is wrong.
    pub(super) is_right: bool,
    files: Vec<File>,
    errors: Vec<Finding>,
}

/// A file that was read.
#[derive(Debug, Serialize)]
struct File {
    path: Arc<str>,
    result: Outcome,
    /// A fault in it, or a remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    is_wrong: bool,
}

/// The result of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// It has the recorded hash.
    Verified,
    /// It has another one.
    Altered,
    /// Nothing is recorded: a person put it there, or it is one of the host's.
    ByHand,
    /// It is not there.
    Missing,
    /// It cannot be read.
    Failed,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Altered => "altered",
            Self::ByHand => "by hand",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

impl Report {
    pub(super) fn of(records: &Records, spec: Spec, root: &Path) -> Self {
        let Spec { plan, errors } = spec;
        let mut paths: BTreeMap<Arc<str>, Option<&Wanted>> =
            records.manifest().files.into_keys().map(|path| (path, None)).collect();
        paths.extend(plan.iter().map(|wanted| (Arc::clone(&wanted.path), Some(wanted))));
        let files: Vec<_> =
            paths.into_iter().filter_map(|(path, wanted)| File::of(records, path, wanted, root)).collect();
        Self { is_right: errors.is_empty() && !files.iter().any(|file| file.is_wrong), files, errors }
    }
}

impl File {
    /// Reads a file. One that was deleted and that nobody needs is left out.
    fn of(records: &Records, path: Arc<str>, wanted: Option<&Wanted>, root: &Path) -> Option<Self> {
        let verdict = records.verify(&path);
        let full = root.join(&*path);
        let (result, problem, is_wrong) = match (&verdict, wanted) {
            (Verdict::Verified, _) => (Outcome::Verified, None, false),
            (Verdict::Altered { .. }, _) => (Outcome::Altered, verdict.complaint(&full), true),
            (Verdict::Failed(_), _) => (Outcome::Failed, verdict.complaint(&full), true),
            (Verdict::Absent, None) => return None,
            (Verdict::Absent | Verdict::Unrecorded, Some(wanted)) => match Presence::of(wanted, records) {
                Presence::StandIn(file) => {
                    (Outcome::ByHand, Some(format!("{file} of this host is served for it")), false)
                }
                Presence::Missing(problem) => {
                    let is_wrong = wanted.severity == Severity::Error || wanted.source.is_some();
                    (Outcome::Missing, Some(format!("{problem} (needed by {})", wanted.needed_by)), is_wrong)
                }
                Presence::ByHand { implausible } => {
                    let nothing = || "nothing is recorded to compare it with".to_owned();
                    let problem = implausible.map_or_else(nothing, |reason| format!("warning: {reason}"));
                    (Outcome::ByHand, Some(problem), false)
                }
                _ => (Outcome::ByHand, None, false),
            },
            (Verdict::Unrecorded, None) => (Outcome::ByHand, None, false),
        };
        Some(Self { path, result, problem, is_wrong })
    }
}

impl ToText for Report {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for File { path, result, problem, .. } in &self.files {
            let _ = writeln!(text, "{:8} {path}", result.name());
            if let Some(problem) = problem {
                let _ = writeln!(text, "         {problem}");
            }
        }
        let wrong = self.files.iter().filter(|file| file.is_wrong).count();
        let plural = if self.files.len() == 1 { "" } else { "s" };
        let found = if wrong == 0 { "nothing is wrong".to_owned() } else { format!("{wrong} wrong") };
        let _ = writeln!(text, "{} file{plural}: {found}", self.files.len());
        text
    }
}
