//! JSON whose every value keeps its place in the text, so that a mistake is told where it stands.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::finding::{Notes, Position};

/// Reads the values of one text, and notes what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) notes: Notes,
}

/// The entries of an object; of a key that comes twice the last counts, as in Go.
pub(super) type Object<'t> = BTreeMap<String, &'t RawValue>;

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, notes: Notes::default() }
    }

    /// The whole text as an object.
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

    /// Where a value of the text stands.
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

    /// The value as a type of serde's, or nothing and a note that says what it should be.
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

    /// Warns of keys that mean nothing, for a misspelt `selector` makes a group everybody's.
    pub(super) fn warn_of_unknown(&mut self, object: &Object<'t>, prefix: &str, known: &[&str]) {
        for (key, value) in object {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                let message = format!("means nothing here, and Matchbox ignores it: there are {}", known.join(", "));
                self.notes.warn(self.at(value), format!("{prefix}{key}"), message);
            }
        }
    }
}

/// The value of a key, in any case as Go's decoder takes it; `null` is as good as nothing.
pub(super) fn child<'t>(object: &Object<'t>, key: &str) -> Option<&'t RawValue> {
    let found = object
        .get(key)
        .or_else(|| object.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value));
    found.copied().filter(|value| value.get() != "null")
}

/// What an error says without the place, which is told apart.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
