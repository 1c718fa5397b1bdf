//! Text from elsewhere, made harmless for a terminal.
//!
//! A machine chooses the paths that it asks for, and a spec its names. None of them may move the cursor, change colours or turn the direction
//! of writing. Whatever comes from the API is a [`Shown`], so that no other text is at hand.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
};

use serde::{Deserialize, Deserializer};

/// A text without characters that control a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn of(text: &str) -> Self {
        Self(harmless(text).into_owned())
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| match harmless(&text) {
            Cow::Borrowed(_) => Self(text),
            Cow::Owned(text) => Self(text),
        })
    }
}

impl Deref for Shown {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Shown {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Returns whether a character controls a terminal, or hides or reorders text: C0, DEL, C1, separators, marks of direction and of no width.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns a text whose harmful characters are their codes. A line break is a space.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => clean.push(' '),
            character if is_harmful(character) => clean.extend(character.escape_unicode()),
            character => clean.push(character),
        }
    }
    Cow::Owned(clean)
}

/// Returns the same JSON without harmful characters but line breaks. They occur in strings alone, where an escape means the same.
pub(super) fn harmless_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_harmful(character) && character != '\n';
    if !json.chars().any(is_escaped) {
        return Cow::Borrowed(json);
    }
    let escape = |character: char| match is_escaped(character) {
        true => format!("\\u{:04x}", u32::from(character)),
        false => character.to_string(),
    };
    Cow::Owned(json.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_control_a_terminal() {
        for (text, shown) in [
            ("n1.lab", "n1.lab"),
            ("ä 日本 🚀", "ä 日本 🚀"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\rb\tc\nd", "a\\u{d}b\\u{9}c d"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}txt", "x\\u{202e}txt"),
            ("\u{7f}\0", "\\u{7f}\\u{0}"),
        ] {
            assert_eq!(&*Shown::of(text), shown);
            let parsed: Shown = serde_json::from_value(text.into()).unwrap();
            assert_eq!(&*parsed, shown);
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "{\"a\":\"\u{9b}31m\u{202e}\",\n\"b\":1}";
        let clean = harmless_json(json);
        assert!(!clean.chars().any(|character| is_harmful(character) && character != '\n'), "{clean}");
        let [before, after] = [json, &clean].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(before, after);
    }
}
