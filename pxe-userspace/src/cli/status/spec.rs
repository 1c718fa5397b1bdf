//! The errors of the specs.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::shown::Shown;

/// The most errors that `pxed status` shows.
const SHOWN: usize = 20;

/// An error, and what it affects.
#[derive(Debug, Deserialize)]
pub(super) struct SpecError {
    file: Shown,
    line: u32,
    column: u32,
    field: Shown,
    message: Shown,
    objects: Shown,
    left_out: usize,
    kept: usize,
}

/// Formats a line for each error; nothing if there are none.
pub(super) fn render(errors: &[SpecError]) -> String {
    let mut text = String::new();
    for error in errors.iter().take(SHOWN) {
        let SpecError { file, line, column, field, message, objects, left_out, kept } = error;
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "spec: {file}");
        if *line > 0 {
            let _ = write!(text, ":{line}:{column}");
        }
        if !field.is_empty() {
            let _ = write!(text, ": {field}");
        }
        let _ = write!(text, ": {message}");
        let s = |count: usize| if count == 1 { "" } else { "s" };
        if *left_out > 0 {
            let _ = write!(text, "; left out {left_out} {objects}{}", s(*left_out));
        }
        if *kept > 0 {
            let _ = write!(text, "; kept {kept} {objects}{} as before", s(*kept));
        }
        text.push('\n');
    }
    if let Some(more @ 1..) = errors.len().checked_sub(SHOWN) {
        let _ = writeln!(text, "spec: and {more} more errors, in /api/v1/spec/errors");
    }
    text
}
