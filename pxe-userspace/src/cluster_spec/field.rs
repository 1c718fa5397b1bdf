//! Reads the tree tolerantly: a wrong value is noted with its field path, and reading continues.

use super::{
    finding::{Notes, Position},
    keys::{self, Keys},
    tree::{Entry, Kind, Node, push_key},
};

/// A node and its path, which is only written out for a mistake.
#[derive(Clone, Copy)]
pub(crate) struct Field<'p> {
    pub(crate) node: &'p Node<'p>,
    /// The place that a finding points to: the value, or the key of a list or mapping, which begins in the next line.
    pub(crate) at: Position,
    parent: Option<&'p Field<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Key(&'p str),
    Item(usize),
}

impl<'p> Field<'p> {
    pub(crate) fn root(node: &'p Node<'p>) -> Self {
        Self { node, at: node.at, parent: None, step: Step::Root }
    }

    /// Returns the field path, such as `spec.worker.metalSpec.machines[3].address`.
    pub(crate) fn path(&self) -> String {
        let mut path = self.parent.map_or_else(String::new, Field::path);
        match self.step {
            Step::Root => {}
            Step::Key(key) => push_key(&mut path, key),
            Step::Item(index) => path.push_str(&format!("[{index}]")),
        }
        path
    }

    /// Returns the value of a key; `None` if it is absent or null, which are the same to Kubernetes.
    pub(crate) fn child<'c>(&'c self, key: &'c str) -> Option<Field<'c>> {
        let entry = self.node.get(key).filter(|entry| !matches!(entry.value.kind(), Kind::Null))?;
        Some(Field { step: Step::Key(key), ..self.entry(entry) })
    }

    /// Returns the value of an entry of this mapping, also if it is null.
    pub(crate) fn entry<'c>(&'c self, entry: &'c Entry<'c>) -> Field<'c> {
        let Entry { key, key_at, value: node } = entry;
        let at = match node.kind() {
            Kind::Null | Kind::Text(_) => node.at,
            Kind::List(_) | Kind::Map(_) => *key_at,
        };
        Field { node, at, parent: Some(self), step: Step::Key(key) }
    }

    /// Returns this field with the value that its text describes.
    pub(crate) fn with_node<'c>(&'c self, node: &'c Node<'c>) -> Field<'c> {
        Field { node, ..*self }
    }

    pub(crate) fn error(&self, notes: &mut Notes, message: impl Into<String>) {
        notes.error(self.at, self.path(), message);
    }

    pub(crate) fn warn(&self, notes: &mut Notes, message: impl Into<String>) {
        notes.warn(self.at, self.path(), message);
    }

    /// Notes that a required key is missing.
    pub(crate) fn missing(&self, notes: &mut Notes, key: &str, advice: &str) {
        let mut path = self.path();
        push_key(&mut path, key);
        // The key may be present without a value.
        let at = self.node.get(key).map_or(self.at, |entry| entry.key_at);
        notes.error(at, path, format!("is missing: {advice}"));
    }

    /// Returns the value of a required key. Notes the mistake if it is missing.
    pub(crate) fn required<'c>(&'c self, notes: &mut Notes, key: &'c str, advice: &str) -> Option<Field<'c>> {
        let child = self.child(key);
        if child.is_none() {
            self.missing(notes, key, advice);
        }
        child
    }

    /// Returns the source text of a scalar, also of a number.
    pub(crate) fn text(&self, notes: &mut Notes) -> Option<&'p str> {
        match self.node.kind() {
            Kind::Text(text) => Some(text),
            Kind::Null => Some(""),
            Kind::List(_) => self.mismatch(notes, "a list", "text"),
            Kind::Map(_) => self.mismatch(notes, "a mapping", "text"),
        }
    }

    /// Returns the text of an optional key.
    pub(crate) fn child_text<'c>(&'c self, notes: &mut Notes, key: &'c str) -> Option<&'c str> {
        self.child(key)?.text(notes)
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.node.kind(), Kind::Map(_))
    }

    /// Returns the entries of a mapping.
    pub(crate) fn entries(&self, notes: &mut Notes) -> Option<&'p [Entry<'p>]> {
        match self.node.kind() {
            Kind::Map(entries) => Some(entries),
            Kind::Null => Some(&[]),
            Kind::List(_) => self.mismatch(notes, "a list", "a mapping"),
            Kind::Text(_) => self.mismatch(notes, "text", "a mapping"),
        }
    }

    /// Returns the items of a list.
    pub(crate) fn items<'c>(
        &'c self,
        notes: &mut Notes,
    ) -> Option<impl ExactSizeIterator<Item = Field<'c>> + use<'c, 'p>> {
        let items = match self.node.kind() {
            Kind::List(items) => items,
            Kind::Null => &[],
            Kind::Map(_) => return self.mismatch(notes, "a mapping", "a list"),
            Kind::Text(_) => return self.mismatch(notes, "text", "a list"),
        };
        let item = |(index, node): (usize, &'c Node<'c>)| Field {
            node,
            at: node.at,
            parent: Some(self),
            step: Step::Item(index),
        };
        Some(items.iter().enumerate().map(item))
    }

    /// Warns of unknown keys, which the API server would drop silently, too: all of them in a mapping that hardly ever gets new keys,
    /// else those that resemble a known key or belong elsewhere.
    pub(crate) fn check_keys(&self, notes: &mut Notes, keys: &Keys) {
        let Kind::Map(entries) = self.node.kind() else { return };
        for entry in entries.iter().filter(|entry| entry.key != "<<" && !keys.contains(&entry.key)) {
            let near = keys.nearest(&entry.key);
            let message = match (near, keys::place_of(&entry.key)) {
                (Some(near), _) => format!("is an unknown field and has no effect: did you mean {near}?"),
                (None, Some(place)) => format!("has no effect here: it belongs in {place}"),
                (None, None) if keys.is_closed => {
                    format!("is an unknown field and has no effect: known are {}", keys.listed())
                }
                (None, None) => continue,
            };
            let mut path = self.path();
            push_key(&mut path, &entry.key);
            notes.warn(entry.key_at, path, message);
        }
    }

    fn mismatch<T>(&self, notes: &mut Notes, is: &str, wants: &str) -> Option<T> {
        self.error(notes, format!("is {is}, but must be {wants}"));
        None
    }
}
