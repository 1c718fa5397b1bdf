//! A document and its place, which its findings need.

use std::{path::Path, sync::Arc};

use super::{
    documents::{Content, Resource},
    faults::FaultId,
    finding::{ErrorIndex, Finding, Note, Position},
};
use crate::model::inventory::Source;

/// A document and its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// The file, or the object of the API.
    pub(crate) file: Arc<Path>,
    pub(crate) lines_before: u32,
    pub(crate) content: Arc<Content>,
    pub(crate) version: Version,
    /// The indices of the resources that count; `None` for all.
    pub(crate) selected: Option<Arc<[usize]>>,
}

/// The version of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    /// The text of the file. Its errors have the numbers from this one on.
    Current { errors_from: FaultId },
    /// The last text without this error.
    LastGood { because: FaultId },
}

impl Placed {
    pub(crate) fn finding(&self, at: Position, field: String, message: String) -> Finding {
        let line = self.lines_before.saturating_add(at.line);
        Finding { file: Arc::clone(&self.file), line, column: at.column, field, message }
    }

    /// Returns `file:line`, or the object, for a message that refers to a second place.
    pub(crate) fn place(&self, at: Position) -> String {
        let line = self.lines_before.saturating_add(at.line);
        Source { file: Arc::clone(&self.file), line }.to_string()
    }

    /// Returns the resources that count, with their indices.
    pub(crate) fn resources(&self) -> impl Iterator<Item = (usize, &Resource)> {
        let all = self.content.resources.iter().enumerate();
        all.filter(|(index, _)| self.selected.as_ref().is_none_or(|selected| selected.binary_search(index).is_ok()))
    }

    /// Returns the number of an error. In a last good version it is the error that the version is kept for.
    pub(crate) fn fault(&self, error: ErrorIndex) -> FaultId {
        match self.version {
            Version::Current { errors_from } => errors_from.after(error.get()),
            Version::LastGood { because } => because,
        }
    }

    /// Returns the error that the document is kept in its last good version for.
    pub(crate) fn kept_for(&self) -> Option<FaultId> {
        match self.version {
            Version::Current { .. } => None,
            Version::LastGood { because } => Some(because),
        }
    }

    pub(crate) fn noted(&self, note: &Note) -> Finding {
        self.finding(note.at, note.field.clone(), note.message.clone())
    }
}
