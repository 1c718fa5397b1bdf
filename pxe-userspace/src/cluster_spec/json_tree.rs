//! Parses the JSON of an object of the API into the same tree as a document of a file.
//!
//! The server has formatted it, so places in it tell nobody anything: every node has the place 0:0, and messages name the object alone.
//! It is also several times faster than the parser of YAML, which matters for a resource with ten thousand machines.

use std::{borrow::Cow, cell::Cell, fmt};

use saphyr_parser::ScalarStyle;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{
    finding::Position,
    tree::{Document, Entry, MAX_NODES, Node, SyntaxError},
};

/// The place of everything in an object.
const NOWHERE: Position = Position { line: 0, column: 0 };

/// Parses an object.
///
/// # Errors
///
/// If the text is no JSON, or has more values than any object of the API.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let nodes = Cell::new(0);
    let root = Builder { nodes: &nodes }.deserialize(&mut deserializer);
    match root.and_then(|root| deserializer.end().map(|()| root)) {
        Ok(root) => Ok(Document { root, duplicates: Vec::new() }),
        Err(error) => Err(SyntaxError { at: NOWHERE, message: format!("cannot be read: {error}") }),
    }
}

/// Makes a node of the next value.
#[derive(Clone, Copy)]
struct Builder<'c> {
    /// The number of values so far.
    nodes: &'c Cell<usize>,
}

fn plain<'t>(text: impl Into<Cow<'t, str>>) -> Node<'t> {
    Node::scalar(NOWHERE, text.into(), ScalarStyle::Plain)
}

impl<'t> DeserializeSeed<'t> for Builder<'_> {
    type Value = Node<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Node<'t>, D::Error> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MAX_NODES {
            return Err(D::Error::custom(format_args!("more than {MAX_NODES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Builder<'_> {
    type Value = Node<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'t>, E> {
        Ok(plain("null"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'t>, E> {
        Ok(plain(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'t>, E> {
        Ok(plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'t>, E> {
        Ok(plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'t>, E> {
        Ok(plain(value.to_string()))
    }

    fn visit_borrowed_str<E>(self, value: &'t str) -> Result<Node<'t>, E> {
        Ok(Node::scalar(NOWHERE, Cow::Borrowed(value), ScalarStyle::DoubleQuoted))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'t>, E> {
        Ok(Node::scalar(NOWHERE, Cow::Owned(value.to_owned()), ScalarStyle::DoubleQuoted))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<Node<'t>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Node::list(NOWHERE, nodes))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Node<'t>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Key<'t>>()? {
            let value = map.next_value_seed(self)?;
            entries.push(Entry { key: key.0, key_at: NOWHERE, value });
        }
        Ok(Node::map(NOWHERE, entries))
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

#[cfg(test)]
mod tests {
    use super::{super::tree::Kind, *};

    fn texts<'n>(node: &'n Node<'_>, found: &mut Vec<(&'n str, bool)>) {
        match node.kind() {
            Kind::Null => found.push(("", true)),
            Kind::Text(text) => found.push((text, false)),
            Kind::List(items) => items.iter().for_each(|item| texts(item, found)),
            Kind::Map(entries) => {
                for entry in entries {
                    found.push((&entry.key, false));
                    texts(&entry.value, found);
                }
            }
        }
    }

    #[test]
    fn values_keep_their_text() {
        let text = r#"{"a":[1,-2,1.5,true,null,"null","","é\n"],"b\u0041":{}}"#;
        let document = parse(text).unwrap();
        let mut found = Vec::new();
        texts(&document.root, &mut found);
        let values = ["a", "1", "-2", "1.5", "true", "", "null", "", "é\n", "bA"];
        let nulls = [5];
        let expected: Vec<_> = values.into_iter().enumerate().map(|(at, text)| (text, nulls.contains(&at))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn text_that_is_no_json_is_an_error() {
        for text in ["", "{", "a: 1", "{} {}", "{\"a\":}", &format!("{}{}", "[".repeat(1000), "]".repeat(1000))] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
