//! Tolerant reading of the tree: a value that does not fit is noted with its field path, and the reading goes on.

use super::{
    finding::{Notes, Position},
    tree::{Entry, Kind, Node, push_key},
};

/// A node and the way to it. The path is only written out when something is wrong there.
#[derive(Clone, Copy)]
pub(crate) struct Field<'p> {
    pub(crate) node: &'p Node<'p>,
    /// Where a finding about it points to: the value, or the key of a list or mapping, which begins in the next line.
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

    /// Such as `spec.worker.metalSpec.machines[3].address`.
    pub(crate) fn path(&self) -> String {
        let mut path = self.parent.map_or_else(String::new, Field::path);
        match self.step {
            Step::Root => {}
            Step::Key(key) => push_key(&mut path, key),
            Step::Item(index) => path.push_str(&format!("[{index}]")),
        }
        path
    }

    /// The value of a key; nothing when it is absent or null, which Kubernetes treats alike.
    pub(crate) fn child<'c>(&'c self, key: &'c str) -> Option<Field<'c>> {
        let Entry { key_at, value: node, .. } = self.node.get(key)?;
        let at = match node.kind() {
            Kind::Null => return None,
            Kind::Text(_) => node.at,
            Kind::List(_) | Kind::Map(_) => *key_at,
        };
        Some(Field { node, at, parent: Some(self), step: Step::Key(key) })
    }

    pub(crate) fn error(&self, notes: &mut Notes, message: impl Into<String>) {
        notes.error(self.at, self.path(), message);
    }

    pub(crate) fn warn(&self, notes: &mut Notes, message: impl Into<String>) {
        notes.warn(self.at, self.path(), message);
    }

    /// Notes that a required key is not there.
    pub(crate) fn missing(&self, notes: &mut Notes, key: &str, advice: &str) {
        let mut path = self.path();
        push_key(&mut path, key);
        // The key may be there with nothing behind it.
        let at = self.node.get(key).map_or(self.at, |entry| entry.key_at);
        notes.error(at, path, format!("is missing: {advice}"));
    }

    /// A required key.
    pub(crate) fn required<'c>(&'c self, notes: &mut Notes, key: &'c str, advice: &str) -> Option<Field<'c>> {
        let child = self.child(key);
        if child.is_none() {
            self.missing(notes, key, advice);
        }
        child
    }

    /// The text of a scalar as it stands in the file, numbers included.
    pub(crate) fn text(&self, notes: &mut Notes) -> Option<&'p str> {
        match self.node.kind() {
            Kind::Text(text) => Some(text),
            Kind::Null => Some(""),
            Kind::List(_) => self.mismatch(notes, "a list", "text"),
            Kind::Map(_) => self.mismatch(notes, "a mapping", "text"),
        }
    }

    /// The text of an optional key.
    pub(crate) fn child_text<'c>(&'c self, notes: &mut Notes, key: &'c str) -> Option<&'c str> {
        self.child(key)?.text(notes)
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.node.kind(), Kind::Map(_))
    }

    /// The entries of a mapping.
    pub(crate) fn entries(&self, notes: &mut Notes) -> Option<&'p [Entry<'p>]> {
        match self.node.kind() {
            Kind::Map(entries) => Some(entries),
            Kind::Null => Some(&[]),
            Kind::List(_) => self.mismatch(notes, "a list", "a mapping"),
            Kind::Text(_) => self.mismatch(notes, "text", "a mapping"),
        }
    }

    /// The items of a list.
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

    /// Notes keys that nothing reads. Only for mappings that hardly ever grow, where such a key is a slip of the pen
    /// that would pass in silence: the API server drops it, too.
    pub(crate) fn warn_unknown_keys(&self, notes: &mut Notes, known: &[&str]) {
        let Kind::Map(entries) = self.node.kind() else { return };
        for entry in entries {
            if entry.key != "<<" && !known.contains(&&*entry.key) {
                let mut path = self.path();
                push_key(&mut path, &entry.key);
                let message = format!("is no field of it and has no effect: the fields are {}", known.join(", "));
                notes.warn(entry.key_at, path, message);
            }
        }
    }

    fn mismatch<T>(&self, notes: &mut Notes, is: &str, wants: &str) -> Option<T> {
        self.error(notes, format!("is {is}, where {wants} belongs"));
        None
    }
}
