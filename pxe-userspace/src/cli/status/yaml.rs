//! JSON as YAML, in the same order.

use std::fmt::{self, Write as _};

use anyhow::Context as _;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A JSON value whose members keep their order.
#[derive(Debug)]
enum Node {
    /// A number, a boolean or null, as it is written.
    Bare(String),
    Text(String),
    List(Vec<Node>),
    Members(Vec<(String, Node)>),
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bare(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Bare(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Bare(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // As in JSON, where a float has a point or an exponent.
        Ok(Node::Bare(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Bare("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Node::Members(members))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Returns a JSON text as YAML.
pub(super) fn of_json(json: &str) -> anyhow::Result<String> {
    let node: Node = serde_json::from_str(json).context("the answer is not pxed's")?;
    let mut text = String::new();
    match &node {
        Node::Bare(_) | Node::Text(_) => text.push_str(&format!("{}\n", inline(&node))),
        node => write(&mut text, node, 0, false),
    }
    Ok(text)
}

/// Writes a value at this indentation. The first line of an item of a list follows its dash.
fn write(text: &mut String, node: &Node, indent: usize, mut follows_dash: bool) {
    let mut begin = |text: &mut String| {
        if !std::mem::take(&mut follows_dash) {
            text.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match node {
        Node::List(items) if !items.is_empty() => {
            for item in items {
                begin(text);
                text.push_str("- ");
                write(text, item, indent + 2, true);
            }
        }
        Node::Members(members) if !members.is_empty() => {
            for (name, value) in members {
                begin(text);
                let name = scalar(name);
                // Writing to a string cannot fail.
                match value {
                    Node::List(items) if !items.is_empty() => {
                        let _ = writeln!(text, "{name}:");
                        write(text, value, indent, false);
                    }
                    Node::Members(members) if !members.is_empty() => {
                        let _ = writeln!(text, "{name}:");
                        write(text, value, indent + 2, false);
                    }
                    value => _ = writeln!(text, "{name}: {}", inline(value)),
                }
            }
        }
        node => {
            begin(text);
            let _ = writeln!(text, "{}", inline(node));
        }
    }
}

fn inline(node: &Node) -> String {
    match node {
        Node::Bare(text) => text.clone(),
        Node::Text(text) => scalar(text),
        Node::List(_) => "[]".to_owned(),
        Node::Members(_) => "{}".to_owned(),
    }
}

/// Returns a string in quotes, unless no parser takes it for anything else. A JSON string is one of YAML.
fn scalar(text: &str) -> String {
    let is_word = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
            && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"]
                .contains(&text.to_ascii_lowercase().as_str())
    };
    if is_word(text) {
        return text.to_owned();
    }
    crate::cli::shown::harmless_json(&serde_json::Value::from(text).to_string()).replace('\u{85}', "\\u0085")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_order_and_meaning() {
        let json = r#"[{"mac":"52:54:00:00:00:01","z":1,"a":[],"b":{},"stage":"up","on":"no","n":null,"f":-1.50,
            "list":["x",[1,["deep"]],{"k":true,"l":[{"m":1}]}],"text":"a: b # \u001b[2J \"q\"\n","":""}]"#;
        let expected = "\
- mac: \"52:54:00:00:00:01\"
  z: 1
  a: []
  b: {}
  stage: up
  \"on\": \"no\"
  \"n\": null
  f: -1.5
  list:
  - x
  - - 1
    - - deep
  - k: true
    l:
    - m: 1
  text: \"a: b # \\u001b[2J \\\"q\\\"\\n\"
  \"\": \"\"
";
        assert_eq!(of_json(json).unwrap(), expected);
        assert_eq!(of_json("[]").unwrap(), "[]\n");
        assert_eq!(of_json("\"yes\"").unwrap(), "\"yes\"\n");
        assert!(of_json("[").is_err());
    }
}
