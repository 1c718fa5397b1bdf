//! The values of mappings that are written in one line, as `{name: value}` in YAML or JSON, also within a quoted text.

use std::ops::Range;

/// A value with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value<'l> {
    pub(super) name: &'l str,
    pub(super) value: &'l str,
    /// The place of the value in the line.
    pub(super) range: Range<usize>,
}

/// The characters around a name.
const AROUND: [char; 7] = ['{', '[', ',', ' ', '"', '\'', '\\'];

/// Returns the values of a line with the names before them, in their order. A value that is a mapping itself comes before those in it.
pub(super) fn values(line: &str) -> impl Iterator<Item = Value<'_>> {
    let begin = line.find('{').unwrap_or(line.len());
    line.match_indices(':').filter(move |(at, _)| *at > begin).filter_map(move |(at, _)| {
        let before = line[..at].trim_end_matches(AROUND);
        let start = before.rfind(AROUND).map_or(0, |around| around + 1);
        let name = &before[start..];
        let behind = &line[at + 1..];
        // `a:b` is a word, unless the name is quoted.
        let is_quoted = line[..at].ends_with(['"', '\'']);
        if name.is_empty() || !is_quoted && !behind.starts_with(' ') {
            return None;
        }
        let start = line.len() - behind.trim_start().len();
        let range = start..start + length(&line[start..]);
        Some(Value { name, value: &line[range.clone()], range })
    })
}

/// Returns the length of the value at the beginning of a text: a quoted text, a mapping or list up to its end, or a word. What does not
/// end in this line goes up to the end of it.
fn length(text: &str) -> usize {
    let whole = text.len();
    // Quotes within a quoted text.
    if let Some(inner) = text.strip_prefix("\\\"") {
        return inner.find("\\\"").map_or(whole, |end| end + 4);
    }
    let mut depth = 0_usize;
    let mut quote = None;
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        let end = at + letter.len_utf8();
        match (quote, letter) {
            (Some('"'), '\\') if !is_escaped => {
                is_escaped = true;
                continue;
            }
            (Some(sign), _) if sign == letter && !is_escaped => {
                quote = None;
                if depth == 0 {
                    return end;
                }
            }
            (Some(_), _) => {}
            (None, '"' | '\'') if at == 0 || depth > 0 => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') if depth <= 1 => return if depth == 0 { at } else { end },
            (None, '}' | ']') => depth -= 1,
            (None, ',') if depth == 0 => return at,
            (None, _) => {}
        }
        is_escaped = false;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let line = r#"- {address: 10.0.0.1, a: {"b":"x, \" y", 'c': [1, {d: 2}]}, url: http://h:1/, e: "s: t", f: '{\"g\":\"h\"}', i: j"#;
        let found: Vec<_> = values(line).map(|Value { name, value, .. }| (name, value)).collect();
        let expected = [
            ("address", "10.0.0.1"),
            ("a", r#"{"b":"x, \" y", 'c': [1, {d: 2}]}"#),
            ("b", r#""x, \" y""#),
            ("c", "[1, {d: 2}]"),
            ("d", "2"),
            ("url", "http://h:1/"),
            ("e", r#""s: t""#),
            ("s", "t\""),
            ("f", r#"'{\"g\":\"h\"}'"#),
            ("g", r#"\"h\""#),
            ("i", "j"),
        ];
        assert_eq!(found[..6], expected[..6]);
        for value in &expected {
            assert!(found.contains(value) || value.0 == "s", "{value:?} in {found:?}");
        }
        assert_eq!(values("the token: it is no mapping").count(), 0);
        for line in ["{", "{:", "{a:", "{a: ", "{ä: \"ö", "{\"\":1}", "{a: \\\"", "{: :: }", "}{a: b]"] {
            values(line).for_each(drop);
        }
    }
}
