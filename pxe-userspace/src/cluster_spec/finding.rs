//! Mistakes in a spec and their places, as people read them.

use std::{fmt, path::Path, sync::Arc};

use serde::{Serialize, Serializer};

/// A place in the text of one document. Both numbers count from 1, the line from the document's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// An error or warning, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file.
    #[serde(serialize_with = "path_as_text")]
    pub file: Arc<Path>,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// The column in characters, counted from 1; 0 for the file as a whole.
    pub column: u32,
    /// The field, such as `spec.worker.metalSpec.machines[3].address`; may be empty.
    pub field: String,
    /// The mistake, and what to do.
    pub message: String,
}

fn path_as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Finding {
    /// Makes a finding about a whole file or directory.
    pub(crate) fn about_file(file: &Path, message: String) -> Self {
        Self { file: Arc::from(file), line: 0, column: 0, field: String::new(), message }
    }
}

/// Writes `file:line:column: field: message`, which editors and terminals turn into links.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, field, message } = self;
        write!(f, "{}", file.display())?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        if !field.is_empty() {
            write!(f, ": {field}")?;
        }
        write!(f, ": {message}")
    }
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

/// The findings of one document.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) errors: Vec<Note>,
    pub(crate) warnings: Vec<Note>,
}

impl Notes {
    pub(crate) fn error(&mut self, at: Position, field: String, message: impl Into<String>) {
        push(&mut self.errors, Note { at, field, message: message.into() });
    }

    pub(crate) fn warn(&mut self, at: Position, field: String, message: impl Into<String>) {
        push(&mut self.warnings, Note { at, field, message: message.into() });
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
