//! Parses YAML (and so JSON) text into a tree whose nodes know their line and column.
//!
//! Serde is not used here: a `Deserialize` type stops at its first error, while people need all errors at once, each with its place.
//! The events of the YAML parser carry positions, and a tolerant reader of this tree (`field`) collects the mistakes.
//!
//! Scalars keep their source text and are never converted to numbers or booleans. So a hardware address such as `525400123456` or
//! `12:34:56:12:34:56` survives without quotes.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::finding::Position;

/// The greatest depth, beyond that of any Kubernetes resource. It bounds the stack that dropping or walking the tree needs.
const MAX_DEPTH: usize = 128;

/// The most keys and values of a text, more than a document of half a million machines has. They bound the memory that a file which is no spec takes
/// while it is read.
pub(crate) const MAX_NODES: usize = 10_000_000;

/// A value in the text. An alias shares the node of its anchor, so that repetitions cost no memory.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) at: Position,
    value: Value<'a>,
}

#[derive(Debug)]
enum Value<'a> {
    Scalar { text: Cow<'a, str>, style: ScalarStyle },
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
    Shared(Rc<Node<'a>>),
}

/// The content of a node, with aliases followed.
#[derive(Debug)]
pub(crate) enum Kind<'n> {
    Null,
    Text(&'n str),
    List(&'n [Node<'n>]),
    Map(&'n [Entry<'n>]),
}

/// The place of a text within another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    begin: Position,
    /// The lines and columns of the text are those of the text around it, shifted. Otherwise, only the beginning is known.
    is_exact: bool,
}

impl Origin {
    /// The text is a whole document.
    const DOCUMENT: Self = Self { begin: Position { line: 1, column: 1 }, is_exact: true };

    fn place(self, marker: Marker) -> Position {
        if !self.is_exact {
            return self.begin;
        }
        let lines = u32::try_from(marker.line().saturating_sub(1)).unwrap_or(u32::MAX);
        let columns = u32::try_from(marker.col()).unwrap_or(u32::MAX);
        let Position { line, column } = self.begin;
        Position { line: line.saturating_add(lines), column: column.saturating_add(columns) }
    }
}

/// A key of a mapping and its value.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) key_at: Position,
    pub(crate) value: Node<'a>,
}

impl<'a> Node<'a> {
    /// Makes a scalar.
    pub(crate) fn scalar(at: Position, text: Cow<'a, str>, style: ScalarStyle) -> Self {
        Self { at, value: Value::Scalar { text, style } }
    }

    /// Makes a list.
    pub(crate) fn list(at: Position, items: Vec<Self>) -> Self {
        Self { at, value: Value::List(items) }
    }

    /// Makes a mapping.
    pub(crate) fn map(at: Position, entries: Vec<Entry<'a>>) -> Self {
        Self { at, value: Value::Map(entries) }
    }
}

impl Node<'_> {
    /// Returns the content. The null of YAML's core schema is null; every other scalar is text.
    pub(crate) fn kind(&self) -> Kind<'_> {
        match &self.value {
            Value::Scalar { text, style: ScalarStyle::Plain }
                if matches!(&**text, "" | "~" | "null" | "Null" | "NULL") =>
            {
                Kind::Null
            }
            Value::Scalar { text, .. } => Kind::Text(text),
            Value::List(items) => Kind::List(items),
            Value::Map(entries) => Kind::Map(entries),
            // The anchored node itself is never an alias, so this is one step.
            Value::Shared(node) => node.kind(),
        }
    }

    /// Returns the place where the text of a scalar begins, for the places within it.
    pub(crate) fn origin(&self) -> Origin {
        match &self.value {
            // The place of a block is that of its first line with text.
            Value::Scalar { text, style: ScalarStyle::Literal } => {
                let blank = text.len() - text.trim_start_matches('\n').len();
                let line = self.at.line.saturating_sub(u32::try_from(blank).unwrap_or(u32::MAX));
                Origin { begin: Position { line, ..self.at }, is_exact: true }
            }
            Value::Scalar { text, style: ScalarStyle::Plain } if !text.contains('\n') => {
                Origin { begin: self.at, is_exact: true }
            }
            // Quotes may hide escapes and folded lines.
            Value::Shared(node) => node.origin(),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Origin { begin: self.at, is_exact: false },
        }
    }

    /// Returns a key of a mapping with its value, also one that a merge key (`<<`) includes.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'_>> {
        self.get_merged(key, MAX_DEPTH)
    }

    fn get_merged(&self, key: &str, depth: usize) -> Option<&Entry<'_>> {
        let Kind::Map(entries) = self.kind() else { return None };
        if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
            return Some(entry);
        }
        let depth = depth.checked_sub(1)?;
        let merged = &entries.iter().find(|entry| entry.key == "<<")?.value;
        match merged.kind() {
            Kind::Map(_) => merged.get_merged(key, depth),
            // A list of lists is not a merge. A list of mappings is read one level deep, which keeps the work linear.
            Kind::List(items) => items.iter().find_map(|item| item.get_merged(key, 0)),
            Kind::Null | Kind::Text(_) => None,
        }
    }
}

/// A key that a mapping has twice. Kubernetes refuses that, other readers silently take one of the values.
#[derive(Debug)]
pub(crate) struct DuplicateKey {
    pub(crate) at: Position,
    pub(crate) first: Position,
    pub(crate) field: String,
}

/// One document of a YAML stream.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    pub(crate) root: Node<'a>,
    pub(crate) duplicates: Vec<DuplicateKey>,
}

/// The text is not valid YAML, or not a possible Kubernetes resource.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) message: String,
}

/// Parses every document of the text.
///
/// # Errors
///
/// The first place that is not YAML, nests deeper than [`MAX_DEPTH`], or uses what a Kubernetes
/// resource cannot hold (keys that are not text).
pub(crate) fn parse(text: &str) -> Result<Vec<Document<'_>>, SyntaxError> {
    parse_at(text, Origin::DOCUMENT)
}

/// Parses a text that stands within another. The places of its nodes are those in the text around it.
///
/// # Errors
///
/// Those of [`parse`].
pub(crate) fn parse_at(text: &str, origin: Origin) -> Result<Vec<Document<'_>>, SyntaxError> {
    parse_limited(text, origin, MAX_NODES)
}

fn parse_limited(text: &str, origin: Origin, max_nodes: usize) -> Result<Vec<Document<'_>>, SyntaxError> {
    // The parser asserts some of its invariants. None is known to fail, but a spec that violates one must not end the daemon.
    catch_unwind(AssertUnwindSafe(|| Builder::default().run(text, origin, max_nodes))).unwrap_or_else(|_| {
        Err(SyntaxError {
            at: origin.begin,
            message: "the YAML parser failed on this document: write it more simply".to_owned(),
        })
    })
}

#[derive(Default)]
struct Builder<'a> {
    documents: Vec<Document<'a>>,
    root: Option<Node<'a>>,
    duplicates: Vec<DuplicateKey>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Rc<Node<'a>>>,
}

/// A list or mapping that has not ended yet.
struct Open<'a> {
    at: Position,
    anchor: usize,
    content: Content<'a>,
}

enum Content<'a> {
    List(Vec<Node<'a>>),
    Map { entries: Vec<Entry<'a>>, key: Option<(Cow<'a, str>, Position)>, seen: HashSet<Cow<'a, str>> },
}

impl<'a> Builder<'a> {
    fn run(mut self, text: &'a str, origin: Origin, max_nodes: usize) -> Result<Vec<Document<'a>>, SyntaxError> {
        let mut parser = Parser::new_from_str(text);
        let mut nodes = 0_usize;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| syntax_error(&error, text, origin))?;
            let at = origin.place(span.start);
            nodes += 1;
            if nodes > max_nodes {
                let message = format!("has more than {max_nodes} keys and values: is it the right file?");
                return Err(SyntaxError { at, message });
            }
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
                Event::StreamEnd => break,
                Event::DocumentEnd => {
                    self.anchors.clear();
                    if let Some(root) = self.root.take() {
                        let duplicates = std::mem::take(&mut self.duplicates);
                        self.documents.push(Document { root, duplicates });
                    }
                }
                Event::Alias(anchor) => {
                    let target = self.anchors.get(&anchor).cloned().ok_or_else(|| SyntaxError {
                        at,
                        message: "the alias refers to a value that contains it: write the value out".to_owned(),
                    })?;
                    self.add(Node { at, value: Value::Shared(target) })?;
                }
                Event::Scalar(text, style, anchor, _) => {
                    let value = Value::Scalar { text, style };
                    self.finish(Node { at, value }, anchor)?;
                }
                Event::SequenceStart(anchor, _) => self.open(at, anchor, Content::List(Vec::new()))?,
                Event::MappingStart(anchor, _) => {
                    self.open(at, anchor, Content::Map { entries: Vec::new(), key: None, seen: HashSet::new() })?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(Open { at, anchor, content }) = self.open.pop() {
                        let value = match content {
                            Content::List(items) => Value::List(items),
                            Content::Map { entries, .. } => Value::Map(entries),
                        };
                        self.finish(Node { at, value }, anchor)?;
                    }
                }
            }
        }
        Ok(self.documents)
    }

    fn open(&mut self, at: Position, anchor: usize, content: Content<'a>) -> Result<(), SyntaxError> {
        if self.open.len() == MAX_DEPTH {
            return Err(SyntaxError {
                at,
                message: format!("nested more than {MAX_DEPTH} levels deep: write it flatter"),
            });
        }
        self.open.push(Open { at, anchor, content });
        Ok(())
    }

    /// Adds a complete node, and remembers it if it is anchored.
    fn finish(&mut self, node: Node<'a>, anchor: usize) -> Result<(), SyntaxError> {
        if anchor == 0 {
            return self.add(node);
        }
        let at = node.at;
        let shared = Rc::new(node);
        self.anchors.insert(anchor, Rc::clone(&shared));
        self.add(Node { at, value: Value::Shared(shared) })
    }

    fn add(&mut self, node: Node<'a>) -> Result<(), SyntaxError> {
        let Some(Open { content, .. }) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key, seen } => match key.take() {
                Some((key, key_at)) => entries.push(Entry { key, key_at, value: node }),
                None => {
                    let text = key_text(&node)?;
                    *key = Some((text.clone(), node.at));
                    if text != "<<" && is_repeated(entries, seen, &text) {
                        let first = entries.iter().find(|entry| entry.key == text).map_or(node.at, |e| e.key_at);
                        self.note_duplicate(node.at, first, &text);
                    }
                }
            },
        }
        Ok(())
    }

    fn note_duplicate(&mut self, at: Position, first: Position, key: &str) {
        const REPORTED: usize = 100;
        if self.duplicates.len() >= REPORTED {
            return;
        }
        let mut field = String::new();
        let parents = self.open.len().saturating_sub(1);
        for open in self.open.iter().take(parents) {
            match &open.content {
                Content::List(items) => field.push_str(&format!("[{}]", items.len())),
                Content::Map { key, .. } => push_key(&mut field, key.as_ref().map_or("", |(key, _)| key)),
            }
        }
        push_key(&mut field, key);
        self.duplicates.push(DuplicateKey { at, first, field });
    }
}

/// Appends a step to a field path.
pub(crate) fn push_key(field: &mut String, key: &str) {
    if !field.is_empty() {
        field.push('.');
    }
    field.push_str(key);
}

/// Returns `true` if the mapping already has this key. Small mappings, as nearly all are, are searched linearly.
fn is_repeated<'a>(entries: &[Entry<'a>], seen: &mut HashSet<Cow<'a, str>>, key: &str) -> bool {
    const SMALL: usize = 16;
    if entries.len() < SMALL {
        return entries.iter().any(|entry| entry.key == key);
    }
    if seen.is_empty() {
        seen.extend(entries.iter().map(|entry| entry.key.clone()));
    }
    !seen.insert(Cow::Owned(key.to_owned()))
}

fn key_text<'a>(node: &Node<'a>) -> Result<Cow<'a, str>, SyntaxError> {
    match &node.value {
        Value::Scalar { text, .. } => Ok(text.clone()),
        Value::Shared(shared) => key_text(shared),
        Value::List(_) | Value::Map(_) => Err(SyntaxError {
            at: node.at,
            message: "a list or mapping cannot be a key here: keys are text (a template that was not filled in?)"
                .to_owned(),
        }),
    }
}

fn syntax_error(error: &ScanError, text: &str, origin: Origin) -> SyntaxError {
    let at = origin.place(*error.marker());
    // The parser reports a tab in the line after a value at the value.
    let mut lines = text.lines().skip(error.marker().line().saturating_sub(1)).take(2);
    let indented_by_tab = lines.any(|line| line.trim_start_matches(' ').starts_with('\t'));
    let advice = if indented_by_tab { ": indent with spaces, not with tabs" } else { "" };
    SyntaxError { at, message: format!("not YAML: {}{advice}", error.info()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_nodes_is_bounded() {
        let text = "- a\n".repeat(50);
        assert!(parse_limited(&text, Origin::DOCUMENT, 100).is_ok());
        let error = parse_limited(&text, Origin::DOCUMENT, 40).unwrap_err();
        assert!(error.message.starts_with("has more than 40 keys and values") && error.at.line > 30, "{error:?}");
    }
}
