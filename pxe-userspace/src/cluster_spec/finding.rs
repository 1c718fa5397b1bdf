//! Mistakes in a spec and their places, as people read them.

use std::fmt;

pub use crate::model::finding::Finding;

/// A place in the text of one document. Both numbers count from 1, the line from the document's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A spec has errors. Displayed as one line for each error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors {
    /// Every error, in the order of files and lines.
    pub errors: Vec<Finding>,
    /// All warnings.
    pub warnings: Vec<Finding>,
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

/// A finding within one document, before the document's place in a file is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) at: Position,
    pub(crate) field: String,
    pub(crate) message: String,
}

/// The most errors, and the most warnings, that are kept of one document. Nobody reads more, and a generated file with the same
/// mistake in each machine must not fill the memory.
const NOTES_A_DOCUMENT: usize = 1000;

/// The index of an error of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorIndex(u32);

impl ErrorIndex {
    pub(crate) fn get(self) -> usize {
        self.0 as usize
    }
}

/// A part of a document around another one, with its first error.
#[derive(Debug)]
#[must_use]
pub(crate) struct Outer(Option<ErrorIndex>);

/// The findings of one document. Each error belongs to the smallest part of the document around it: a machine, a role, an object.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) errors: Vec<Note>,
    pub(crate) warnings: Vec<Note>,
    /// The first error of the part that is being read.
    first: Option<ErrorIndex>,
    /// Errors about keys that are given twice, until the part is read that has them.
    pub(crate) duplicates: Vec<Note>,
}

impl Notes {
    pub(crate) fn error(&mut self, at: Position, field: String, message: impl Into<String>) {
        push(&mut self.errors, Note { at, field, message: message.into() });
        let index = self.errors.len().saturating_sub(1);
        self.first.get_or_insert(ErrorIndex(u32::try_from(index).unwrap_or(u32::MAX)));
    }

    pub(crate) fn warn(&mut self, at: Position, field: String, message: impl Into<String>) {
        push(&mut self.warnings, Note { at, field, message: message.into() });
    }

    /// Returns the first error of the part that is being read.
    pub(crate) fn first(&self) -> Option<ErrorIndex> {
        self.first
    }

    /// Begins a part. It must be ended.
    pub(crate) fn begin(&mut self) -> Outer {
        Outer(self.first.take())
    }

    /// Notes the keys that are given twice below a path as errors of the part that is being read.
    pub(crate) fn claim_duplicates(&mut self, path: impl FnOnce() -> String) {
        for Note { at, field, message } in self.take_duplicates(path) {
            self.error(at, field, message);
        }
    }

    /// Takes the keys that are given twice below a path.
    pub(crate) fn take_duplicates(&mut self, path: impl FnOnce() -> String) -> Vec<Note> {
        if self.duplicates.is_empty() {
            return Vec::new();
        }
        let path = path();
        let is_below =
            |field: &str| path.is_empty() || field.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.duplicates.extract_if(.., |note| is_below(&note.field)).collect()
    }

    /// Ends a part. Returns its first error, unless that belongs to a smaller part.
    pub(crate) fn end(&mut self, Outer(outer): Outer) -> Option<ErrorIndex> {
        std::mem::replace(&mut self.first, outer)
    }
}

fn push(notes: &mut Vec<Note>, note: Note) {
    match notes.len() {
        0..NOTES_A_DOCUMENT => notes.push(note),
        NOTES_A_DOCUMENT => notes.push(Note {
            field: String::new(),
            message: "more findings of this document are left out: correct these first".to_owned(),
            ..note
        }),
        _ => {}
    }
}
