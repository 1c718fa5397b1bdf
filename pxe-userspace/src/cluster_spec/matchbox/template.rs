//! Matchbox's templates, as far as they only fill in names.
//!
//! They are Go's `text/template`. Variables are the group's metadata and selectors and the request's query: `{{.name}}`,
//! `{{.outer.inner}}`, `{{.request.query.mac}}`. `{{-` and `-}}` remove the adjacent white space, and `{{/* … */}}` is a comment.
//! Conditions, loops and functions are refused when the template is read.

use serde_json::Value;

use super::super::finding::Position;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The keys that lead to a value.
    Variable(Vec<String>),
}

impl Template {
    /// Parses a template.
    pub(super) fn parse(text: &str) -> Result<Self, (Position, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trims = false;
        while let Some((before, after)) = rest.split_once("{{") {
            let at = || place(text, text.len() - after.len() - 2);
            let (before, (action, following)) = (
                if trims { before.trim_start() } else { before },
                after.split_once("}}").ok_or_else(|| (at(), "{{ is not closed by }}".to_owned()))?,
            );
            // In Go, a dash removes white space only if white space follows it: `{{-3}}` is a number.
            let (action, trims_before) = match action.strip_prefix('-').filter(|rest| rest.starts_with(is_space)) {
                Some(action) => (action, true),
                None => (action, false),
            };
            let (action, trims_after) = match action.strip_suffix('-').filter(|rest| rest.ends_with(is_space)) {
                Some(action) => (action, true),
                None => (action, false),
            };
            parts.push(Part::Text(if trims_before { before.trim_end() } else { before }.to_owned()));
            let action = action.trim();
            if !(action.starts_with("/*") && action.ends_with("*/")) {
                parts.push(Part::Variable(variable(action).ok_or_else(|| {
                    let message = format!("{{{{{action}}}}} is not supported by pxed: only {{{{.name}}}} is filled in");
                    (at(), message)
                })?));
            }
            rest = following;
            trims = trims_after;
        }
        parts.push(Part::Text(if trims { rest.trim_start() } else { rest }.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// Fills the template in.
    ///
    /// # Errors
    ///
    /// The first name that does not exist. A name whose value is `null` exists.
    pub fn render(&self, variables: &Value) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text += part,
                Part::Variable(path) => {
                    let value = path.iter().try_fold(variables, |value, key| value.get(key));
                    match value.ok_or_else(|| format!(".{}", path.join(".")))? {
                        // Inside a list or an object it is printed as `<nil>`.
                        Value::Null => text += "<no value>",
                        value => print(value, &mut text),
                    }
                }
            }
        }
        Ok(text)
    }
}

const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// Returns the path in `.outer.inner`.
fn variable(action: &str) -> Option<Vec<String>> {
    let keys = action.strip_prefix('.')?.split('.');
    let is_name = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    keys.map(|key| is_name(key).then(|| key.to_owned())).collect()
}

fn place(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let line = before.matches('\n').count() + 1;
    Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX) }
}

/// Returns a string, boolean or number as Go prints it. Numbers are all floating point to Go's decoder. Returns `None` for null,
/// lists and objects.
#[must_use]
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Number(number) => number.as_f64().map(number_text),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Prints a value like `%v` of Go's `fmt`: `[a b]`, `map[key:value]` with the keys in order, `<nil>`.
fn print(value: &Value, text: &mut String) {
    let mut separator = "";
    match value {
        Value::Array(items) => {
            *text += "[";
            for item in items {
                *text += std::mem::replace(&mut separator, " ");
                print(item, text);
            }
            *text += "]";
        }
        Value::Object(entries) => {
            *text += "map[";
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                *text += std::mem::replace(&mut separator, " ");
                *text += key;
                *text += ":";
                print(value, text);
            }
            *text += "]";
        }
        scalar => *text += text_of(scalar).as_deref().unwrap_or("<nil>"),
    }
}

/// Formats a number like `%v` of a float64: the shortest digits that identify it; below 1e-4 and from 1e6 with an exponent of a
/// sign and at least two digits.
fn number_text(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    if exponent.parse().is_ok_and(|exponent: i32| (-4..6).contains(&exponent)) {
        return number.to_string();
    }
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let variables = json!({
            "name": "node1", "yes": true, "count": 3, "large": 1e21, "small": 0.000_012_5, "half": 0.5, "list": [1],
            "none": null, "etcd": {"peer": "p"}, "request": {"query": {"mac": "52:54:00:00:00:01"}}
        });
        match Template::parse(text) {
            Ok(template) => template.render(&variables),
            Err((Position { line, column }, message)) => Err(format!("{line}:{column}: {message}")),
        }
    }

    #[test]
    fn names_are_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("no variable } {", "no variable } {"),
            ("a {{.name}} b{{ .etcd.peer }}", "a node1 bp"),
            ("{{.yes}} {{.count}} {{.large}} {{.small}} {{.half}}", "true 3 1e+21 1.25e-05 0.5"),
            ("{{.request.query.mac}}", "52:54:00:00:00:01"),
            ("a \n{{- .name -}}\n b", "anode1b"),
            ("a {{/* why */}}b", "a b"),
            ("a {{- /* why */ -}} b", "ab"),
            ("{{.etcd}} {{.request.query}}", "map[peer:p] map[mac:52:54:00:00:00:01]"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    /// The expected texts are what Go's `text/template` prints after `encoding/json` has read the value, as Matchbox does it.
    #[test]
    fn values_are_printed_as_by_go() {
        for (json, expected) in [
            (r#""a""#, "a"),
            (r#""<no>""#, "<no>"),
            ("true", "true"),
            ("null", "<no value>"),
            ("0", "0"),
            ("-0", "-0"),
            ("1", "1"),
            ("-1", "-1"),
            ("3.0", "3"),
            ("1.10", "1.1"),
            ("1e5", "100000"),
            ("999999", "999999"),
            ("1000000", "1e+06"),
            ("-1000000", "-1e+06"),
            ("1000001", "1.000001e+06"),
            ("12345678", "1.2345678e+07"),
            ("20971520", "2.097152e+07"),
            ("9007199254740993", "9.007199254740992e+15"),
            ("123456789012345678", "1.2345678901234568e+17"),
            ("12345678901234567890123", "1.2345678901234568e+22"),
            ("1e20", "1e+20"),
            ("1e21", "1e+21"),
            ("123456.5", "123456.5"),
            ("1234567.5", "1.2345675e+06"),
            ("0.5", "0.5"),
            ("0.0001", "0.0001"),
            ("0.00012", "0.00012"),
            ("0.00001", "1e-05"),
            ("1.25e-5", "1.25e-05"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("[]", "[]"),
            (r#"["a","b"]"#, "[a b]"),
            (r#"["a\nb"]"#, "[a\nb]"),
            (r#"[1,null,true,"x y",1000000,0.5]"#, "[1 <nil> true x y 1e+06 0.5]"),
            ("[[1],[]]", "[[1] []]"),
            ("{}", "map[]"),
            (r#"{"b":2,"a":1}"#, "map[a:1 b:2]"),
            (r#"{"b":{"z":null,"c":["x"]},"a":"q"}"#, "map[a:q b:map[c:[x] z:<nil>]]"),
            (r#"[{"a":1},null]"#, "[map[a:1] <nil>]"),
            (r#"{"B":1,"a":2,"A":3,"é":4,"":5}"#, "map[:5 A:3 B:1 a:2 é:4]"),
            (r#"{"10":1,"9":2}"#, "map[10:1 9:2]"),
        ] {
            let variables: Value = serde_json::from_str(&format!(r#"{{"v": {json}}}"#)).unwrap();
            let template = Template::parse("{{.v}}").unwrap();
            assert_eq!(template.render(&variables).as_deref(), Ok(expected), "{json}");
        }
        assert!(serde_json::from_str::<Value>("1e400").is_err(), "Go does not read it either");
    }

    #[test]
    fn unsupported_actions_are_reported_with_their_place() {
        for (text, expected) in [
            ("{{.missing}}", ".missing"),
            ("{{.name.more}}", ".name.more"),
            ("{{.list.more}}", ".list.more"),
            ("{{.none.more}}", ".none.more"),
            ("{{.count.more}}", ".count.more"),
            ("{{.request.query.serial}}", ".request.query.serial"),
            ("a\n {{if .yes}}x{{end}}", "2:2: {{if .yes}} is not supported"),
            ("{{.}}", "1:1: {{.}} is not supported"),
            ("{{.name | printf}}", "1:1: {{.name | printf}} is not supported"),
            ("é {{.name}", "1:3: {{ is not closed by }}"),
        ] {
            let error = rendered(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[ -~\n{}é]{0,60}") {
            let _ = rendered(&text);
        }

        #[test]
        fn text_without_actions_is_its_own_rendering(text in "[ -z|~}\n]{0,60}") {
            prop_assert_eq!(rendered(&text), Ok(text));
        }
    }
}
