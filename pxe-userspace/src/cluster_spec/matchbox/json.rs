//! Reads JSON whose values keep their places in the text, so that mistakes are reported with their place.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::finding::{Notes, Position};

/// Reads the values of one text, and notes their mistakes.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) notes: Notes,
}

/// The entries of an object. The last of two equal keys counts, as in Go.
pub(super) type Object<'t> = BTreeMap<String, &'t RawValue>;

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, notes: Notes::default() }
    }

    /// Returns the whole text as an object.
    pub(super) fn root(&mut self) -> Option<(&'t RawValue, Object<'t>)> {
        match serde_json::from_str::<&RawValue>(self.text) {
            Ok(value) => self.object(value, "").map(|object| (value, object)),
            Err(error) => {
                let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
                let at = Position { line: number(error.line().max(1)), column: number(error.column().max(1)) };
                self.notes.error(at, String::new(), format!("not JSON: {}", without_place(&error)));
                None
            }
        }
    }

    /// Returns the place of a value in the text.
    pub(super) fn at(&self, value: &RawValue) -> Position {
        let offset = (value.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    pub(super) fn error(&mut self, value: &RawValue, field: &str, message: impl Into<String>) {
        self.notes.error(self.at(value), field.to_owned(), message);
    }

    /// Deserializes a value. If that fails, notes that it is not `what`.
    pub(super) fn value<T: serde::Deserialize<'t>>(
        &mut self,
        value: &'t RawValue,
        field: &str,
        what: &str,
    ) -> Option<T> {
        match serde_json::from_str(value.get()) {
            Ok(value) => Some(value),
            Err(_) => {
                self.error(value, field, format!("is not {what}"));
                None
            }
        }
    }

    pub(super) fn object(&mut self, value: &'t RawValue, field: &str) -> Option<Object<'t>> {
        self.value(value, field, "an object: write {\"key\": value, …}")
    }

    /// Warns of unknown keys, because a misspelt `selector` makes a group match every machine.
    pub(super) fn warn_of_unknown(&mut self, object: &Object<'t>, prefix: &str, known: &[&str]) {
        for (key, value) in object {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                let message = format!("is an unknown field, which Matchbox ignores: known are {}", known.join(", "));
                self.notes.warn(self.at(value), format!("{prefix}{key}"), message);
            }
        }
    }
}

/// Returns the value of a key, ignoring case as Go's decoder does; `None` if it is absent or `null`.
pub(super) fn child<'t>(object: &Object<'t>, key: &str) -> Option<&'t RawValue> {
    let found = object
        .get(key)
        .or_else(|| object.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value));
    found.copied().filter(|value| value.get() != "null")
}

/// Returns the message of an error without its place, which is reported separately.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
