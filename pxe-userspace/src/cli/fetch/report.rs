//! The report of `pxed fetch --plan`.

use std::fmt::Write as _;

use serde::Serialize;

use super::{output::ToText, spec::Spec};
use crate::{
    artifacts::{Entry, FetchCommand, Presence, Proof, Records, Severity, Sha256, Wanted},
    cluster_spec::Finding,
    model::image_source::{ImageSource, Upstreams},
};

/// Every file that the spec needs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Set if every file is there that machines certainly need or that can be fetched, and the spec has no errors.
    pub(super) is_complete: bool,
    files: Vec<File>,
    errors: Vec<Finding>,
    /// The command that gets what is missing.
    #[serde(skip)]
    fetch: String,
}

/// A file that the spec needs.
#[derive(Debug, Serialize)]
struct File {
    path: String,
    state: State,
    /// The fault in it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The URL that it comes from: its own, or that of an archive.
    source: Option<String>,
    /// Its path in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The way in which it is verified, or was.
    verified_by: Verification,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Set if some machine certainly needs it.
    required: bool,
    needed_by: String,
    /// The commands that get it; one of them suffices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedy: Vec<String>,
}

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// It is there, as it was verified.
    Present,
    /// A package of this host has it.
    FromHost,
    /// A person put it there.
    ByHand,
    /// It was changed since it was verified, or is not what was recorded.
    Stale,
    /// It is not there, or cannot be served.
    Missing,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::FromHost => "of host",
            Self::ByHand => "by hand",
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }
}

/// The way in which a file is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verification {
    PublishedChecksum,
    FirstDownload,
    Accepted,
    Bundle,
    Nothing,
}

impl From<Proof> for Verification {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::PublishedChecksum => Self::PublishedChecksum,
            Proof::FirstDownload => Self::FirstDownload,
            Proof::Accepted => Self::Accepted,
            Proof::Bundle => Self::Bundle,
        }
    }
}

impl Verification {
    fn of(source: Option<&ImageSource>) -> Self {
        match source {
            Some(ImageSource::TalosRelease { .. }) => Self::PublishedChecksum,
            Some(_) => Self::FirstDownload,
            None => Self::Nothing,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PublishedChecksum => "verified by its published checksum",
            Self::FirstDownload => "verified by HTTPS and the hash of its first download",
            Self::Accepted => "accepted by hand",
            Self::Bundle => "verified by its hash in the bundle",
            Self::Nothing => "verified by nothing",
        }
    }
}

impl Report {
    pub(super) fn of(records: &Records, spec: Spec, fetch: &FetchCommand, upstreams: &Upstreams) -> Self {
        let Spec { plan, errors } = spec;
        let files: Vec<_> = plan.iter().map(|wanted| File::of(wanted, records, fetch, upstreams)).collect();
        let is_lacking = |file: &File| {
            matches!(file.state, State::Missing | State::Stale) && (file.required || file.source.is_some())
        };
        let is_complete = errors.is_empty() && !files.iter().any(is_lacking);
        Self { is_complete, files, errors, fetch: fetch.line.clone() }
    }
}

impl File {
    fn of(wanted: &Wanted, records: &Records, fetch: &FetchCommand, upstreams: &Upstreams) -> Self {
        let full = records.store().root().join(&*wanted.path);
        let presence = Presence::of(wanted, records);
        let (state, problem) = match &presence {
            Presence::Verified(_) => (State::Present, None),
            Presence::StandIn(file) => {
                (State::FromHost, Some(format!("not in the artifacts directory, where {file} is served for it")))
            }
            Presence::ByHand { implausible } => (State::ByHand, implausible.clone()),
            Presence::Changed => {
                (State::Stale, Some("changed since it was verified; pxed fetch --verify reads it".to_owned()))
            }
            Presence::Altered(verdict) => (State::Stale, verdict.complaint(&full)),
            Presence::Missing(problem) => (State::Missing, Some(problem.to_string())),
            Presence::Unknown => (State::Stale, Some("no file can be opened now".to_owned())),
        };
        let entry = records.entry(&wanted.path);
        let verified_by = match (&entry, state) {
            (_, State::FromHost) => Verification::Nothing,
            (Some(entry), _) => entry.proof.into(),
            (None, _) => Verification::of(wanted.source.as_ref()),
        };
        let (sha256, size) = match entry {
            Some(Entry { sha256, file, .. }) => (Some(sha256), file.map(|file| file.size)),
            None => (None, None),
        };
        Self {
            path: wanted.path.to_string(),
            problem,
            source: wanted.source.as_ref().map(|source| source.url(upstreams)),
            member: wanted.source.as_ref().and_then(ImageSource::member).map(ToString::to_string),
            verified_by,
            sha256,
            size,
            required: wanted.severity == Severity::Error,
            needed_by: wanted.needed_by.to_string(),
            remedy: if state == State::Missing { wanted.remedy(records.store().root(), fetch) } else { Vec::new() },
            state,
        }
    }
}

impl ToText for Report {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let File { path, state, problem, source, member, verified_by, needed_by, remedy, .. } = file;
            let _ = writeln!(text, "{:8} {path}", state.name());
            if *state != State::Missing
                && let Some(problem) = problem
            {
                let _ = writeln!(text, "         {problem}");
            }
            let source = source.as_deref().unwrap_or("no upstream has it");
            let member = member.as_ref().map(|member| format!(" ({member})")).unwrap_or_default();
            let _ = writeln!(text, "         from {source}{member}, {}", verified_by.name());
            let _ = writeln!(text, "         needed by {needed_by}");
            if *state == State::Missing {
                // The command for all of them is in the summary.
                for line in remedy.iter().filter(|line| **line != self.fetch) {
                    let _ = writeln!(text, "         {line}");
                }
            }
        }
        let count = |state| self.files.iter().filter(|file| file.state == state).count();
        let states = [State::Present, State::FromHost, State::ByHand, State::Stale, State::Missing];
        let counts: Vec<_> = states
            .into_iter()
            .filter(|&state| count(state) > 0)
            .map(|state| format!("{} {}", count(state), state.name()))
            .collect();
        let plural = if self.files.len() == 1 { "" } else { "s" };
        let _ = writeln!(text, "{} file{plural}: {}", self.files.len(), counts.join(", "));
        if self.files.iter().any(|file| file.state == State::Missing && file.source.is_some()) {
            let _ = writeln!(text, "To fetch what is missing: {}", self.fetch);
        }
        text
    }
}
