//! A document and its place, which its findings need.

use std::{path::Path, sync::Arc};

use super::{
    documents::Content,
    finding::{Finding, Note, Position},
};

/// A document and its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) file: Arc<Path>,
    pub(crate) lines_before: u32,
    pub(crate) content: Arc<Content>,
}

impl Placed {
    pub(crate) fn finding(&self, at: Position, field: String, message: String) -> Finding {
        let line = self.lines_before.saturating_add(at.line);
        Finding { file: Arc::clone(&self.file), line, column: at.column, field, message }
    }

    /// Returns `file:line`, for a message that refers to a second place.
    pub(crate) fn place(&self, at: Position) -> String {
        format!("{}:{}", self.file.display(), self.lines_before.saturating_add(at.line))
    }

    pub(crate) fn noted(&self, note: &Note) -> Finding {
        self.finding(note.at, note.field.clone(), note.message.clone())
    }
}
